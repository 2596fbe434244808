"""Audits for real: LoadGen runs them, engines that are honest pass, and those that are not are found out."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from engineroom.steps.harness import read_log

if TYPE_CHECKING:
    from conftest import Checkout

# The rate of Server is LoadGen's own and its limit here is wide: a busy machine fails no band.
# Its batch size is no other test's: the checkout is shared, and a run with the same settings would be found and used.
SERVER = "--scenarios=Server --precision=fp32 --batch_size=48 --min_duration=300 --server_target_latency_ns=1000000000"
STREAM = "--scenarios=SingleStream --precision=fp32 --min_duration=1500 --probe_s=0.2"
# Answers as ONNX Runtime does, but later; how it cheats is said by CROOKED.
CROOKED = '''
"""Answers after DELAY_S. Under TEST01 it may answer otherwise, and it may keep the answer to the last query."""

import os, sys, time
import numpy as np
from engineroom.engines import onnxruntime

HOW, DELAY_S = os.environ.get("CROOKED", ""), float(os.environ.get("DELAY_S", "0"))


class Crooked(onnxruntime.OnnxRuntime):
    name = "crooked"


ENGINE = Crooked()


def open_session(options, inputs, outputs):
    compute = onnxruntime.open_session(options, inputs, outputs)
    last, kept = b"", None

    def infer(arrays):
        nonlocal last, kept
        query = arrays[0].tobytes()
        if HOW != "keeps answers" or query != last:
            time.sleep(DELAY_S)
            last, kept = query, compute(arrays)
        if "TEST01" in " ".join(sys.argv):
            if HOW == "answers differently under audit":
                return [np.roll(array, 1, axis=-1) for array in kept]
            if HOW == "rounds differently under audit":
                return [array * np.float32(1.001) for array in kept]
        return kept

    return infer
'''


def run_audits(checkout: Checkout, run_args: str, **variables: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """Run audits; return the exit code and what each came to, by its name."""
    done = checkout.inv("run_audit_harness", f"--json {run_args}", **variables)
    return done.code, {each["audit"]["test"]: each for each in json.loads(done.out[done.out.index("[\n") :])}


@pytest.mark.heavy
def test_both_audits_pass_beside_runs_that_are_made_once(house: Checkout) -> None:
    before = set(house.results())
    server = f"{SERVER} --server_target_qps=5000 --audit_test=TEST01,TEST04"
    code, audits = run_audits(house, server)
    assert code == 0 and set(audits) == {"TEST01", "TEST04"}
    new = [path for path in house.results() if path not in before]
    assert [path.name.rpartition("-")[2] for path in new] == ["AccuracyOnly", "PerformanceOnly", "TEST01", "TEST04"]
    accuracy, performance, first, fourth = new

    found = audits["TEST01"]["audit"]
    assert found["passed"] and found["compared"] > 400 and found["different"] == 0
    assert (house.root / found["reference"], house.root / found["accuracy_run"]) == (performance, accuracy)
    log = read_log(first)
    assert (log["effective_accuracy_log_sampling_target"], log["effective_test_mode"]) == (4096, "PerformanceOnly")
    assert read_log(fourth)["effective_performance_issue_same_index"] == 3
    assert (first / "recipe/audit.config").is_file() and not list(house.root.glob("audit.config"))
    assert (first / "TEST01/verify_accuracy.txt").read_text().endswith("TEST PASS\n")

    assert run_audits(house, server)[0] == 0
    assert len(set(house.results()) - before) == 6, "only the audits ran again"
    assert subprocess.run([fourth / "recipe/run.sh"], capture_output=True, check=False).returncode == 0
    assert list(house.results())[-1].name.endswith("-TEST04"), "by hand it is an audit, too"

    with (accuracy / "mlperf_log_accuracy.json").open("a") as edited:
        edited.write(" ")
    _, audits = run_audits(house, server.replace(",TEST04", ""))
    assert house.root / audits["TEST01"]["audit"]["accuracy_run"] not in (accuracy, None), (
        "an edited run counts no more"
    )


@pytest.fixture
def crooked(tmp_path: Path) -> dict[str, str]:
    """Return the variables with which the crooked engine is found."""
    (tmp_path / "engines").mkdir()
    (tmp_path / "engines" / "crooked.py").write_text(CROOKED)
    return {"ENGINEROOM_PATH": str(tmp_path)}


@pytest.mark.heavy
def test_an_engine_that_answers_differently_under_audit_is_found_out(house: Checkout, crooked: dict[str, str]) -> None:
    asked = f"{SERVER} --engine=crooked --server_target_qps=2000 --audit_test=TEST01"
    code, audits = run_audits(house, asked, CROOKED="answers differently under audit", **crooked)
    found = audits["TEST01"]["audit"]
    assert code == 1 and not found["passed"] and not found["answers_agree"]
    assert found["different"] == found["compared"] > 0
    assert found["compliance"] < 50 < found["baseline"]
    folder = house.root / audits["TEST01"]["run"]
    assert (folder / "TEST01/verify_accuracy.txt").read_text().endswith("TEST FAIL\n")
    assert (folder / "TEST01/accuracy/compliance_accuracy.txt").read_text().startswith("accuracy=")
    assert folder == list(house.results())[-1], "answers that differ are final: there was no second try"


@pytest.mark.heavy
def test_answers_that_only_round_differently_pass_by_their_scores(house: Checkout, crooked: dict[str, str]) -> None:
    asked = f"{SERVER} --engine=crooked --server_target_qps=2000 --audit_test=TEST01"
    code, audits = run_audits(house, asked, CROOKED="rounds differently under audit", **crooked)
    found = audits["TEST01"]["audit"]
    assert code == 0 and found["passed"] and found["answers_agree"]
    assert found["different"] == found["compared"] > 0 and found["compliance"] == found["baseline"]


@pytest.mark.heavy
@pytest.mark.parametrize("how", ["", "keeps answers"])
def test_an_engine_that_keeps_answers_is_found_out(house: Checkout, crooked: dict[str, str], how: str) -> None:
    asked = f"{STREAM} --engine=crooked --audit_test=TEST04"
    code, audits = run_audits(house, asked, CROOKED=how, DELAY_S="0.005", **crooked)
    found = audits["TEST04"]["audit"]
    assert (code, found["passed"]) == ((1, False) if how else (0, True))
    text = (house.root / audits["TEST04"]["run"] / "TEST04/verify_performance.txt").read_text()
    if how:
        assert found["score"] > 2 * found["reference_score"]
        assert "TEST FAIL: " in text and "the score " in text
    else:
        assert text.endswith("TEST PASS\n")


def test_what_is_no_audit_is_refused(house: Checkout) -> None:
    done = house.inv("run_audit_harness", "--benchmarks=digits")
    assert done.code == 2 and "asks for no audit of digits" in done.err
    done = house.inv("run_audit_harness", "--benchmarks=digits --audit_test=TEST06")
    assert done.code == 2 and "TEST06 is not in this version of Engineroom" in done.err
    done = house.inv("run_audit_test01", "--benchmarks=digits --test_mode=AccuracyOnly")
    assert done.code == 2 and "--test_mode: means nothing to an audit" in done.err
