"""Which audits are staged beside a result of the closed division: those of its very runs, whole and passed."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from desk import CLOSED, EDGE, MULTI, OFFLINE, SINGLE, WHO, refused, staged, tree

from engineroom.terms import TestMode

if TYPE_CHECKING:
    from conftest import Runs


def test_the_closed_division_wants_the_audits_of_these_very_runs(made: Runs, tmp_path: Path) -> None:
    for scenario in EDGE:
        made.audited(scenario)
    staged(CLOSED)
    closed = tree(tmp_path, division="closed") / "results/bench/resnet50/Offline"
    assert (closed / "TEST01/verify_accuracy.txt").is_file() and (closed / "TEST04/verify_performance.txt").is_file()
    for path in made.folder.glob("*-Offline-TEST04"):
        shutil.rmtree(path)
    assert re.search(r"resnet50 Offline: has no TEST04 .*\n.*has no TEST04: it was not run", refused(CLOSED))


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"batch_size": 8}, "differs in batch_size 1 and 8"),
        ({"engine": "onnxruntime"}, "differs in engine openvino and onnxruntime"),
        ({"made_from": {"model": "n" * 64}}, "differs in model mmmmmmmmmmmm... and nnnnnnnnnnnn..."),
        ({"revision": "0123abc"}, "it was not run"),
    ],
)
def test_an_audit_that_names_a_run_and_was_made_otherwise_is_refused(
    made: Runs, more: dict[str, Any], why: str
) -> None:
    for scenario in (SINGLE, MULTI):
        made.audited(scenario)
    made.audited(OFFLINE, audits=more)
    assert re.search(rf"has no TEST01: (\S+-TEST01 )?{re.escape(why)}", refused(CLOSED))


def test_an_audit_of_another_machine_is_refused(made: Runs) -> None:
    for scenario in (SINGLE, MULTI):
        made.audited(scenario)
    made.audited(OFFLINE, audits={"machine": replace(made.machine, cpu=replace(made.machine.cpu, model="Another CPU"))})
    assert "two machines bear the name bench" in refused(CLOSED)


def test_a_newer_accuracy_run_takes_nothing_from_the_audits_of_an_older_one(made: Runs, tmp_path: Path) -> None:
    made.audited(SINGLE)
    (older,) = made.folder.glob("*-SingleStream-AccuracyOnly")
    newer = made.add(SINGLE, TestMode.ACCURACY_ONLY)
    assert newer.name > older.name
    staged(CLOSED)
    kept = json.loads((tmp_path / "submission/v6.1-closed-Acme.staged.json").read_text())["runs"]
    assert kept["bench resnet50 SingleStream"]["accuracy"] == str(older)


def test_an_audit_that_passes_makes_up_for_none_that_found_other_answers(made: Runs) -> None:
    performance, accuracy = made.pair(SINGLE)
    caught = made.audit("TEST01", SINGLE, performance, accuracy, agrees=False)
    for test, beside in (("TEST01", accuracy), ("TEST04", "")):
        made.audit(test, SINGLE, performance, beside)
    assert f"has other answers than {performance}: {caught} found it" in refused(CLOSED)
    staged(WHO)  # the open division asks for no audits


@pytest.mark.parametrize("how", ["is not what the run wrote", "is gone", "is not of the run"])
def test_an_audit_whose_files_were_touched_is_refused(made: Runs, how: str) -> None:
    for scenario in EDGE:
        made.audited(scenario)
    path = next(made.folder.glob("*-Offline-TEST01")) / "TEST01/verify_accuracy.txt"
    if how == "is gone":
        path.unlink()
    elif how == "is not of the run":
        path = path.with_name("notes.txt")
        path.write_text("more\n")
    else:
        path.write_text("TEST PASS\n")
    assert f"TEST01/{path.name}: {how}" in refused(CLOSED)
