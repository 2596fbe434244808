"""Reads the answers that LoadGen logs: all of an accuracy run, some of an audit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from engineroom.errors import EngineError
from engineroom.paths import display

LOG = "mlperf_log_accuracy.json"


class Response(msgspec.Struct):
    """One line of LoadGen's accuracy log: the sample's index and the response in hex."""

    qsl_idx: int
    data: str


def read(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield the index of each sample in the log with its response. Raises EngineError if it is missing or cut off."""
    try:
        for response in msgspec.json.decode(path.read_bytes(), type=list[Response]):
            yield response.qsl_idx, bytes.fromhex(response.data)
    except OSError as error:
        raise EngineError(f"cannot be read: {error.strerror}", where=display(path)) from None
    except (msgspec.DecodeError, ValueError) as error:
        raise EngineError(f"is no complete accuracy log: {error}", where=display(path)) from None
