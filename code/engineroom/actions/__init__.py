"""One function per verb, in the module of its room: the only place that composes steps. Each returns an exit code."""

from __future__ import annotations

import importlib
import inspect
import signal
import sys
from collections.abc import Callable, Sequence

from engineroom import run_args, terminal
from engineroom.actions import interrupts, mishaps
from engineroom.errors import EngineroomError, ExitCode

Action = Callable[[Sequence[str]], int]

CLOSED_PIPE = 128 + signal.SIGPIPE  # what a shell reports of a command whose reader went away


def act(module: str, name: str, argv: Callable[[], Sequence[str]]) -> int:
    """Run the action `name` of `module` with the words that `argv` returns; return its exit code.

    An error becomes one message. A code that is not 0 is also the last line printed.
    """
    try:
        with interrupts.heeded():
            code = _act(module, name, argv)
        sys.stdout.flush()
        if code:
            print(f"exit code {code.value}", file=sys.stderr, flush=True)
    except BrokenPipeError:  # who read our words has gone, as in `inv info | head`
        terminal.forget_readers()
        return CLOSED_PIPE
    return int(code)


def _act(module: str, name: str, argv: Callable[[], Sequence[str]]) -> ExitCode:
    words: Sequence[str] = ()
    try:
        action: Action = getattr(importlib.import_module(f"engineroom.actions.{module}"), name)
        words = argv()
        return _done(action, words)
    except EngineroomError as error:
        _tell(str(error))
        return error.code
    except mishaps.MISHAPS as mishap:
        failure = mishaps.named(mishap, verbose="--verbose" in words)
        _tell(str(failure))
        return failure.code
    except KeyboardInterrupt:
        print("interrupted; what had been finished stays", file=sys.stderr)
        return ExitCode.INTERRUPTED


def _done(action: Action, words: Sequence[str]) -> ExitCode:
    try:
        return ExitCode(action(words))
    except run_args.Help as help_:
        print(inspect.getdoc(action))
        print('\nRUN_ARGS="--flag=value ..."' if help_.flags else "\nIt has no flags.")
        flags = {flag if flag[0].isupper() else f"--{flag}": meaning for flag, meaning in help_.flags.items()}
        width = max(map(len, flags), default=0)
        for flag, meaning in flags.items():  # one in capitals is a word without a flag, such as NAME
            terminal.note(f"  {flag:<{width}}  {meaning}", hanging=width + 4)
        return ExitCode.GOOD


def _tell(message: str) -> None:
    sys.stdout.flush()
    print(f"error: {message}", file=sys.stderr)
