"""What can go wrong anywhere: a disk, a file that something else has damaged, no memory. Each becomes one message."""

from __future__ import annotations

import json
import os
import select
import traceback

from engineroom.errors import EngineError

MISHAPS = (OSError, UnicodeError, json.JSONDecodeError, MemoryError)
TRACEBACK = "ENGINEROOM_TRACEBACK"


def named(mishap: Exception, *, verbose: bool) -> EngineError:
    """Return a mishap as an error that a user can read; `verbose`, or the variable, shows where it came from.

    That nobody reads our words any more is no failure of what was being done: this is raised again.
    """
    if isinstance(mishap, BrokenPipeError) and _reader_is_gone():
        raise mishap
    if verbose or os.environ.get(TRACEBACK):
        traceback.print_exception(mishap)
    return EngineError(f"{type(mishap).__name__}: {mishap}", mend=f"{TRACEBACK}=1 shows where it came from")


def _reader_is_gone() -> bool:
    """Tell whether stdout or stderr is a pipe that nobody reads any more."""
    pipes = select.poll()
    for number in (1, 2):
        pipes.register(number, 0)
    return any(event & select.POLLERR for _, event in pipes.poll(0))
