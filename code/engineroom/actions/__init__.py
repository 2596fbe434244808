"""One function per verb, in the module of its room: the only place that composes steps. Each returns an exit code."""

from __future__ import annotations

import importlib
import signal
import sys
from collections.abc import Callable, Sequence
from types import FrameType

from engineroom.errors import EngineroomError, ExitCode

Action = Callable[[Sequence[str]], int]


def act(module: str, name: str, argv: Callable[[], Sequence[str]]) -> int:
    """Run the action `name` of `module` with the words that `argv` returns; return its exit code.

    An Engineroom error becomes one message. A code that is not 0 is also the last line printed.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        action: Action = getattr(importlib.import_module(f"engineroom.actions.{module}"), name)
        code = ExitCode(action(argv()))
    except EngineroomError as error:
        sys.stdout.flush()
        print(f"error: {error}", file=sys.stderr)
        code = error.code
    except KeyboardInterrupt:
        print("interrupted; what had been finished stays", file=sys.stderr)
        code = ExitCode.INTERRUPTED
    if code:
        sys.stdout.flush()
        print(f"exit code {code.value}", file=sys.stderr)
    return int(code)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
