"""Builds one engine from its rendered recipe, in a process of its own.

    python -m engineroom.build_engine RECIPE FOLDER

On stdout are lines of JSON: {"progress": [part done, words]} and {"say": line} while it lasts, at the end
{"options": {...}} or {"error": {"what", "where", "mend"}}. What the library prints goes to stderr.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path

import msgspec

from engineroom import registry
from engineroom.child import follow_parent
from engineroom.engines import BuildRequest
from engineroom.errors import EngineError, EngineroomError
from engineroom.paths import sha256_file

INTERVAL_S = 0.25  # between two words on how far it is


class Teller:
    """Writes on stdout how far the build is, from any thread."""

    def __init__(self) -> None:
        self._lock, self._last = threading.Lock(), 0.0

    def __call__(self, done: float | None, text: str) -> None:
        """Tell how far it is, not too often; a line that stays always."""
        with self._lock:
            now = time.monotonic()
            if done is None:
                print(json.dumps({"say": text}), flush=True)
            elif now - self._last >= INTERVAL_S:
                self._last = now
                print(json.dumps({"progress": [done, text]}), flush=True)


def main(argv: list[str]) -> int:
    """Build into the folder argv[1] what the recipe argv[0] says."""
    follow_parent()
    recipe, folder = Path(argv[0]), Path(argv[1])
    request = msgspec.json.decode(recipe.read_bytes(), type=BuildRequest)
    try:
        if (found := sha256_file(Path(request.model))) != request.model_sha256:
            raise EngineError(
                f"the model's SHA-256 is {found}, the recipe wants {request.model_sha256}", where=request.model
            )
        options = registry.get("engines", request.engine).load().ENGINE.build_telling(request, folder, Teller())
    except EngineroomError as error:
        print(json.dumps({"error": {"what": error.what, "where": error.where, "mend": error.mend}}))
        return int(error.code)
    print(json.dumps({"options": options}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
