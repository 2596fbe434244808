"""A plan says what the next call does, in its words, and does nothing: in a checkout where nothing is made yet."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from engineroom import registry
from engineroom.actions import plan
from engineroom.actions.work import Work
from engineroom.detection import Machine
from engineroom.run_args import Request
from engineroom.steps.estimate import RECORDED, ROUGH, SETTINGS, SIZES, Amount, Cost, exactly
from engineroom.terms import Scenario, TestMode, Weights

ASKED = "--engine=onnxruntime --precision=int8 --scenarios=Offline"
TOLD = re.compile(r"(.+): (made|reused) (\S+) \((.+)\)")
STATES = {"made": "make", "reused": "reuse"}


def _inv(command: Any, checkout: Path, task: str, run_args: str, code: int = 0) -> Any:
    environ = {"PYTHONPATH": str(checkout / "code"), "PYTHONDONTWRITEBYTECODE": "1", "RUN_ARGS": run_args}
    done = command([sys.executable, "-m", "invoke", task], checkout, **environ)
    assert done.returncode == code, done.stderr
    return done


def _state(folder: Path) -> dict[str, Any]:
    """Return what would show that anything below `folder` was written, made or removed."""
    found = {}
    for path in (folder, *folder.rglob("*")):
        status = path.lstat()
        found[str(path)] = (status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino)
    return found


def _plan(command: Any, checkout: Path, task: str, run_args: str, code: int = 0) -> Any:
    """Return the plan after making sure that nothing was done for it."""
    before = _state(checkout)
    done = _inv(command, checkout, task, f"--plan {run_args}", code)
    assert _state(checkout) == before
    return json.loads(done.stdout) if "--json" in run_args else done


def _told(done: Any) -> list[tuple[str, str, str]]:
    """Return what a task made or reused, and why: as it said."""
    found = [TOLD.fullmatch(line) for line in done.stderr.splitlines()]
    return [(line[1], STATES[line[2]], line[4]) for line in found if line]


def _made(steps: Any) -> list[tuple[str, str, str]]:
    """Return the same of a plan's steps, without files that are only checked."""
    return [
        (step["what"], step["state"], step["why"])
        for step in steps
        if step["state"] != "run" and "SHA-256" not in step["why"]
    ]


@pytest.mark.heavy
def test_the_next_call_does_what_the_plan_said(checkout: Path, command: Any) -> None:
    first = _plan(command, checkout, "generate_engines", f"--json {ASKED}")
    assert [step["state"] for step in first["steps"]] == ["reuse", "reuse", "make", "make", "make"]
    assert {step["cost"]["seconds"]["source"] for step in first["steps"]} == {"", ROUGH}
    assert _told(_inv(command, checkout, "generate_engines", ASKED)) == _made(first["steps"])

    again = _plan(command, checkout, "generate_engines", f"--json {ASKED}")
    assert {step["state"] for step in again["steps"]} == {"reuse"}
    assert again["total"]["seconds"]["most"] == again["total"]["disk_bytes"]["most"] == 0


@pytest.mark.parametrize(
    "task", ["download_data", "download_model", "preprocess_data", "calibrate", "run", "run_harness"]
)
def test_no_task_does_anything_when_asked_for_its_plan(checkout: Path, command: Any, task: str) -> None:
    shown = _plan(command, checkout, task, ASKED).stdout
    assert shown.startswith("Plan\n")
    assert ("compiling" in shown) is False
    assert ("native harness" in shown) is (task in ("run", "run_harness"))


@pytest.mark.parametrize("asked", [f"--no_build {ASKED}", "--scenarios=Offlin --batch_size=0"])
def test_a_request_that_cannot_be_served_is_refused_as_without_plan(checkout: Path, command: Any, asked: str) -> None:
    said = _plan(command, checkout, "generate_engines", asked, code=2).stderr
    assert said == _inv(command, checkout, "generate_engines", asked, code=2).stderr
    assert said.startswith("error: ")


def test_what_surely_does_not_fit_is_refused_after_the_plan(checkout: Path, command: Any) -> None:
    """A billion queries a second for ten minutes, of some 500 bytes each."""
    asked = "--engine=null --scenarios=Server --server_target_qps=1e9 --min_duration=600000 --test_mode=PerformanceOnly"
    done = _plan(command, checkout, "run_harness", asked, code=2)
    assert "Does not fit: memory: " in done.stdout
    assert re.search(r"error: this does not fit here: memory: 300 TB needed, .* free\n", done.stderr)
    assert done.stderr.splitlines()[-1] == "exit code 2"
    started = _inv(command, checkout, "run_harness", asked, code=2)
    assert (
        "error: --server_target_qps: LoadGen's queries alone would take 300,000 GB; this machine has " in started.stderr
    )
    asked = "--engine=null --scenarios=SingleStream --min_query_count=1000000000"
    started_again = _inv(command, checkout, "run_harness", asked, code=2)
    assert "error: --min_query_count: LoadGen's queries alone would take 500 GB; " in started_again.stderr
    assert not (checkout / "build" / "native").exists(), "it is refused before the first minute is spent"


@pytest.mark.parametrize(
    ("amount", "seconds", "size"),
    [
        (Amount(0, 0, ""), "-", "-"),
        (Amount(4.25, 4.25, RECORDED), "4.2 s", "0 kB"),
        (Amount(60, 90, SETTINGS), "60 to 90 s", "0 kB"),
        (Amount(90, 600, SETTINGS), "90 s to 10 min", "0 to 1 kB"),
        (Amount(3, None, SETTINGS), "at least 3.0 s", "at least 0 kB"),
        (Amount(0, None, ROUGH), "unknown", "unknown"),
        (Amount(0, 7200.0, RECORDED), "at most 2.0 h", "at most 7 kB"),
        (Amount(2.5e6, 2.5e6, ROUGH), "about 694 h", "about 2.5 MB"),
    ],
)
def test_amounts_are_told_in_words(amount: Amount, seconds: str, size: str) -> None:
    assert (plan._seconds(amount), plan._bytes(amount)) == (seconds, size)


@pytest.mark.parametrize(
    ("needed", "free", "fits"),
    [
        (exactly(1000, SIZES), 1000, plan.YES),
        (exactly(1000, SIZES), 999, plan.NO),
        (exactly(1000, ROUGH), 999, plan.PERHAPS),
        (Amount(500, 1500, SIZES), 999, plan.PERHAPS),
        (Amount(500, None, SIZES), 10**9, plan.PERHAPS),
    ],
)
def test_each_file_system_is_looked_at_for_room(
    needed: Amount, free: int, fits: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """build/engines lies on a file system of its own that is full; the other one has room."""
    monkeypatch.setattr(plan.estimate, "disk", lambda path: (1, free) if "engines" in str(path) else (2, 10**9))
    written = {"build/engines/s/b": needed, "build/runs": exactly(1000, SIZES)}
    steps = [
        plan.Step(what="s", state=plan.MAKE, why="", folder=folder, cost=Cost(disk_bytes=amount))
        for folder, amount in written.items()
    ]
    rooms = {room.where: room.fits for room in plan._disks(steps)}
    assert rooms == {"disk of build/engines": fits, "disk of build/runs": plan.YES}


def test_samples_are_counted_and_the_answers_are_those_of_the_float_twin(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The images are here, so that only their list is a raw file; the int8 model is a quarter of the one asked."""
    for module in ("asking", "steps.preprocess"):
        monkeypatch.setattr(f"engineroom.{module}.PREPROCESSED_DATA", tmp_path)
    images = tmp_path / "images.sha256"
    images.write_text("a list")
    monkeypatch.setattr(Work, "data", {images: "d" * 64})
    monkeypatch.setattr(Work, "asked_sha256", "a" * 64)
    benchmark = registry.get("benchmarks", "resnet50-torch-int8").load().BENCHMARK.variant("auto", Weights.SYNTHETIC)
    request = Request(plan=True, json=True)
    work = Work(benchmark, request, machine)
    work.expected(work.resolve(Scenario.OFFLINE, TestMode.ACCURACY_ONLY).config)
    plan.making(request, [work])
    samples, answers = (step["cost"] for step in json.loads(capsys.readouterr().out)["steps"])
    assert samples["seconds"]["most"] > 500 / 100 / machine.cpu.usable_cores
    assert answers["seconds"]["most"] == pytest.approx(500 * 102.5e6 / 1e9, rel=0.1)
    assert answers["disk_bytes"]["most"] < 10_000


def test_a_plan_counts_repeated_tests_and_says_what_cannot_be_submitted(checkout: Path, command: Any) -> None:
    ask = "--json --engine=onnxruntime --precision=fp32 --scenarios=Server --server_target_qps=100 --min_duration=4000"
    once, thrice = (_plan(command, checkout, "run_harness", f"{ask} {more}") for more in ("", "--repeat=3"))
    (first, _), (many, accuracy) = ([step for step in each["steps"] if step["test"]] for each in (once, thrice))
    assert (many["what"], accuracy["what"]) == ("digits Server performance, 3 times", "digits Server accuracy")
    assert many["cost"]["seconds"]["least"] == pytest.approx(3 * first["cost"]["seconds"]["least"])
    assert many["cost"]["memory_bytes"] == first["cost"]["memory_bytes"]
    assert once["rules"] == []  # of what is no MLPerf benchmark its notes say so
    refused = _inv(command, checkout, "run_harness", f"{ask} --repeat=0", code=2)
    assert "--repeat: is '0', must be a whole number from 1 to" in refused.stderr


def test_a_plan_of_audits_counts_every_try(checkout: Path, command: Any) -> None:
    ask = "--json --engine=onnxruntime --precision=fp32 --scenarios=Server --server_target_qps=100 --min_duration=4000"
    tests = _plan(command, checkout, "run_harness", ask)
    audited = _plan(command, checkout, "run_audit_harness", f"{ask} --audit_test=TEST01,TEST04")
    performance = next(step for step in tests["steps"] if step["test"])["cost"]["seconds"]
    steps = {step["what"]: step["cost"]["seconds"] for step in audited["steps"] if "times" in step["what"]}
    assert list(steps) == ["digits Server TEST01, 1 to 2 times", "digits Server TEST04, 1 to 3 times"]
    for seconds, tries in zip(steps.values(), (2, 3), strict=True):
        assert (seconds["least"], seconds["most"]) == (performance["least"], pytest.approx(tries * performance["most"]))
    total = audited["total"]["seconds"]
    assert total["most"] - total["least"] >= (1 + 2) * performance["most"]
