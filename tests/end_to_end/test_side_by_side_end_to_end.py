"""Two runs in one checkout, at the same time or one after the other: neither disturbs the other."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Checkout

# Nothing of it is there yet: one of the two builds the engine, the other waits for it.
NEW = "--scenarios=SingleStream --precision=fp32 --test_mode=AccuracyOnly"


@pytest.mark.heavy
def test_two_runs_at_the_same_time_share_what_they_build_and_nothing_else(copy: Checkout) -> None:
    started = [copy.start("run_harness", NEW) for _ in range(2)]
    done = [finished(process) for process in started]
    assert [process.returncode for process in started] == [0, 0], done
    made = [line for text in done for line in text.splitlines() if "engine in fp32: made " in line]
    assert len(made) == 1
    first, second = copy.results().values()
    assert first["accuracy"] == second["accuracy"] and first["made_from"] == second["made_from"]
    assert not copy.partial()


@pytest.mark.heavy
def test_the_same_run_twice_makes_two_runs(copy: Checkout) -> None:
    offline = NEW.replace("SingleStream", "Offline")
    kept = {}
    for count in (1, 2):
        copy.good("run_harness", offline)
        assert len(copy.results()) == count
        assert {path: files(path) for path in kept} == kept, "the first run stays as it is"
        kept = {path: files(path) for path in copy.results()}
    first, second = (result["accuracy"] for result in copy.results().values())
    assert first == second


def finished(process: subprocess.Popen[str]) -> str:
    """Wait for the end of a command; return what it printed."""
    out, err = process.communicate(timeout=120)
    return out + err


def files(folder: Path) -> dict[str, int]:
    """Return the files of a folder, each with the time of its last change."""
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*")}
