"""The processes that one has started, and those that they have: a signal to one of them does not reach the others.

    python processes.py SESSION

waits until its standard input is closed, as it is when whoever holds it dies, and ends all processes of a session.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

# In /proc/PID/stat, counted from the state, which follows the name (proc_pid_stat(5)).
_PARENT, _SESSION, _BEGAN = 1, 3, 19

_MEANS = {"SIGKILL": "; out of memory?", "SIGBUS": "; was a file of samples cut off, or can its disk not be read?"}


class Process(NamedTuple):
    """A process: the kernel uses a `pid` again, but not with the same time, in its ticks, at which it `began`."""

    pid: int
    began: int


def started_by(pid: int) -> list[Process]:
    """Return what `pid` and its offspring have started and has not ended, parents before their children.

    Written so that a signal handler may call it at any time: psutil, which knows this too, may just be being imported.
    """
    children: dict[int, list[Process]] = {}
    for number, found in _all():
        children.setdefault(found[_PARENT], []).append(Process(number, found[_BEGAN]))
    found_in_order = children.get(pid, [])[:]
    for process in found_in_order:  # grows while it is gone through
        found_in_order += children.get(process.pid, [])
    return found_in_order


def send(number: int, processes: Iterable[Process]) -> None:
    """Send a signal to those of the processes that still run."""
    for process in processes:
        found = _stat(process.pid)
        if found and found[_BEGAN] == process.began:
            with suppress(ProcessLookupError):
                os.kill(process.pid, number)


def kill_all_started() -> None:
    """End at once whatever this process has started, and what that has started."""
    send(signal.SIGKILL, started_by(os.getpid()))


def serve_parent() -> None:
    """Leave Ctrl-C to the process whose worker this one is, and end when it ends: what a worker does first."""
    from threading import Thread

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    from multiprocessing import parent_process
    from multiprocessing.connection import wait

    if parent := parent_process():
        wait([parent.sentinel])
        os._exit(1)


def end_session(session: int) -> None:
    """End at once all processes of a session, whoever their parent is by now. What has ended before is no matter."""
    told: set[Process] = set()
    while new := {Process(pid, found[_BEGAN]) for pid, found in _all() if found[_SESSION] == session} - told:
        send(signal.SIGKILL, new)  # one of them may have started another after we looked
        told |= new


def signal_of(status: int) -> str:
    """Return the signal that ended a process, and what may have sent it, by an exit status; "" if none did."""
    number = status - 128 if status > 128 else -status  # a shell reports a child's signal as 128 + number
    if number <= 0:
        return ""
    try:
        name = signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
    return name + _MEANS.get(name, "")


def _all() -> Iterator[tuple[int, list[int]]]:
    for number in (int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()):
        if found := _stat(number):
            yield number, found


def _stat(pid: int) -> list[int] | None:
    """Return the numbers after a process's name in /proc/PID/stat, 0 for its state; None if it has ended."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    _, *numbers = text.rpartition(")")[2].split()
    return [0, *map(int, numbers)]


if __name__ == "__main__":
    sys.stdin.read()
    end_session(int(sys.argv[1]))
