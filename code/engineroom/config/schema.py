"""The JSON Schema of configs/*/<benchmark>.yaml, made from the fields, so that editors complete and check them."""

from __future__ import annotations

from typing import Any

from engineroom.config import fields, units
from engineroom.config.layers import SECTIONS

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def settings_schema() -> dict[str, Any]:
    """Return the schema of a settings file: a section `common` and one per scenario, each with any of the fields."""
    return {
        "$schema": DIALECT,
        "title": "Engineroom settings of one benchmark",
        "type": ["object", "null"],
        "properties": {name: {"$ref": "#/$defs/section", "description": _of_section(name)} for name in SECTIONS},
        "additionalProperties": False,
        "$defs": {
            "section": {
                "type": ["object", "null"],
                "properties": {name: _of_field(name) for name in fields.settable()},
                "additionalProperties": False,
            }
        },
    }


def _of_section(name: str) -> str:
    return "settings of every scenario" if name == SECTIONS[0] else f"settings of {name}; they win over {SECTIONS[0]}"


def _of_field(name: str) -> dict[str, Any]:
    about, default = fields.about(name), fields.defaults().get(name)
    found: dict[str, Any] = {"description": _words(name, about)}
    if isinstance(default, bool | int | float | str):
        found["default"] = default
    forms = _forms(name)
    if about.null:
        forms.append({"type": "null"})
    return found | (forms[0] if len(forms) == 1 else {"anyOf": forms})


def _words(name: str, about: fields.About) -> str:
    words = [fields.in_short(name)]
    words += [f"in {about.unit}"] if about.unit else []
    words += [f"LoadGen: {about.loadgen}"] if about.loadgen else []
    words += [f"null: {about.null}"] if about.null else []
    return "; ".join(words)


def _forms(name: str) -> list[dict[str, Any]]:
    """Return the forms that a value may take. Plug-ins are not listed: overlays bring more of them."""
    if fields.is_words(name):
        return [{"type": "array", "items": {"type": "string"}}, {"type": "string"}]
    if fields.is_list(name):
        return [
            {"type": "array", "items": {"type": "integer", "minimum": 0}},
            {"type": "string", "pattern": r"^\[?( *[0-9]+(-[0-9]+)? *,?)*\]?$"},
        ]
    if bounds := fields.bounds(name):
        keys = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum"}
        kind = "integer" if fields.is_whole(name) else "number"
        number = {"type": kind, **{keys[key]: limit for key, limit in bounds.items()}}
        known = "|".join(units.of_the_same_kind(fields.about(name).unit))
        return [number, *([{"type": "string", "pattern": rf"^{units.NUMBER} *({known})$"}] if known else [])]
    if not fields.is_open(name) and (choices := fields.choices_of(name)):
        return [{"enum": choices}]
    return [{"type": "boolean" if fields.is_switch(name) else "string"}]
