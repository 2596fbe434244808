"""The float model's answers are its own, whatever type the samples of the model under test have."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest

from engineroom import asking
from engineroom.artifacts import Artifact, State
from engineroom.benchmarks import Made, Part
from engineroom.benchmarks.digits import BENCHMARK, MODEL, MODEL_SHA256, Digits
from engineroom.config import RunConfig
from engineroom.errors import EngineError
from engineroom.steps import answers, fetch, preprocess
from engineroom.terms import Precision, Scenario, TestMode, Weights

CONFIG = RunConfig(
    benchmark="digits",
    system="s",
    scenario=Scenario.OFFLINE,
    test_mode=TestMode.ACCURACY_ONLY,
    engine="litert",
    precision=Precision.FP32,
    batch_size=4,
    instances=1,
    threads_per_instance=1,
)
STEPS = 64  # of the integers that stand for a pixel


class Quantized(Digits):
    """The digits in integers; the float model is a file beside, as a twin is."""

    weights = Weights.SYNTHETIC
    inputs = (replace(Digits.inputs[0], dtype="uint8"),)
    twin = Made(path=MODEL, write=lambda path: None, sources=(), bytes=0)
    synthetic = Made(path=MODEL.with_suffix(".tflite"), write=lambda path: None, sources=(), bytes=0)

    def model_file(self) -> tuple[Path, str]:
        """Return a model that nobody may ask."""
        return MODEL.with_suffix(".tflite"), ""

    def preprocess(self, part: Part, first: int, last: int) -> dict[str, npt.NDArray[np.generic]]:
        """Return the digits in so many steps."""
        return {
            name: np.rint(array * STEPS).astype(np.uint8)
            for name, array in super().preprocess(part, first, last).items()
        }

    def float_input(self, array: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        """Return the pixels that the integers stand for."""
        return array.astype(np.float32) / np.float32(STEPS)


@pytest.fixture(autouse=True)
def shelves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what the tests make out of build/."""
    for module in (asking, preprocess):
        monkeypatch.setattr(module, "PREPROCESSED_DATA", tmp_path / "samples")


def prepared(benchmark: Digits) -> Artifact:
    """Return the preprocessed evaluation samples."""
    return preprocess.preprocess(benchmark, Part.EVALUATION, fetch.check_data(BENCHMARK), cores=1)


def read(made: Artifact) -> list[int]:
    """Return the answers."""
    return answers.read(made.file(answers.LABELS))


def test_a_float_model_is_asked_as_it_is() -> None:
    samples = BENCHMARK.preprocess(Part.EVALUATION, 0, 500)
    logits = onnxruntime.InferenceSession(MODEL).run(["logits"], samples)[0]
    made = answers.answers(BENCHMARK, CONFIG, MODEL_SHA256, prepared(BENCHMARK))
    assert read(made) == [int(row.argmax()) for row in logits]
    assert made.facts == {"samples": 500}


def test_a_float_twin_sees_the_values_that_integers_stand_for() -> None:
    benchmark = Quantized()
    [array] = benchmark.preprocess(Part.EVALUATION, 0, 500).values()
    session = onnxruntime.InferenceSession(MODEL)
    logits = session.run(["logits"], {session.get_inputs()[0].name: array.astype(np.float32) / STEPS})[0]
    assert answers.asked_of(benchmark) == MODEL
    made = answers.answers(benchmark, CONFIG, MODEL_SHA256, prepared(benchmark))
    assert read(made) == [int(row.argmax()) for row in logits]


def test_a_plan_knows_the_answers_by_the_key_they_will_have() -> None:
    planned = preprocess.preprocess(BENCHMARK, Part.EVALUATION, fetch.check_data(BENCHMARK), plan=True)
    asked = answers.answers(BENCHMARK, CONFIG, MODEL_SHA256, planned, plan=True)
    assert asked.state is State.TO_MAKE
    assert answers.answers(BENCHMARK, CONFIG, MODEL_SHA256, prepared(BENCHMARK)).key == asked.key


def test_an_answer_that_names_no_class_says_whose_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Digits, "classes", 3)
    with pytest.raises(
        EngineError, match=r"digits\.onnx, samples 0 to 31: an answer of the float model of digits names"
    ):
        answers.answers(BENCHMARK, CONFIG, MODEL_SHA256, prepared(BENCHMARK))
