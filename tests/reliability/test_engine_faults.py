"""Whatever an engine does, the run ends with a clear message, exit code 3, and nothing that looks finished."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import psutil
import pytest

if TYPE_CHECKING:
    from conftest import Trial

Prepare = Callable[..., "Trial"]
LATER = 10  # after the warm-up


# What the engine does, in which of its batches, and the message.
FAULTS = (
    ("load", 1, "engine load.*: engine faulty: RuntimeError: no licence"),
    ("exits", 1, "engine load.*: engine faulty: SystemExit: 0"),
    ("throws", 1, r"engine infer: RuntimeError: out of luck \(.*faulty.py:\d+\)"),
    ("throws", LATER, r"engine infer: RuntimeError: out of luck \(.*faulty.py:\d+\)"),
    ("no output", LATER, "engine infer: the engine must return a sequence of 1 arrays, it returned 0"),
    ("wrong shape", LATER, r"output 0 must be double float32\[3\] for each of 4 samples, .* shape \(4, 2\)"),
    ("too few samples", LATER, r"output 0 must be double float32\[3\] for each of 4 samples, .* shape \(3, 3\)"),
    ("NaN", 1, "engine infer: output double holds NaN for 4 of the 4 samples of the warm-up\n.*--precision=fp32"),
    ("segmentation fault", LATER, "the harness was ended by SIGSEGV\n.*log: .*harness.log"),
    ("leaves", LATER, "the harness left before its work was done: it said nothing\n.*log: .*harness.log"),
    ("abort", LATER, "the harness was ended by SIGABRT\n.*log: .*harness.log"),
    ("memory", LATER, "engine infer: .*MemoryError: Unable to allocate 1.00 PiB"),
    ("killed", LATER, "the harness was ended by SIGKILL; out of memory?"),
    ("leaves a program", LATER, r"engine infer: RuntimeError: out of luck \(.*faulty.py:\d+\)"),
)


@pytest.mark.parametrize(("fault", "at", "message"), FAULTS, ids=[f"{fault}, {at}" for fault, at, _ in FAULTS])
def test_a_fault_of_the_engine_is_named(trial: Prepare, fault: str, at: int, message: str) -> None:
    error = trial("Offline", fault, at=at).fails()
    assert re.search(message, str(error)), error


@pytest.mark.parametrize("fault", ["hangs in the end", "crashes in the end"])
def test_an_engine_that_fails_when_all_is_done_costs_no_run(trial: Prepare, fault: str) -> None:
    counters = trial("Offline", fault).run()
    assert counters["completed_samples"] == counters["issued_samples"] > 0


@pytest.mark.heavy
@pytest.mark.parametrize("scenario", ["SingleStream", "Server"])
def test_an_engine_that_never_returns_is_ended_by_the_watchdog(trial: Prepare, scenario: str) -> None:
    begin = time.monotonic()
    error = trial(scenario, "hangs", at=LATER, watchdog_s=1.0).fails()
    assert time.monotonic() - begin < 15
    said = r"watchdog: worker 0 has been inside the engine for \d\.\d s, since \d\d:\d\d:\d\d UTC\n.*raise it"
    assert re.search(said, str(error)), error


def test_a_program_that_left_the_harness_is_found_by_the_check_of_these_tests(
    trial: Prepare, left_running: Callable[[], list[psutil.Process]]
) -> None:
    """Who begins a session of its own wants to outlive its parent, and does."""
    trial("Offline", "leaves a program in a session of its own", at=LATER).fails()
    (left,) = left_running()
    assert left.name() == "sleep"
    left.kill()


def test_memory_that_the_harness_does_not_get_is_named(trial: Prepare) -> None:
    run = trial("Offline", batch_size=10**9)
    run.shell_lines = "ulimit -v 3000000"  # kB: enough for the libraries, not for a batch
    error = run.fails()
    assert "engine load: out of memory\n  use a smaller batch_size or fewer instances" in str(error)


def test_memory_that_loadgen_does_not_get_is_named(trial: Prepare) -> None:
    run = trial("Offline")
    run.user_conf += f"*.Offline.min_query_count = {10**10}\n"
    run.shell_lines = "ulimit -v 3000000"
    error = run.fails()
    assert "loadgen: out of memory\n  LoadGen generates all queries ahead: expect a lower rate" in str(error)
