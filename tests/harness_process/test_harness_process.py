"""How steps/harness.py treats the process that runs LoadGen. Here a shell script stands where the recipe's is."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import pytest

from engineroom import processes
from engineroom.config import RunConfig
from engineroom.errors import EngineError, ExitCode
from engineroom.paths import CODE
from engineroom.steps import harness
from engineroom.terms import Scenario, TestMode

HEADER_BYTES = 4096
SINGLES = ("phase", "issued_samples", "completed_samples", "test_start_ns", "worker_samples", "issued_fingerprint")
BOUNDS_NS = [0, 8, 16, 32, 64]
DONE = 4
FINISH = "mv made.bin counters.bin"  # a child that does what it shall
FIELDS = {**dict.fromkeys(SINGLES, 1), "compute_time_histogram": len(BOUNDS_NS)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a run folder without a recipe."""
    (tmp_path / "recipe").mkdir()
    return tmp_path


def config(**settings: Any) -> RunConfig:
    """Return the settings of a run; only its names, mode and watchdog matter here."""
    values = {"scenario": Scenario.SERVER, "test_mode": TestMode.PERFORMANCE_ONLY, **settings}
    return RunConfig(benchmark="digits", system="here", batch_size=1, instances=1, threads_per_instance=1, **values)


def run(folder: Path, script: str, **settings: Any) -> dict[str, Any]:
    """Let the parent run `script` as the recipe of `folder`; return the counters, where the script does FINISH."""
    if not (folder / "made.bin").exists():
        write_counters(folder)
    (folder / "recipe" / "run.sh").write_text(f"#!/bin/sh\ncd {folder}\n{script}\n")
    return harness.run_test(config(**settings), folder)


def failure(folder: Path, script: str, **settings: Any) -> EngineError:
    """Return the error that running `script` comes to."""
    with pytest.raises(EngineError) as raised:
        run(folder, script, **settings)
    assert raised.value.code is ExitCode.ENGINE
    return raised.value


def write_counters(folder: Path, **values: int | list[int]) -> None:
    """Write a counter file as the native harness lays it out."""
    places: dict[str, list[int]] = {}
    numbers: list[int] = []
    for name, count in FIELDS.items():
        places[name] = [HEADER_BYTES + 8 * len(numbers), count]
        value = values.get(name, DONE if name == "phase" else [0] * count)
        numbers += value if isinstance(value, list) else [value]
    header = {"duration_bounds_ns": BOUNDS_NS, "fields": places}
    text = json.dumps(header).ljust(HEADER_BYTES - 1) + "\n"
    (folder / "made.bin").write_bytes(text.encode() + struct.pack(f"<{len(numbers)}Q", *numbers))


def test_the_counters_come_back(folder: Path) -> None:
    write_counters(folder, issued_samples=7, completed_samples=2**40)
    counters = run(folder, FINISH)
    assert (counters["issued_samples"], counters["completed_samples"]) == (7, 2**40)
    assert counters["worker_samples"] == [0], "a counter per worker is a list, also where there is one worker"
    assert counters["compute_time_histogram"]["counts"] == [0]


def test_histograms_have_their_bounds_and_fingerprints_all_their_digits(folder: Path) -> None:
    write_counters(folder, compute_time_histogram=[0, 5, 0, 6, 0], issued_fingerprint=2**63 + 11)
    counters = run(folder, FINISH)
    assert counters["compute_time_histogram"] == {"bounds_ns": [8, 16, 32, 64], "counts": [5, 0, 6]}
    assert counters["issued_fingerprint"] == "800000000000000b"
    write_counters(folder, compute_time_histogram=[0, 0, 0, 0, 7])
    counters = run(folder, FINISH)
    assert counters["compute_time_histogram"] == {"bounds_ns": [64], "counts": [7]}, "the last range has no end"


def test_counters_of_an_earlier_child_are_not_taken_for_this_ones(folder: Path) -> None:
    write_counters(folder, completed_samples=7)
    (folder / "made.bin").rename(folder / "counters.bin")
    assert failure(folder, "true").what == "the harness left before its work was done: it said nothing"


def test_a_child_that_leaves_before_its_work_is_done_has_failed(folder: Path) -> None:
    write_counters(folder, phase=DONE - 2, completed_samples=7)
    error = failure(folder, f"{FINISH}; echo bye")
    assert error.what == "the harness left before its work was done: bye"


def test_watching_a_test_takes_next_to_no_processor_time(folder: Path) -> None:
    write_counters(folder, test_start_ns=time.monotonic_ns(), issued_samples=7)
    begin_s = time.thread_time()
    run(folder, f"{FINISH}; sleep 1.5")
    assert time.thread_time() - begin_s < 0.15, "a tenth of a core"


def test_a_signal_is_named(folder: Path) -> None:
    error = failure(folder, "kill -SEGV $$")
    assert error.what == "the harness was ended by SIGSEGV"
    assert error.mend == f"log: {folder}/harness.log"


@pytest.mark.parametrize("script", ["kill -KILL $$", "sh -c 'kill -KILL $$'; exit $?"])
def test_sigkill_hints_at_memory(folder: Path, script: str) -> None:
    assert failure(folder, script).what == "the harness was ended by SIGKILL; out of memory?"


def test_a_plain_exit_gives_the_childs_last_words(folder: Path) -> None:
    error = failure(folder, "echo one; echo the last words >&2; exit 9")
    assert error.what == "the harness ended with status 9: the last words"
    assert (folder / "harness.log").read_text() == "one\nthe last words\n"


def test_a_silent_exit_says_so(folder: Path) -> None:
    assert failure(folder, "exit 9").what == "the harness ended with status 9: it said nothing"


def test_the_childs_own_record_comes_first(folder: Path) -> None:
    record = {"what": "no such tensor", "where": "engine load", "worker": None, "mend": "build it again"}
    (folder / "record").write_text(json.dumps(record))
    error = failure(folder, "mv record error.json; echo noise; exit 3")
    assert (error.what, error.where, error.mend) == ("no such tensor", f"{folder}: engine load", "build it again")


@pytest.mark.parametrize("record", ["", "{", '"text"', "[1]", '{"what": "w"}', "null"])
def test_a_record_that_is_none_is_passed_over(folder: Path, record: str) -> None:
    (folder / "record").write_text(record)
    assert failure(folder, "mv record error.json; exit 3").what == "the harness ended with status 3: it said nothing"


def test_a_record_of_an_earlier_child_is_not_taken_for_this_ones(folder: Path) -> None:
    (folder / "error.json").write_text(json.dumps({"what": "old", "where": "engine load", "mend": None}))
    assert "status 9" in failure(folder, "exit 9").what


def test_a_child_that_never_begins_is_ended(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "AFTER_WATCHDOG_S", 0.2)
    begin = time.monotonic()
    error = failure(folder, "echo $$ > pid; exec sleep 600", watchdog_s=0.03)
    assert 0.5 < time.monotonic() - begin < 10, "loading may take ten times as long"
    assert "raise watchdog_s" in str(error.mend)
    assert error.what.startswith("the harness made no progress for ") and str(folder) in str(error.where)
    assert is_gone(int((folder / "pid").read_text()))


def test_a_child_that_stands_still_with_work_to_do_is_ended_sooner(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(harness, "AFTER_WATCHDOG_S", 0.2)
    write_counters(folder, phase=2, issued_samples=8, completed_samples=7)
    begin = time.monotonic()
    error = failure(folder, f"{FINISH}; echo $$ > pid; exec sleep 600", watchdog_s=0.1)
    assert time.monotonic() - begin < 10
    assert "made no progress" in error.what
    assert is_gone(int((folder / "pid").read_text()))


def test_a_child_that_waits_for_work_is_left_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "AFTER_WATCHDOG_S", 0.1)
    write_counters(folder, issued_samples=7, completed_samples=7)
    assert run(folder, f"{FINISH}; sleep 0.8", watchdog_s=0.1)["completed_samples"] == 7


# Programs that the child starts: in its process group, and, as a shell with job control does, in groups of their own.
PROGRAMS = "sleep 600 & echo $! > pids.beside; set -m; sleep 600 & echo $! >> pids.beside; mv pids.beside pids"


def programs(folder: Path) -> list[int]:
    """Return the processes that PROGRAMS has started."""
    return [int(line) for line in (folder / "pids").read_text().splitlines()]


@pytest.mark.parametrize("end", [FINISH, "exit 3", "kill -KILL $$", "exec sleep 600"])
def test_what_the_child_has_started_ends_with_it(folder: Path, monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    monkeypatch.setattr(harness, "AFTER_WATCHDOG_S", 0.1)
    script = f"{PROGRAMS}; {end}"
    if end == FINISH:
        run(folder, script, watchdog_s=0.1)
    else:
        failure(folder, script, watchdog_s=0.1)
    assert all(map(is_gone, programs(folder)))


def test_what_the_child_has_started_ends_with_a_parent_that_is_killed(folder: Path) -> None:
    (folder / "recipe" / "run.sh").write_text(f"cd {folder}\n{PROGRAMS}\nexec sleep 600\n")
    settings = {"benchmark": "digits", "system": "here", "batch_size": 1, "instances": 1, "threads_per_instance": 1}
    program = f"""
from pathlib import Path
from engineroom.config import RunConfig
from engineroom.steps import harness
from engineroom.terms import Scenario, TestMode
settings = RunConfig(scenario=Scenario.SERVER, test_mode=TestMode.PERFORMANCE_ONLY, **{settings})
harness.run_test(settings, Path({str(folder)!r}))
"""
    environment = {**os.environ, "PYTHONPATH": str(CODE)}
    with subprocess.Popen([sys.executable, "-c", program], env=environment, stderr=subprocess.DEVNULL) as parent:
        end_s, family = time.monotonic() + 30, []
        while len(family) < 4:  # the child, its two programs, and who watches over them
            assert parent.poll() is None and time.monotonic() < end_s
            time.sleep(0.02)
            family = psutil.Process(parent.pid).children(recursive=True) if (folder / "pids").exists() else []
        parent.kill()
    assert all(is_gone(each.pid) for each in family)


def test_a_child_that_the_kernel_does_not_let_go_hangs_nobody(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As one that is in a driver's call: here, signals do not arrive."""
    monkeypatch.setattr(harness, "AFTER_WATCHDOG_S", 0.1)
    monkeypatch.setattr(harness, "END_S", 0.2)
    monkeypatch.setattr(processes, "end_session", lambda session: None)
    assert "made no progress" in failure(folder, "echo $$ > pid; exec sleep 600", watchdog_s=0.01).what
    pid = int((folder / "pid").read_text())
    assert f"process {pid} does not end: the kernel waits for a driver or a disk" in capsys.readouterr().err
    os.kill(pid, signal.SIGKILL)


def test_the_child_is_ended_when_the_parent_is_interrupted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(child: object) -> None:
        if (folder / "pid").exists():
            raise KeyboardInterrupt

    monkeypatch.setattr(harness, "_wait", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(folder, "echo $$ > pid.beside; mv pid.beside pid; exec sleep 600")
    assert is_gone(int((folder / "pid").read_text()))


def test_the_child_knows_its_parent_and_nothing_that_changes_its_python(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PYTHONPATH", "PYTHONHOME", "RUN_ARGS"):
        monkeypatch.setenv(name, "/no/such/place")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    run(folder, f"env > environment; {FINISH}")
    environment = dict(line.partition("=")[::2] for line in (folder / "environment").read_text().splitlines())
    assert not {"PYTHONPATH", "PYTHONHOME", "RUN_ARGS"} & environment.keys()
    assert environment["OMP_NUM_THREADS"] == "3"
    assert environment["ENGINEROOM_PARENT_PID"] == str(psutil.Process().pid)


def test_the_child_reads_nothing_from_the_terminal(folder: Path) -> None:
    run(folder, f"cat > heard; {FINISH}")
    assert (folder / "heard").read_text() == ""


def test_what_the_system_refuses_is_a_failure_of_this_test(folder: Path) -> None:
    (folder / harness.CHILD_LOG).mkdir()
    error = failure(folder, "exit 0")
    assert error.what == f"the test cannot go on: Is a directory: {folder}/harness.log"


def test_telemetry_is_written_beside_a_test(folder: Path) -> None:
    run(folder, f"sleep 1.3; {FINISH}")
    first, *rows = (folder / "telemetry.csv").read_text().splitlines()
    at_s = [float(row.partition(",")[0]) for row in rows]
    assert first.startswith("elapsed_s,") and len(at_s) >= 2
    assert all(later - at > 0.998 for at, later in pairwise(at_s)), "once a second at most"


# LoadGen's word


def test_the_first_value_of_a_key_counts_as_for_mlcommons_checker_and_errors_are_gathered(folder: Path) -> None:
    write_log(folder, ("key", 1, False), ("key", 2, False), ("bad", "is bad", True), ("num_errors", 1, False))
    log = harness.read_log(folder)
    assert log["key"] == 1 and log["errors"] == ["bad: is bad"]


def test_a_log_that_ends_before_its_last_entry_is_refused(folder: Path) -> None:
    write_log(folder, ("result_validity", "VALID", False), ("result_samples_per_second", 1.0, False))
    with pytest.raises(EngineError, match=r"is cut off after result_samples_per_second\n  was the disk full"):
        harness.read_log(folder)


@pytest.mark.parametrize("tail", [":::MLLOG {", ':::MLLOG {"key": "k"}\n', ":::MLLOG \n"])
def test_a_log_that_is_cut_off_is_refused(folder: Path, tail: str) -> None:
    write_log(folder, ("key", 1, False))
    with (folder / "mlperf_log_detail.txt").open("a") as file:
        file.write(tail)
    with pytest.raises(EngineError, match="is no complete LoadGen log"):
        harness.read_log(folder)


def test_a_log_that_is_not_there_is_named(folder: Path) -> None:
    with pytest.raises(EngineError, match=f"{folder}/mlperf_log_detail.txt: cannot be read"):
        harness.read_log(folder)


def test_a_log_without_a_verdict_gives_no_figure() -> None:
    with pytest.raises(EngineError, match="the test did not end properly"):
        harness.performance(config(), {"result_completed_samples_per_sec": 5, "errors": []}, {})


def test_invalid_is_loadgens_word_and_so_is_the_reason() -> None:
    log = {
        "result_completed_samples_per_sec": 5.0,
        "result_validity": "INVALID",
        "result_invalid_reason": "Min duration not met",
        "errors": [],
    }
    found = harness.performance(config(), log, {"completed_samples": 3})
    assert (found.value, found.valid, found.samples) == (5.0, False, 3)
    assert found.reasons == ("Min duration not met",)


def write_log(folder: Path, *entries: tuple[str, object, bool]) -> None:
    """Write a detail log with (key, value, is_error)."""
    lines = (
        ":::MLLOG " + json.dumps({"key": key, "value": value, "metadata": {"is_error": bad}})
        for key, value, bad in entries
    )
    (folder / "mlperf_log_detail.txt").write_text("".join(f"{line}\n" for line in lines))


def is_gone(pid: int) -> bool:
    """Tell whether a process has ended; one that nobody has waited for yet has ended too."""
    for _ in range(100):
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.02)
    return False
