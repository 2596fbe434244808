"""What a request asks for is settled with reasons that are true."""

from __future__ import annotations

import pytest

from engineroom import registry
from engineroom.actions.work import Work
from engineroom.detection import Machine
from engineroom.run_args import Request
from engineroom.steps import build
from engineroom.terms import Precision, Scenario, TestMode


@pytest.mark.parametrize(
    ("held", "precision", "why"),
    [
        ({}, Precision.INT8, "not known to miss its target"),
        ({Precision.INT8: False}, Precision.FP32, "not known to miss its target"),
        ({Precision.INT8: False, Precision.FP32: True}, Precision.FP32, "not known to miss its target"),
        ({Precision.INT8: False, Precision.FP32: False}, Precision.FP32, "all miss the target"),
    ],
)
def test_the_best_precision_says_why(
    held: dict[Precision, bool], precision: Precision, why: str, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Work, "engine", lambda self, config: config.precision)
    monkeypatch.setattr(build, "known_accuracy", lambda engine, samples, expected, target: held.get(engine))
    work = Work(registry.get("benchmarks", "digits").load().BENCHMARK, Request(), machine)
    found, _ = work.best_precision(work.resolve(Scenario.OFFLINE, TestMode.ACCURACY_ONLY))
    assert (found.config.precision, found.origins["precision"].text) == (precision, f"rule best_precision: {why}")
