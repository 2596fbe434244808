"""Runs that are cut short: by Ctrl-C, by a signal to the parent or the child, by an engine that hangs."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from engineroom.steps.harness import Counters, read_log

if TYPE_CHECKING:
    import subprocess

    from conftest import Checkout

# Accuracy is done in a moment; performance then lasts longer than any test waits.
LONG = (
    "--engine=fixed_delay --fixed_delay_us=100 --scenarios=Server --test_mode=AccuracyOnly,PerformanceOnly "
    "--server_target_qps=2000 --min_duration=120000 --watchdog_s=3"
)
PATIENCE_S = 60.0


class Running:
    """A run_harness whose performance test is under way, and the child that runs LoadGen."""

    def __init__(self, checkout: Checkout) -> None:
        self.checkout = checkout
        self.others = set(checkout.partial())
        self.parent: subprocess.Popen[str] = checkout.start("run_harness", LONG)
        wait_until(self._is_under_way)
        (self.folder,) = set(checkout.partial()) - self.others
        (self.child,) = [
            process
            for process in psutil.Process(self.parent.pid).children(recursive=True)
            if "engineroom.child" in process.cmdline()
        ]

    def _is_under_way(self) -> bool:
        assert self.parent.poll() is None, self.parent.communicate()
        folders = set(self.checkout.partial()) - self.others
        new = [folder for folder in folders if folder.name.endswith("-PerformanceOnly.partial")]
        return bool(new) and completed(new[0]) > 10

    def ended(self) -> tuple[int, str, str]:
        """Return the parent's exit code, stdout and stderr."""
        out, err = self.parent.communicate(timeout=PATIENCE_S)
        assert "Traceback" not in out + err
        return self.parent.returncode, out, err


@pytest.fixture
def running(house: Checkout) -> Iterator[Running]:
    run = Running(house)
    yield run
    run.parent.kill()
    run.parent.wait()
    for folder in set(house.partial()) - run.others:  # other tests expect none
        folder.rename(folder.with_suffix(".interrupted"))


@pytest.mark.heavy
@pytest.mark.parametrize(
    "interrupt",
    [
        pytest.param(lambda pid: os.killpg(pid, signal.SIGINT), id="Ctrl-C at a terminal"),
        pytest.param(lambda pid: os.kill(pid, signal.SIGINT), id="SIGINT"),
        pytest.param(lambda pid: os.kill(pid, signal.SIGTERM), id="SIGTERM"),
    ],
)
def test_an_interrupt_ends_the_child_and_shows_what_was_finished(
    running: Running, interrupt: Callable[[int], None]
) -> None:
    interrupt(running.parent.pid)
    code, out, err = running.ended()
    assert code == 130
    assert "interrupted" in err and err.splitlines()[-1] == "exit code 130"
    assert not running.child.is_running()
    assert running.folder.is_dir() and not (running.folder / "result.json").exists()
    rows = [line for line in out.splitlines() if line.startswith("digits  ")]
    assert len(rows) == 1 and "missed" in rows[0], "the accuracy run was finished"


def test_a_child_that_is_killed_is_a_failure_of_the_harness(running: Running) -> None:
    running.child.kill()
    code, out, err = running.ended()
    assert code == 3
    folder = f"build/runs/{running.folder.name}"
    assert f"failed: {folder}: the harness was ended by SIGKILL; out of memory?" in err
    assert f"{folder}/harness.log" in err
    assert "FAILED" in out
    assert running.folder.is_dir() and not (running.folder / "result.json").exists()
    with Counters(running.folder / "counters.bin") as counters:
        assert counters.value("completed_samples") > 10, "the counters outlive the crash"


def test_the_child_dies_with_its_parent(running: Running) -> None:
    running.parent.kill()
    wait_until(lambda: not running.child.is_running() or running.child.status() == psutil.STATUS_ZOMBIE)
    assert running.folder.is_dir() and not (running.folder / "result.json").exists()


@pytest.mark.heavy
def test_a_child_that_cannot_watch_itself_is_ended_by_its_parent(running: Running) -> None:
    running.child.suspend()
    code, _, err = running.ended()
    assert code == 3
    assert "the harness made no progress for " in err and running.folder.name in err
    assert not running.child.is_running()


@pytest.mark.heavy
@pytest.mark.parametrize("scenario", ["SingleStream", "Offline"])
def test_an_engine_that_hangs_is_ended_by_the_watchdog(house: Checkout, scenario: str) -> None:
    before = set(house.partial())
    begin = time.monotonic()
    asked = f"--engine=fixed_delay --fixed_delay_us=60000000 --watchdog_s=0.5 --scenarios={scenario}"
    done = house.inv("run_harness", f"{asked} --test_mode=AccuracyOnly")
    assert time.monotonic() - begin < 20
    assert done.code == 3
    assert "watchdog: worker 0 has been inside the engine for" in done.err
    assert "use smaller batches or raise it" in done.err
    assert "FAILED" in done.out
    (folder,) = set(house.partial()) - before
    assert (folder / "error.json").is_file()
    folder.rename(folder.with_suffix(".failed"))


def test_settings_that_lie_about_in_the_working_directory_are_not_picked_up(house: Checkout) -> None:
    stray = "*.*.mode = 1\n*.*.accuracy_log_sampling_target = 7\n*.*.min_query_count = 3\n*.*.qsl_rng_seed = 1\n"
    names = ("audit.config", "user.conf", "mlperf.conf")
    for name in names:
        (house.root / name).write_text(stray)
    house.good(
        "run_harness", "--scenarios=SingleStream --precision=fp32 --test_mode=PerformanceOnly --min_duration=300"
    )
    for name in names:
        (house.root / name).unlink()
    log = read_log(list(house.results())[-1])
    assert log["effective_test_mode"] == "PerformanceOnly"
    assert log["effective_accuracy_log_sampling_target"] == 0
    assert log["effective_qsl_rng_seed"] == 2085463073848966840
    assert log["effective_min_query_count"] != 3
    assert not [key for key in log if "audit" in key]


def completed(folder: Path) -> int:
    """Return how many samples a run's counters say are completed."""
    with Counters(folder / "counters.bin") as counters:
        return counters.value("completed_samples")


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until `condition` holds."""
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)
