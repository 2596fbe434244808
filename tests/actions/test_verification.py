"""The verdict on TEST01: answers that are not the accuracy run's pass by the rules' fallback, if their scores are near.

Source of the rule: mlcommons/inference at b66003e1, compliance/TEST01/README.md, Part III.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from engineroom import responses, rounds
from engineroom.actions import verification
from engineroom.benchmarks import Part
from engineroom.benchmarks.digits import BENCHMARK
from engineroom.config import RunConfig
from engineroom.datasets import Dataset
from engineroom.runs import AuditResult
from engineroom.steps import accuracy, audit
from engineroom.terms import METRICS, Precision, Scenario, TestMode

RIGHT = list(Dataset("digits").labels(Part.EVALUATION))[:300]
OFFLINE = METRICS[Scenario.OFFLINE].key
CONFIG = RunConfig(
    benchmark="digits",
    system="s",
    scenario=Scenario.OFFLINE,
    test_mode=TestMode.PERFORMANCE_ONLY,
    engine="openvino",
    precision=Precision.FP32,
    dataset="digits",
    batch_size=1,
    instances=1,
    threads_per_instance=1,
)


def answered(path: Path, classes: Sequence[int], *, height: float = 1.0, first: int = 0) -> None:
    """Write a log of answers that name these classes, the highest logit being `height`."""
    answers = [struct.pack("<10f", *(height * (index == each) for index in range(10))).hex() for each in classes]
    lines = [{"seq_id": i, "qsl_idx": first + i, "data": data} for i, data in enumerate(answers)]
    path.write_text(json.dumps(lines))


def verified(folder: Path, classes: Sequence[int], rate: float = 100.0, **more: Any) -> AuditResult:
    """Return the verdict on an audit with these answers beside a run that answered everything right."""
    reference, run = folder / "accuracy", folder / "audit"
    for each in (reference, run):
        each.mkdir()
        for name in audit.LOGS:
            (each / name).write_text("")
    answered(reference / responses.LOG, RIGHT)
    (reference / accuracy.LABELS).write_text("".join(f"{label}\n" for label in RIGHT))
    answered(run / responses.LOG, classes, **more)
    log = {OFFLINE: 100.0, "result_validity": "VALID", "errors": []}
    settings = rounds.read(CONFIG.round).audits.tests[audit.TEST01].of("digits", Scenario.OFFLINE)
    about = verification.Audit(test=audit.TEST01, settings=settings, reference=str(folder), accuracy_run=str(reference))
    compared = verification.Compared(about, log)
    return verification.verify(run, BENCHMARK, CONFIG, compared, {**log, OFFLINE: rate})


def wrong(count: int) -> list[int]:
    """Return the right answers but for the first `count`."""
    return [(label + (place < count)) % 10 for place, label in enumerate(RIGHT)]


def test_answers_that_are_the_accuracy_runs_pass_without_scores(tmp_path: Path) -> None:
    found = verified(tmp_path, RIGHT[100:200], first=100)
    assert (found.passed, found.compared, found.different, found.baseline) == (True, 100, 0, None)
    assert not (tmp_path / "audit/TEST01/accuracy/baseline_accuracy.txt").exists()


@pytest.mark.parametrize(
    ("classes", "height", "different", "compliance"),
    [(RIGHT, 1.001, 300, 100.0), (wrong(2), 1.0, 2, 99.0 + 1 / 3)],  # 0.67%, of 1% that are allowed
    ids=["other logits of the same classes", "two other classes"],
)
def test_answers_that_differ_pass_if_the_scores_are_near(
    tmp_path: Path, classes: list[int], height: float, different: int, compliance: float
) -> None:
    found = verified(tmp_path, classes, height=height)
    assert found.passed and found.answers_agree and found.different == different
    assert (found.baseline, found.compliance) == (100.0, pytest.approx(compliance))
    folder = tmp_path / "audit/TEST01"
    assert (folder / "verify_accuracy.txt").read_text().endswith("TEST FAIL\n"), "the strict comparison still says so"
    told = [(folder / "accuracy" / f"{name}_accuracy.txt").read_text() for name in ("baseline", "compliance")]
    assert told == [
        "accuracy=100.000%, good=300, total=300\n",
        f"accuracy={compliance:.3f}%, good={round(3 * compliance)}, total=300\n",
    ]


def test_answers_that_differ_fail_if_the_scores_are_far(tmp_path: Path) -> None:
    found = verified(tmp_path, wrong(4))  # 1.35% apart
    assert not found.passed and not found.answers_agree
    (reason,) = found.reasons
    assert reason.startswith(
        "4 of 300 answers are not the accuracy run's, and the scores are more than 1% apart: 98.667"
    )


def test_near_scores_are_those_of_the_same_samples(tmp_path: Path) -> None:
    """The 4 wrong answers are 1.3% of the accuracy run's, and 4% of the 100 that the audit has."""
    found = verified(tmp_path, wrong(4)[:100])
    assert not found.passed and found.compliance == pytest.approx(96.0)


def test_near_scores_make_up_neither_for_a_sample_that_was_never_scored_nor_for_a_slow_audit(tmp_path: Path) -> None:
    for name in ("unknown", "slow"):
        (tmp_path / name).mkdir()
    unknown = verified(tmp_path / "unknown", RIGHT, first=1)
    assert not unknown.passed and unknown.reasons == ("1 answers are to samples that the accuracy run has not",)
    slow = verified(tmp_path / "slow", RIGHT, rate=80.0, height=1.001)
    assert not slow.passed and slow.answers_agree and "the score 80 is not 90 to 110" in slow.reasons[0]
