"""The first interrupt lets everything end in order, a second one ends it at once; neither leaves a process behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from engineroom.paths import CODE

# What runs is a shell and what that has started; both may be deaf to all that a program can be deaf to.
PARENT = """
import sys
from pathlib import Path
from engineroom import shell
from engineroom.actions import interrupts

try:
    with interrupts.heeded():  # what the shell says comes from here: then this process surely waits for it
        shell.run(["/bin/sh", "-c", sys.argv[1]], log=Path("/dev/null"), on_line=lambda line: print(line, flush=True))
except KeyboardInterrupt as error:
    print(type(error).__name__, flush=True)
"""
FORGETFUL = """
import signal, subprocess, sys
from engineroom.actions import interrupts

try:
    with interrupts.heeded():
        subprocess.Popen(["/bin/sh", "-c", sys.argv[1]])
        while True:
            signal.pause()
except KeyboardInterrupt as error:
    print(type(error).__name__, flush=True)
"""
DEAF = "trap '' INT TERM; "
WORK = "sleep 600 & echo started; wait; wait"


class Running:
    """A parent whose child has begun."""

    def __init__(self, script: str, *prefix: str, parent: str = PARENT) -> None:
        self.process = subprocess.Popen(
            [*prefix, sys.executable, "-c", parent, script],
            env={**os.environ, "PYTHONPATH": str(CODE)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self.process.stdout and self.process.stdout.readline() == "started\n"
        self.family = psutil.Process(self.process.pid).children(recursive=True)
        assert len(self.family) == 2

    def ended(self) -> tuple[int, str, str, float]:
        """Wait for the end; return exit code, output, errors, and how long it took."""
        begin = time.monotonic()
        out, err = self.process.communicate(timeout=30)
        seconds = time.monotonic() - begin
        while any(map(is_alive, self.family)):
            assert time.monotonic() - begin < seconds + 5
            time.sleep(0.02)
        return self.process.returncode, out, err, seconds


def is_alive(process: psutil.Process) -> bool:
    """Tell whether a process runs; one that has ended, but that nobody has asked about yet, does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def running() -> Iterator[list[Running]]:
    """Return a list for what the test starts; it has ended when the test has."""
    started: list[Running] = []
    yield started
    for each in started:
        for process in (each.process, *each.family):
            with suppress(psutil.Error):
                process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_the_parent_alone_ends_all_that_it_has_started(running: list[Running], number: int) -> None:
    running.append(run := Running(WORK))
    os.kill(run.process.pid, number)
    code, out, err, seconds = run.ended()
    assert (code, err) == (0, "") and seconds < 4
    assert out == ("" if number == signal.SIGHUP else "Terminated\n"), "after SIGHUP there is nobody to read it"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_interrupt_ends_at_once_what_the_first_waits_for(running: list[Running], number: int) -> None:
    running.append(run := Running(DEAF + WORK))
    os.kill(run.process.pid, number)
    time.sleep(0.5)
    assert run.process.poll() is None and all(map(is_alive, run.family))
    os.kill(run.process.pid, number)
    code, _, err, seconds = run.ended()
    assert code == 130 and seconds < 3
    assert err.splitlines() == ["interrupted again: ended at once", "exit code 130"]


def test_what_nobody_waits_for_is_ended_too(running: list[Running]) -> None:
    """An interrupt can come while a process is being started: it runs, but nobody knows it."""
    running.append(run := Running(DEAF + WORK, parent=FORGETFUL))
    os.kill(run.process.pid, signal.SIGTERM)
    code, out, err, seconds = run.ended()
    assert (code, out, err) == (0, "Terminated\n", "") and seconds < 4


def test_an_import_is_finished_before_it_is_interrupted(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text("import time\nprint('started', flush=True)\ntime.sleep(0.5)\nprint('imported')\n")
    parent = FORGETFUL.replace('subprocess.Popen(["/bin/sh", "-c", sys.argv[1]])', "import slow")
    process = subprocess.Popen(
        [sys.executable, "-c", parent],
        env={**os.environ, "PYTHONPATH": f"{CODE}{os.pathsep}{tmp_path}"},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout and process.stdout.readline() == "started\n"
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=20)[0] == "imported\nKeyboardInterrupt\n"


@pytest.mark.heavy
def test_a_signal_that_make_passes_on_is_not_a_second_one(running: list[Running], tmp_path: Path) -> None:
    tidy = tmp_path / "tidied"
    running.append(run := Running(f"trap 'sleep 0.5; touch {tidy}; exit' TERM; {WORK}"))
    for _ in range(2):
        os.kill(run.process.pid, signal.SIGTERM)
        time.sleep(0.05)
    code, out, err, _ = run.ended()
    assert (code, out, err) == (0, "Terminated\n", "") and tidy.exists()


@pytest.mark.heavy
def test_what_the_caller_ignores_stays_ignored(running: list[Running]) -> None:
    running.append(run := Running("sleep 1 & echo started; wait", "nohup"))
    os.kill(run.process.pid, signal.SIGHUP)
    code, out, _, _ = run.ended()
    assert (code, out) == (0, "")
