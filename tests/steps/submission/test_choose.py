"""Which finished runs are staged: what belongs together, and what is refused and why."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from desk import MULTI, OFFLINE, SINGLE, WHO, all_scenarios, record, refused, staged, tree

from engineroom.terms import TestMode

if TYPE_CHECKING:
    from conftest import Runs


def test_runs_of_another_round_are_refused(made: Runs) -> None:
    all_scenarios(made)
    assert "was held against the rules of v6.1, not of v5.1" in refused(WHO, "--round=v5.1")


def test_the_best_valid_run_is_taken_with_the_accuracy_run_made_alike(made: Runs, tmp_path: Path) -> None:
    all_scenarios(made)
    made.add(OFFLINE, log={"result_samples_per_second": 999.0}, valid=False)  # the fastest, but INVALID
    best, accuracy = made.pair(OFFLINE, log={"result_samples_per_second": 300.0}, batch_size=8)
    stream, _ = made.pair(SINGLE, log={"early_stopping_latency_ss": 4_000_000})  # a latency: less is better
    made.pair(SINGLE, log={"early_stopping_latency_ss": 4_500_000})
    staged()
    assert record(tmp_path)["bench resnet50 Offline"] == {"performance": str(best), "accuracy": str(accuracy)}
    assert record(tmp_path)["bench resnet50 SingleStream"]["performance"] == str(stream)


def test_a_better_run_without_its_accuracy_run_is_told(made: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    all_scenarios(made)
    made.add(OFFLINE, log={"result_samples_per_second": 900.0}, batch_size=64)
    staged()
    told = " ".join(capsys.readouterr().out.split())
    assert re.search(
        r"resnet50 Offline: \S+PerformanceOnly has no accuracy run: .*differs in batch_size 64 and 1", told
    )


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"batch_size": 8}, "differs in batch_size 1 and 8"),
        ({"made_from": {"model": "n" * 64}}, "differs in model mmmmmmmmmmmm... and nnnnnnnnnnnn..."),
        ({"performance_sample_count": 1024}, "differs in performance_sample_count None and 1024"),
        ({"divisions": ()}, "is not submittable to the open division"),
    ],
)
def test_an_accuracy_run_made_otherwise_is_refused_with_what_differs(
    made: Runs, tmp_path: Path, more: dict[str, Any], why: str
) -> None:
    for scenario in (SINGLE, MULTI):
        made.pair(scenario)
    made.add(OFFLINE)
    made.add(OFFLINE, TestMode.ACCURACY_ONLY, **more)
    said = refused()
    assert "resnet50 Offline: has no accuracy run that belongs to its performance run" in said
    assert why in said and "make submission RUN_ARGS=" in said
    assert not (tmp_path / "submission" / "v6.1").exists()


def test_all_scenarios_come_from_one_revision_of_the_code(made: Runs, tmp_path: Path) -> None:
    all_scenarios(made)
    made.pair(OFFLINE, revision="0123abc", log={"result_samples_per_second": 999.0})
    staged()
    assert "999" not in (tree(tmp_path) / "results/bench/resnet50/Offline/README.md").read_text()


@pytest.mark.parametrize(
    ("revision", "why"),
    [
        ("0123abc-dirty", "was run with changes to the code that no revision names: commit them first"),
        ("unknown", "was run outside of a git checkout, so no revision names its code: run it in a clone"),
    ],
)
def test_code_that_no_revision_names_is_refused_but_for_a_rehearsal(made: Runs, revision: str, why: str) -> None:
    all_scenarios(made, revision=revision)
    assert why in refused()
    staged(("--division=open", "--rehearsal"))


@pytest.mark.parametrize("content", ["[]", '{"revision": "x", "machine": []}'])
def test_a_run_whose_environment_is_damaged_is_named_and_not_used(made: Runs, content: str) -> None:
    all_scenarios(made)
    path = next(made.folder.glob("*Offline-PerformanceOnly")) / "env.json"
    path.write_text(content)
    assert "env.json: cannot be read" in refused_offline(made)


def test_a_partial_run_and_one_of_another_version_are_named_and_not_used(made: Runs) -> None:
    for scenario in (SINGLE, MULTI):
        made.pair(scenario)
    performance, accuracy = made.pair(OFFLINE)
    performance.rename(performance.with_name(f"{performance.name}.partial"))
    config = accuracy / "run_config.yaml"
    config.write_text(f"{config.read_text()}of_tomorrow: 1\n")
    said = refused_offline(made)
    assert "did not finish" in said and "does not fit this version of Engineroom" in said


def refused_offline(made: Runs) -> str:
    """Return why Offline is refused, where no scenario is there that it could be inferred from."""
    for path in made.folder.glob("*Stream*"):
        shutil.rmtree(path)
    return refused()


@pytest.mark.parametrize("name", ["mlperf_log_detail.txt", "recipe/user.conf"])
@pytest.mark.parametrize("how", ["edited", "gone"])
def test_a_run_that_was_edited_is_refused(made: Runs, tmp_path: Path, name: str, how: str) -> None:
    all_scenarios(made)
    path = next(made.folder.glob("*Offline-PerformanceOnly")) / name
    if how == "gone":
        path.unlink()
    else:
        path.write_text(f"{path.read_text()}\n")
    said = refused()
    assert f"{name}: {'is gone' if how == 'gone' else 'is not what the run wrote'}" in said
    assert not (tmp_path / "submission" / "v6.1").exists()


def test_a_result_that_says_more_than_its_log_is_refused(made: Runs) -> None:
    all_scenarios(made)
    path = next(made.folder.glob("*Offline-PerformanceOnly")) / "result.json"
    told = json.loads(path.read_text())
    told["performance"]["value"] = 999.0
    path.write_text(json.dumps(told))
    assert "says that value is 999.0, but LoadGen's log says 100.0" in refused()


def test_a_benchmark_without_runs_says_how_to_run_it(made: Runs) -> None:
    said = refused()
    assert "resnet50 SingleStream: has no performance run that fits on bench" in said
    assert (
        'make submission RUN_ARGS="--benchmarks=resnet50 --division=open --category=edge" runs what is missing' in said
    )


def test_two_machines_of_one_name_are_refused(made: Runs) -> None:
    other = replace(made.machine, cpu=replace(made.machine.cpu, model="Another CPU"))
    for scenario in (SINGLE, MULTI):
        made.pair(scenario)
    made.pair(OFFLINE, machine=other)
    said = refused()
    assert "two machines bear the name bench: 1x Test CPU of 4 cores" in said and "1x Another CPU" in said
