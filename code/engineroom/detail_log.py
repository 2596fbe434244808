"""Reads LoadGen's detail log: the values that judge a test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from engineroom.errors import RequestError
from engineroom.paths import display

NAME = "mlperf_log_detail.txt"
MARK = b":::MLLOG "
LAST_KEYS = ("num_errors", "power_end")  # of a performance test, and of an accuracy test


class _Line(msgspec.Struct):
    key: str
    value: Any
    metadata: dict[str, Any]


def read(path: Path, *, whole: bool = False) -> dict[str, Any]:
    """Return the first value of each key, as MLCommons' checker takes it; `errors` lists what LoadGen complains of.

    Raises RequestError if it cannot be read or holds a line that is cut off; with `whole` also if it does not end with
    what LoadGen writes last today. Logs of earlier rounds end otherwise.
    """
    values: dict[str, Any] = {}
    errors: list[str] = []
    last = "nothing"
    decode = msgspec.json.Decoder(_Line).decode
    try:
        with path.open("rb") as lines:
            for line in lines:
                if line.startswith(MARK):
                    entry = decode(line[len(MARK) :].decode("utf-8", "replace"))  # an engine's words may be anything
                    last = entry.key
                    values.setdefault(last, entry.value)
                    if entry.metadata.get("is_error"):
                        errors.append(f"{last}: {entry.value}")
    except OSError as error:
        raise RequestError(f"cannot be read: {error.strerror}", where=display(path)) from None
    except ValueError as error:  # msgspec's errors are ValueErrors
        raise RequestError(f"is no complete LoadGen log: {error}", where=display(path)) from None
    if whole and last not in LAST_KEYS:
        raise RequestError(f"is cut off after {last}", where=display(path), mend="was the disk full? see: df -h")
    if not values:
        raise RequestError(f"is no LoadGen log: it has no line with {MARK.decode()}", where=display(path))
    return {**values, "errors": errors}
