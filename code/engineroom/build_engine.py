"""Builds one engine from its rendered recipe, in a process of its own.

    python -m engineroom.build_engine RECIPE FOLDER LIMIT_S

On stdout are lines of JSON: {"progress": [part done, words]} and {"say": line} while it lasts, at the end
{"options": {...}}, {"error": {"what", "where", "mend"}}, or {"stopped": true} if it ended early because LIMIT_S seconds
were over. What the library prints goes to stderr.
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
    """Writes on stdout how far the build is, from any thread. `has_stopped`: it has told the builder not to go on."""

    def __init__(self, limit_s: float) -> None:
        self._lock, self._last, self._end = threading.Lock(), 0.0, time.monotonic() + limit_s
        self.has_stopped = False

    def __call__(self, done: float | None, text: str) -> bool:
        """Tell how far it is, not too often; a line that stays always. Return whether there is time to go on."""
        with self._lock:
            now = time.monotonic()
            self.has_stopped = self.has_stopped or now >= self._end
            if done is None:
                print(json.dumps({"say": text}), flush=True)
            elif now - self._last >= INTERVAL_S:
                self._last = now
                print(json.dumps({"progress": [done, text]}), flush=True)
            return not self.has_stopped


def main(argv: list[str]) -> int:
    """Build into the folder argv[1] what the recipe argv[0] says, in argv[2] seconds if the builder can be stopped."""
    follow_parent()
    recipe, folder, teller = Path(argv[0]), Path(argv[1]), Teller(float(argv[2]))
    request = msgspec.json.decode(recipe.read_bytes(), type=BuildRequest)
    try:
        if (found := sha256_file(Path(request.model))) != request.model_sha256:
            raise EngineError(
                f"the model's SHA-256 is {found}, the recipe wants {request.model_sha256}", where=request.model
            )
        options = registry.get("engines", request.engine).load().ENGINE.build_telling(request, folder, teller)
    except EngineroomError as error:
        told = {"error": {"what": error.what, "where": error.where, "mend": error.mend}}
        print(json.dumps({"stopped": True} if teller.has_stopped else told))
        return int(error.code)
    print(json.dumps({"options": options}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
