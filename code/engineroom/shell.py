"""Runs other programs: argument lists only, each logged as a line that can be pasted into a shell."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from engineroom import processes
from engineroom.errors import EngineError, Terminated
from engineroom.paths import display
from engineroom.terminal import say

verbose = False  # set by --verbose: every command line is shown

# An interrupted program may need a moment to end its children and close its files, before it is killed.
_GRACE_S = 5.0

Argument = str | os.PathLike[str]


class CommandError(EngineError):
    """A program could not be started or did not end well. `exit_code` is negative for a signal, None if not started."""

    def __init__(self, what: str, exit_code: int | None, *, mend: str | None = None) -> None:
        super().__init__(what, mend=mend)
        self.exit_code = exit_code


def run(
    argv: Sequence[Argument],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    log: Path | None = None,
    on_line: Callable[[str], None] | None = None,
) -> None:
    """Run a program and wait for it.

    Without `log` it writes to the terminal; with `log` its output (stdout and stderr) is appended there, and each line
    is handed to `on_line`. `env` is the whole environment; default: this process's. Raises CommandError.
    """
    if log is None:
        _wait(_start(argv, cwd, env), argv)
        return
    with log.open("a", encoding="utf-8") as file:
        file.write(f"$ {quoted(argv)}\n")
        file.flush()
        process = _start(argv, cwd, env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

        def read() -> None:
            for line in process.stdout or ():
                file.write(line)
                if on_line:
                    on_line(line.rstrip("\n"))

        _wait(process, argv, read, hint=f"its output: {display(log)}")


def capture(argv: Sequence[Argument], *, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
    """Run a program and return what it wrote to stdout. Raises CommandError with the last line of its stderr."""
    process = _start(argv, cwd, env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out = err = ""

    def read() -> None:
        nonlocal out, err
        out, err = process.communicate()

    try:
        _wait(process, argv, read)
    except CommandError as error:
        error.mend = err.strip().rpartition("\n")[2] or None
        raise
    return out


def quoted(argv: Sequence[Argument]) -> str:
    """Return `argv` as a line that a shell splits into the same arguments."""
    return shlex.join(os.fspath(argument) for argument in argv)


def show(argv: Sequence[Argument]) -> None:
    """With --verbose, show a command line before it is run."""
    if verbose:
        say(f"$ {quoted(argv)}")


def _start(
    argv: Sequence[Argument],
    cwd: Path | None,
    env: Mapping[str, str] | None,
    *,
    stdin: int | None = None,
    stdout: int | None = None,
    stderr: int | None = None,
) -> subprocess.Popen[str]:
    show(argv)
    try:
        return subprocess.Popen(
            argv, cwd=cwd, env=env, stdin=stdin, stdout=stdout, stderr=stderr, text=True, errors="replace"
        )
    except OSError as error:
        raise CommandError(f"cannot start {quoted(argv[:1])}: {error.strerror}", None) from error


def _wait(
    process: subprocess.Popen[str], argv: Sequence[Argument], read: Callable[[], None] | None = None, hint: str = ""
) -> None:
    """Wait for the process; a Ctrl-C reaches it too, and it has ended before the interrupt goes on from here."""
    try:
        if read:
            read()
        exit_code = process.wait()
    except KeyboardInterrupt as interrupt:
        # The terminal has sent a Ctrl-C to the child too: a second one would cut short its tidying up.
        told = () if isinstance(interrupt, Terminated) else (0,)
        _stop(process, (*told, signal.SIGTERM, signal.SIGKILL))
        raise
    except BaseException:
        _stop(process, (signal.SIGTERM, signal.SIGKILL))
        raise
    if exit_code:
        how = (
            f"was ended by {signal.Signals(-exit_code).name}" if exit_code < 0 else f"failed with exit code {exit_code}"
        )
        raise CommandError(f"{quoted(argv)}: {how}", exit_code, mend=hint or None)


def _stop(process: subprocess.Popen[str], signals: Sequence[int]) -> None:
    """Send the signals in turn, to the process and all that it has started, until it has ended; then end the others."""
    family = processes.started_by(process.pid)
    for number in signals:
        process.send_signal(number)  # 0 sends nothing; to a process that has ended nothing is sent either
        processes.send(number, family)
        try:
            process.wait(_GRACE_S)
            break
        except subprocess.TimeoutExpired:
            continue
    processes.send(signal.SIGKILL, family)
