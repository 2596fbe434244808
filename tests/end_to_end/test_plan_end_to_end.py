"""What a plan says is made, reused and run is what the run then does; and the plan itself does nothing."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import Checkout

ROOT = Path(__file__).resolve().parents[2]
QUICK = "--min_duration=300 --probe_s=0.2 --server_target_latency_ns=1000000000"
TOLD = re.compile(r"(.+): (made|reused) build/\S+ \((.+)\)")
STATES = {"made": "make", "reused": "reuse"}

pytestmark = pytest.mark.heavy


def _state(folder: Path) -> dict[str, Any]:
    """Return what would show that anything below `folder` was written; Python's own caches of modules aside."""
    found = {}
    for path in (folder, *folder.rglob("*")):
        if "__pycache__" not in path.parts and not (path / "__pycache__").exists():
            status = path.lstat()
            found[str(path)] = (status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino)
    return found


def _plan(checkout: Checkout, run_args: str, task: str = "run_harness") -> dict[str, Any]:
    before = _state(checkout.root)
    plan: dict[str, Any] = json.loads(checkout.good(task, f"--plan --json {run_args}").out)
    assert _state(checkout.root) == before
    return plan


def _counted(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [step for step in plan["steps"] if not step["only_if"]]


def _made(plan: dict[str, Any]) -> list[tuple[str, str, str]]:
    skipped = ("native harness", ", model", ", data")
    return [
        (step["what"], step["state"], step["why"])
        for step in _counted(plan)
        if step["state"] != "run" and not step["what"].endswith(skipped)
    ]


def _tests(plan: dict[str, Any]) -> list[tuple[str, ...]]:
    names = ("benchmark", "scenario", "test_mode", "engine", "precision")
    return [tuple(step["test"][name] for name in names) for step in _counted(plan) if step["test"]]


def _run(
    checkout: Checkout, run_args: str, task: str = "run_harness"
) -> tuple[list[tuple[str, ...]], list[tuple[str, ...]]]:
    """Run, and return what was made or reused and why, as it was said, and the tests that were run."""
    before = set(checkout.results())
    done = checkout.inv(task, f"--explain {run_args}")
    found = [TOLD.fullmatch(line) for line in done.err.splitlines()]
    names = ("benchmark", "scenario", "test_mode", "engine", "precision")
    ran = [result for path, result in checkout.results().items() if path not in before and not result["replaces"]]
    told = [(line[1], STATES[line[2]], line[3]) for line in found if line]
    return told, [tuple(result[name] for name in names) for result in ran]


def _fits(planned: tuple[str, ...], real: tuple[str, ...]) -> bool:
    """Compare what and state; the reason, too, unless it tells of an input that was not known before it was made."""
    return planned[:2] == real[:2] and (planned[2] == real[2] or "not known before it is made" in planned[2])


@pytest.mark.parametrize(
    ("start", "task"),
    [("nothing made", "run_harness"), ("furnished", "run"), ("another batch size", "run_harness")],
)
def test_a_run_does_what_its_plan_said(
    furnished: Checkout, copy_checkout: Callable[[Path, Path], Checkout], tmp_path: Path, start: str, task: str
) -> None:
    source = ROOT if start == "nothing made" else furnished.root
    checkout = copy_checkout(source, tmp_path / "checkout")
    asked = f"--scenarios=Offline,SingleStream {QUICK}"
    if start == "another batch size":
        asked += " --batch_size=16"
        definition = checkout.root / "code/engineroom/benchmarks/digits.py"
        definition.write_text(
            definition.read_text().replace("    classes = 10\n", "    classes = 10\n    judged_by_float = True\n")
        )
    plan = _plan(checkout, asked, task)
    told, ran = _run(checkout, asked, task)
    planned = _made(plan)
    assert len(planned) == len(told)
    for expected, real in zip(planned, told, strict=True):
        assert _fits(expected, real), (expected, real)
    assert _tests(plan) == ran

    again = _plan(checkout, asked, task)
    assert {step["state"] for step in _counted(again)} == {"reuse", "run"}
    assert {step["cost"]["seconds"]["source"] for step in _counted(again) if step["test"]} == {"recorded"}
    assert not [step for step in again["steps"] if step["only_if"]], "that int8 holds is known"
    assert all(room["fits"] == "yes" for room in again["rooms"])


def test_what_follows_from_a_calibration_that_is_gone_is_left_open(copy: Checkout) -> None:
    shutil.rmtree(copy.root / "build/calibration")
    asked = f"--scenarios=Offline --precision=int8 --test_mode=AccuracyOnly {QUICK}"
    (*_, engine) = _made(_plan(copy, asked))
    assert engine[1:] == ("perhaps", "reused if this comes out as it was: model")
    told, _ = _run(copy, asked)
    assert told[-1][1] == "reuse"


def test_what_a_miss_would_lead_to_is_said_and_known_misses_are_left_out(copy: Checkout) -> None:
    asked = f"--scenarios=Offline --test_mode=AccuracyOnly {QUICK}"
    definition = copy.root / "code/engineroom/benchmarks/digits.py"
    definition.write_text(definition.read_text().replace("accuracy_target_ratio = 0.99", "accuracy_target_ratio = 1.1"))
    shutil.rmtree(copy.root / "build/preprocessed_data")  # its key holds the file's checksum
    plan = _plan(copy, asked)
    follows = [step for step in plan["steps"] if step["only_if"]]
    assert {step["only_if"] for step in follows} == {"digits Offline misses its accuracy target in int8"}
    following = [tuple(step["test"].values())[4] for step in follows if step["test"]]
    assert following == ["fp32"]

    _, ran = _run(copy, asked)
    assert [test[-1] for test in ran] == ["int8", *following]
    plan = _plan(copy, asked)
    assert [test[-1] for test in _tests(plan)] == ["fp32"]
    assert not [step for step in plan["steps"] if step["only_if"]]
    _, ran = _run(copy, asked)
    assert [test[-1] for test in ran] == ["fp32"]


def test_a_harness_that_is_gone_is_planned_and_left_gone(copy: Checkout) -> None:
    shutil.rmtree(copy.root / "build/lib")
    plan = _plan(copy, f"--scenarios=Offline {QUICK}")
    (native,) = [step for step in plan["steps"] if "native harness" in step["what"]]
    assert (native["state"], native["why"]) == ("make", "first time")
    assert native["cost"]["seconds"]["source"] == "rough"
    refused = copy.inv("run_harness", f"--plan --no_build --scenarios=Offline {QUICK}")
    assert refused.code == 2
    assert "LoadGen and the native harness must be compiled (first time)" in refused.err
