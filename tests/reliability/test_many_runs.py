"""Many runs in a row leave nothing behind but their folders."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from engineroom import paths

if TYPE_CHECKING:
    from conftest import Trial

Prepare = Callable[..., "Trial"]
SCENARIOS = ("SingleStream", "MultiStream", "Server", "Offline")
RUNS = 200
FIRST = 4  # what is made once in a process is there after one run of each scenario


@pytest.mark.heavy
def test_200_runs_leave_nothing_behind(trial: Prepare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = tmp_path / "elsewhere"
    for variable in ("TMPDIR", "HOME", "XDG_CACHE_HOME"):
        (elsewhere / variable).mkdir(parents=True)
        monkeypatch.setenv(variable, str(elsewhere / variable))
    monkeypatch.chdir(elsewhere)
    kept = sorted(elsewhere.rglob("*"))
    process = psutil.Process()

    def held() -> dict[str, int]:
        threads, files = threading.active_count(), process.num_fds()
        return {
            "threads": max(threads, process.num_threads()),
            "descriptors": files,
            "children": len(process.children(recursive=True)),
        }

    before, shared, built = {}, set[str](), set[str]()
    for number in range(RUNS):
        if number == FIRST:
            before, shared, built = held(), shared_memory(), files_built()
        run = trial(SCENARIOS[number % len(SCENARIOS)], ms=1)
        counters = run.run()
        assert counters["completed_samples"] == counters["issued_samples"] > 0
        shutil.rmtree(run.folder)
    assert held() == before
    # Other programs, or another make in this checkout, may leave some, but none of them one for each of our runs.
    assert len(shared_memory() - shared) < RUNS // 10
    assert len(files_built() - built) < RUNS // 10
    assert sorted(elsewhere.rglob("*")) == kept
    assert not list(run.folder.parent.iterdir())


def shared_memory() -> set[str]:
    """Return the names in the machine's shared memory."""
    return {path.name for path in Path("/dev/shm").iterdir()}


def files_built() -> set[str]:
    """Return every file and folder in build/ outside build/runs, but not what Python keeps of what it imports."""
    found: set[str] = set()
    for folder, folders, files in os.walk(paths.BUILD):
        folders[:] = [name for name in folders if name != "__pycache__" and Path(folder, name) != paths.RUNS]
        found.update(f"{folder}/{name}" for name in (*folders, *files))
    return found
