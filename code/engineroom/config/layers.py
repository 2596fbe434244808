"""Merges the layers of settings; every value keeps its origin.

    benchmark defaults < configs/default/<benchmark>.yaml < configs/<system>/<benchmark>.yaml < RUN_ARGS < rules

Rules fill only what no layer has set. A file has a section `common:` and one per scenario.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engineroom.config import fields
from engineroom.config.fields import RunConfig
from engineroom.config.rules import RULES, Context
from engineroom.errors import EngineroomError, Mistakes, RequestError, did_you_mean
from engineroom.paths import CONFIGS, display
from engineroom.terms import Scenario, TestMode
from engineroom.yaml_file import Entry, entries

COMMON = "common"
# What a file cannot set: they say which run this is, and come from the request.
IDENTITY = ("benchmark", "system", "scenario", "test_mode")


@dataclass(frozen=True)
class Origin:
    """Where a value comes from: "configs/default/digits.yaml:7", "--batch_size", "default" or "rule <name>: <why>"."""

    text: str


@dataclass(frozen=True)
class Resolved:
    """A run's settings and the origin of each."""

    config: RunConfig
    origins: Mapping[str, Origin]

    def replace(self, origin: str, **changes: Any) -> Resolved:
        """Return a copy with some values changed, each with `origin`."""
        import msgspec

        return Resolved(
            msgspec.structs.replace(self.config, **changes),
            {**self.origins, **dict.fromkeys(changes, Origin(origin))},
        )


def resolve(
    context: Context, test_mode: TestMode, overrides: Mapping[str, str], *, configs: Path = CONFIGS
) -> Resolved:
    """Return the settings of one run.

    `overrides` holds the text of each flag given. Raises Mistakes with every mistake of every layer.
    """
    values: dict[str, Any] = dict(fields.defaults())
    origins = dict.fromkeys(values, Origin("default"))
    mistakes: list[RequestError] = []
    for name, value, where in _from_files(context, configs, mistakes):
        _set(name, value, where, values, origins, mistakes, from_text=False)
    for name, text in overrides.items():
        _set(name, text, f"--{name}", values, origins, mistakes, from_text=True)
    if mistakes:
        raise Mistakes(mistakes)
    identity = {"benchmark": context.benchmark, "system": context.machine.system, "scenario": context.scenario}
    for name, value in {**identity, "test_mode": test_mode}.items():
        values[name], origins[name] = value, Origin("the request")
    for name, rule in RULES.items():
        if name not in values or values[name] == "auto":
            values[name], why = rule(context, values)
            origins[name] = Origin(f"rule {rule.__name__}: {why}")
    return Resolved(RunConfig(**values), origins)


def _set(
    name: str,
    value: Any,
    where: str,
    values: dict[str, Any],
    origins: dict[str, Origin],
    mistakes: list[RequestError],
    *,
    from_text: bool,
) -> None:
    try:
        values[name] = fields.convert(name, value, from_text=from_text)
        origins[name] = Origin(where)
    except ValueError as error:
        mistakes.append(RequestError(f"{name} {error}", where=where))


def _from_files(context: Context, configs: Path, mistakes: list[RequestError]) -> Iterator[tuple[str, Any, str]]:
    for folder in ("default", context.machine.system):
        path = configs / folder / f"{context.benchmark}.yaml"
        if not path.exists():
            continue
        try:
            sections = {entry.key: entry for entry in entries(path)}
        except EngineroomError as error:
            mistakes.append(error if isinstance(error, RequestError) else RequestError(str(error)))
            continue
        mistakes.extend(_section_mistakes(path, sections))
        for section in (COMMON, context.scenario.value):
            if section in sections:
                for entry in sections[section].children():
                    yield entry.key, entry.value(), f"{display(path)}:{entry.line}"


def _section_mistakes(path: Path, sections: dict[str, Entry]) -> Iterator[RequestError]:
    """Find what is misspelt anywhere in the file, also in sections that this run does not use."""
    known_sections = [COMMON, *(scenario.value for scenario in Scenario)]
    known_fields = [name for name in fields.names() if name not in IDENTITY]
    for section in list(sections.values()):
        where = f"{display(path)}:{section.line}"
        if section.key not in known_sections:
            del sections[section.key]
            yield RequestError(
                f"unknown section {section.key!r}", where=where, mend=did_you_mean(section.key, known_sections)
            )
            continue
        if not section.is_mapping:
            del sections[section.key]
            yield RequestError(f"section {section.key} must hold `field: value` lines", where=where)
            continue
        for entry in section.children():
            if entry.key not in known_fields:
                section.drop(entry.key)
                yield RequestError(
                    f"{section.key}.{entry.key}: unknown field",
                    where=f"{display(path)}:{entry.line}",
                    mend=did_you_mean(entry.key, known_fields),
                )
