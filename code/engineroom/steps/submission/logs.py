"""LoadGen's detail log: the values that judge a result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from engineroom.errors import RequestError
from engineroom.paths import display

MARK = b":::MLLOG "
LAST_KEYS = ("num_errors", "power_end")  # of a performance test, and of an accuracy test


class _Line(msgspec.Struct):
    key: str
    value: Any = None
    metadata: dict[str, Any] = {}


def read(path: Path) -> dict[str, Any]:
    """Return the first value of each key, as MLCommons' checker takes it; `errors` lists what LoadGen complains of.

    Raises RequestError if it cannot be read or holds a line that is cut off.
    """
    values: dict[str, Any] = {}
    errors: list[str] = []
    decode = msgspec.json.Decoder(_Line).decode
    try:
        with path.open("rb") as lines:
            for line in lines:
                if line.startswith(MARK):
                    entry = decode(line[len(MARK) :])
                    values.setdefault(entry.key, entry.value)
                    if entry.metadata.get("is_error"):
                        errors.append(f"{entry.key}: {entry.value}")
    except OSError as error:
        raise RequestError(f"cannot be read: {error.strerror}", where=display(path)) from None
    except ValueError as error:  # msgspec's errors are ValueErrors
        raise RequestError(f"is no complete LoadGen log: {error}", where=display(path)) from None
    if not values:
        raise RequestError("is no LoadGen log: it has no line with :::MLLOG", where=display(path))
    return {**values, "errors": errors}
