"""Disks that are full, and folders that vanish: a log that is not whole is never taken for one."""

from __future__ import annotations

import mmap
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from engineroom.errors import EngineError
from engineroom.steps import accuracy, harness

if TYPE_CHECKING:
    from conftest import Trial

Prepare = Callable[..., "Trial"]
BLOCKS = 2  # of 512 bytes that a shell's ulimit counts in, to a kB
LOGS = ("mlperf_log_summary.txt", "mlperf_log_detail.txt", "mlperf_log_accuracy.json")


def test_a_disk_that_is_full_from_the_start_ends_the_run(trial: Prepare) -> None:
    run = trial()
    for name in LOGS:
        (run.folder / name).symlink_to("/dev/full")
    error = run.fails()
    assert "LoadGen did not write" in error.what and "is the disk full, or the folder gone?" in str(error.mend)


def test_a_disk_that_has_no_room_for_the_counters_ends_the_run_before_the_test(trial: Prepare) -> None:
    run = trial()
    run.shell_lines = f"ulimit -f {2 * BLOCKS}"
    error = run.fails()
    assert f"cannot write {run.folder}/counters.bin: File too large" in error.what
    assert not (run.folder / "mlperf_log_detail.txt").exists()


@pytest.mark.parametrize("pages", [4, 5, 6])  # three for the recipe, one for telemetry.csv, one for the reason
def test_a_small_disk_that_is_really_full_ends_the_run(trial: Prepare, pages: int) -> None:
    """Where it has no room even for the reason, that is the reason."""
    run = trial()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={pages * mmap.PAGESIZE}", "tmpfs", str(run.folder)]
    if os.geteuid() or subprocess.run(mount, stderr=subprocess.DEVNULL).returncode:
        pytest.skip("only root may mount a small disk, and not in every container")
    try:
        (run.folder / "recipe").mkdir()
        error = str(run.fails())
    finally:
        subprocess.run(["umount", str(run.folder)], check=True)
    said = "counters.bin: No space left on device\n" if pages == 5 else "there is no space left for its words\n"
    assert said in error and str(run.folder) in error


def test_samples_that_are_cut_off_while_it_runs_end_the_run(trial: Prepare, tmp_path: Path) -> None:
    run = trial("Server", ms=60_000)
    (sample,) = run.recipe["inputs"]
    sample["path"] = str(shutil.copy(sample["path"], tmp_path / "input.npy"))

    def cut() -> None:
        while not (run.folder / "mlperf_log_detail.txt").exists():
            time.sleep(0.02)
        os.truncate(sample["path"], 0)

    cutter = threading.Thread(target=cut)
    cutter.start()
    error = run.fails()
    cutter.join()
    assert "the harness was ended by SIGBUS; was a file of samples cut off" in error.what


def test_telemetry_that_cannot_be_written_ends_no_test(trial: Prepare, capsys: pytest.CaptureFixture[str]) -> None:
    run = trial()
    (run.folder / "telemetry.csv").symlink_to("/dev/full")
    counters = run.run()
    assert counters["completed_samples"] == counters["issued_samples"] > 0
    assert "telemetry.csv ends here: No space left on device" in capsys.readouterr().err


@pytest.mark.parametrize("mode", ["PerformanceOnly", "AccuracyOnly"])
def test_a_disk_that_fills_up_during_the_test_leaves_logs_that_are_refused(trial: Prepare, mode: str) -> None:
    from engineroom.benchmarks.digits import BENCHMARK

    run = trial(mode=mode)
    run.shell_lines = f"ulimit -f {12 * BLOCKS}"  # more than the counters take, less than the logs
    run.run()
    with pytest.raises(EngineError, match="is no complete LoadGen log|is cut off after"):
        harness.read_log(run.folder)
    if mode == "AccuracyOnly":
        with pytest.raises(EngineError, match="is no complete accuracy log"):
            accuracy.score(BENCHMARK, run.folder, BENCHMARK.labels())


@pytest.mark.heavy
@pytest.mark.parametrize("only", ["the logs", "the folder"])
def test_logs_that_are_removed_while_it_runs_end_the_run(trial: Prepare, only: str) -> None:
    run = trial("Server", ms=3000 if only == "the logs" else 60_000)

    def remove() -> None:
        while not (run.folder / "mlperf_log_detail.txt").exists():
            time.sleep(0.02)
        for path in run.folder.glob("mlperf_log_*"):
            path.unlink()
        if only == "the folder":
            shutil.rmtree(run.folder)

    remover = threading.Thread(target=remove)
    remover.start()
    begin = time.monotonic()
    error = run.fails()
    remover.join()
    assert time.monotonic() - begin < 20
    said = "LoadGen did not write" if only == "the logs" else "the run's folder was removed while it ran"
    assert said in error.what and str(run.folder) in str(error)
