"""Errors that a user can meet: each says what, where and how to mend it, and carries the exit code."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable
from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of every task. GNU make turns each failure into 2, so the code is also the last line printed."""

    GOOD = 0
    INVALID = 1
    REQUEST = 2
    ENGINE = 3
    INTERRUPTED = 130


class EngineroomError(Exception):
    """Base of all errors shown without a traceback.

    `what` is one sentence, `where` a file:line, flag or path, `mend` what the reader can do or type.
    """

    code = ExitCode.REQUEST

    def __init__(self, what: str, *, where: str | None = None, mend: str | None = None) -> None:
        self.what, self.where, self.mend = what, where, mend
        super().__init__(str(self))

    def __str__(self) -> str:
        head = f"{self.where}: {self.what}" if self.where else self.what
        return f"{head}\n  {self.mend}" if self.mend else head


class RequestError(EngineroomError):
    """The request cannot be served: a flag, a setting, missing data, a permission (exit 2)."""


class EngineError(EngineroomError):
    """An engine could not be built or failed while it ran, or the harness failed (exit 3)."""

    code = ExitCode.ENGINE


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP: an interrupt that, unlike Ctrl-C at a terminal, reached this process alone."""


class Mistakes(RequestError):  # noqa: N818  (the plural is its name)
    """Several mistakes found in one pass; all are shown."""

    def __init__(self, mistakes: Iterable[RequestError]) -> None:
        self.mistakes = tuple(mistakes)
        super().__init__("\n".join(str(mistake) for mistake in self.mistakes))


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 80
_SHORT.maxlevel = 3


def shown(value: object) -> str:
    """Return a value as a message shows it: on one line, escaped, and shortened if it is long."""
    if value is None or isinstance(value, bool):
        return str(value).lower()  # as YAML and the flags spell them
    return _SHORT.repr(value)


def plain(name: str) -> str:
    """Return a name as it is if it is short and can be printed, else as `shown` does."""
    return name if name.isprintable() and len(name) <= _SHORT.maxstring else shown(name)


def did_you_mean(name: str, known: Iterable[str], otherwise: str | None = None) -> str:
    """Say which known name is nearest to `name`; if none is near, say `otherwise`, by default a list of all."""
    names = sorted(known)
    lowered = {known_name.lower(): known_name for known_name in names}
    near = difflib.get_close_matches(name.lower(), list(lowered), n=1, cutoff=0.6)
    if near:
        return f"did you mean {lowered[near[0]]}?"
    if otherwise:
        return otherwise
    return f"known: {', '.join(names)}" if names else "none is known here"
