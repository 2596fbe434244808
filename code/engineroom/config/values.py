"""From what a file or a flag says to a field's value, or to words on why it cannot be one."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Any

import msgspec

from engineroom.config import fields, units
from engineroom.errors import did_you_mean, shown


def convert(name: str, value: Any, *, from_text: bool) -> Any:
    """Convert `value` to the field's type. Raises ValueError in words for a reader.

    `from_text`: the value is a flag's text, so "64" and "true" count as what they spell, and "none" as None where the
    field may be None. Names of plug-ins and of choices may be spelt in any case; a number may bear a unit. Where 0 is
    LoadGen's word for no limit, it becomes None.
    """
    hint = fields.types()[name]
    if isinstance(value, str):
        value = _of_text(name, hint, value, from_text)
    if isinstance(value, float) and value != value:
        raise ValueError("is not a number")
    try:
        found = msgspec.convert(value, hint, strict=not from_text)
        return None if found == 0 and name in fields.ZERO_IS_NONE else found
    except msgspec.ValidationError as error:
        raise ValueError(_plain(name, value, str(error))) from None
    except UnicodeEncodeError:
        raise ValueError(f"is {shown(value)}, which is not UTF-8 text") from None


def _of_text(name: str, hint: Any, text: str, from_text: bool) -> Any:
    if any(unicodedata.category(letter) == "Cc" for letter in text):
        raise ValueError(f"is {shown(text)}, which has control characters")
    if from_text and text.lower() == "none" and type(None) in fields.parts(hint):
        return None
    if fields.is_words(name):
        return [word.strip() for word in text.split(",") if word.strip()]
    if fields.is_list(name):
        return numbers(text)
    if choices := fields.choices_of(name):
        chosen = {choice.lower(): choice for choice in choices}.get(text.lower())
        if chosen is None:
            raise ValueError(f"is {shown(text)}; {did_you_mean(text, choices)}")
        return chosen
    if fields.bounds(name):
        number = units.in_unit(text, fields.about(name).unit)
        return text if number is None else number
    return text


def numbers(text: str) -> list[int]:
    """Read "0-3,8" as Linux writes lists of CPUs; "" and "[]" are the empty list.

    Raises ValueError in words for a reader.
    """
    found: list[int] = []
    for part in filter(None, text.strip().removeprefix("[").removesuffix("]").replace(" ", "").split(",")):
        match = re.fullmatch(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", part, re.ASCII)
        if not match or int(match[2] or match[1]) < int(match[1]):
            raise ValueError(f"is {shown(text)}, must be numbers and ranges: 0-3,8")
        found.extend(range(int(match[1]), int(match[2] or match[1]) + 1))
    return list(dict.fromkeys(found))


def ranges(numbers: Sequence[int]) -> str:
    """Write numbers as Linux writes lists of CPUs: "0-3,8"."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and number == parts[-1][-1] + 1:
            parts[-1][1:] = [number]
        else:
            parts.append([number])
    return ",".join("-".join(map(str, part)) for part in parts)


def _plain(name: str, value: Any, message: str) -> str:
    """Turn msgspec's words into a reader's: "is 0, must be a whole number >= 1 (samples)"."""
    unit = fields.about(name).unit
    wanted = message.split(", got")[0].split(" - at `$")[0]  # the place in a list
    if not wanted.startswith("Expected "):  # "Number out of range": beyond what 64 bits hold
        return f"is {shown(value)}: {wanted[0].lower()}{wanted[1:]}"
    wanted = wanted.removeprefix("Expected ").replace("`", "")
    for word, words in _WORDS.items():
        wanted = re.sub(rf"\b{word}\b", words, wanted)
    return f"is {shown(value)}, must be {wanted.replace(' | ', ' or ')}{f' ({unit})' if unit else ''}"


_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "a word",
    "null": "none",
    "array": "a list",
}
