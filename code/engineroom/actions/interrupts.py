"""What Ctrl-C and its like do: the first ends the work in an orderly way, the second ends everything at once."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from engineroom import processes, terminal
from engineroom.errors import ExitCode, Terminated

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# GNU make passes a SIGTERM on to a child that may have had it already, as one of the same group: that is no second one.
SAME_S = 0.3
AGAIN_S = 0.05  # so long an interrupt waits before it looks again whether it may be one


@contextmanager
def heeded() -> Iterator[None]:
    """While the body runs, SIGINT, SIGTERM and SIGHUP interrupt it, but those that the caller ignores (nohup).

    When the body has ended after that, so has every process that was started in it.
    """
    first: list[tuple[float, int]] = []

    def heed(number: int, frame: FrameType | None) -> None:
        if first:
            if time.monotonic() - first[0][0] > SAME_S:
                _end_at_once()
            return
        first.append((time.monotonic(), number))
        if number == signal.SIGHUP:  # the terminal is gone: every further word to it would be an error
            terminal.forget_readers()
        interrupt(number, frame)

    def interrupt(number: int, frame: FrameType | None) -> None:
        if _imports(frame):
            signal.setitimer(signal.ITIMER_REAL, AGAIN_S)
            return
        raise KeyboardInterrupt if first[0][1] == signal.SIGINT else Terminated

    before = {number: signal.getsignal(number) for number in (*SIGNALS, signal.SIGALRM)}
    signal.signal(signal.SIGALRM, interrupt)
    for number in SIGNALS:
        if before[number] is not signal.SIG_IGN:
            signal.signal(number, heed)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        if first:
            processes.kill_all_started()  # one that was interrupted while it was started has nobody else to end it
        for number, handler in before.items():
            signal.signal(number, handler)


def _imports(frame: FrameType | None) -> bool:
    """Tell whether a module is being imported.

    An interrupt in one that is written in C or C++ would become an ImportError of its, or end the process by SIGABRT.
    """
    while frame and not frame.f_code.co_filename.startswith("<frozen importlib"):
        frame = frame.f_back
    return frame is not None


def _end_at_once() -> None:
    processes.kill_all_started()
    os.write(2, f"interrupted again: ended at once\nexit code {ExitCode.INTERRUPTED.value}\n".encode())
    os._exit(ExitCode.INTERRUPTED)
