"""Holds a value from a system's file against the type of its field, and says in words what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, get_args

import msgspec

from engineroom.errors import did_you_mean, shown


def converted(value: Any, hint: Any) -> Any:
    """Return `value` if it is of the type `hint`, a text on one line. Raises ValueError in words for a reader."""
    if isinstance(value, str):
        value = " ".join(value.split())
    if (choices := _choices(hint)) and value not in choices:
        raise ValueError(f"is {shown(value)}; {did_you_mean(str(value), choices)}")
    try:
        checked = msgspec.convert(value, hint)
    except (msgspec.ValidationError, UnicodeEncodeError):
        given = "empty" if value is None else shown(value)
        raise ValueError(f"is {given}, must be {extra(hint).get('wanted', 'true or false')}") from None
    if isinstance(checked, str) and not checked.isprintable():
        raise ValueError(f"is {shown(value)}, which has characters that cannot be printed")
    return checked


@cache
def types(section: type[msgspec.Struct]) -> Mapping[str, Any]:
    """Return the type of each field of a section, by the name that the field has in the file."""
    return {field.encode_name: field.type for field in msgspec.structs.fields(section)}


def meaning(hint: Any) -> str:
    """Return what a field of this type is for."""
    return next(str(meta.description) for meta in hint.__metadata__ if meta.description)


def extra(hint: Any) -> Mapping[str, Any]:
    """Return what the type says of itself beyond what msgspec checks: `wanted`, and how to read it."""
    metas = (meta for part in _parts(hint) for meta in getattr(part, "__metadata__", ()))
    return next((meta.extra for meta in metas if meta.extra), {})


def _choices(hint: Any) -> list[str]:
    """Return the words of a Literal."""
    return [word for part in _parts(hint) for word in get_args(part) if isinstance(word, str)]


def _parts(hint: Any) -> list[Any]:
    return [hint, *(part for inner in get_args(hint) if not isinstance(inner, str) for part in _parts(inner))]
