"""What int8 costs is counted as anybody would count it, over the samples asked for, and each model is asked once."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from engineroom import asking
from engineroom.artifacts import Artifact, State
from engineroom.benchmarks import Part
from engineroom.benchmarks.digits import BENCHMARK, MODEL, MODEL_SHA256, Digits
from engineroom.config import RunConfig
from engineroom.paths import sha256_file
from engineroom.steps import answers, fetch, observers, preprocess
from engineroom.steps.observers import Candidate, Comparison
from engineroom.terms import Precision, Scenario, TestMode, Weights

CONFIG = RunConfig(
    benchmark="digits",
    system="s",
    scenario=Scenario.OFFLINE,
    test_mode=TestMode.ACCURACY_ONLY,
    engine="onnxruntime",
    precision=Precision.INT8,
    batch_size=4,
    instances=1,
    threads_per_instance=1,
)


@pytest.fixture(autouse=True)
def shelves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what the tests make out of build/."""
    monkeypatch.setattr(observers, "CALIBRATION", tmp_path / "calibration")
    monkeypatch.setattr(preprocess, "PREPROCESSED_DATA", tmp_path / "samples")
    monkeypatch.setattr(asking, "PREPROCESSED_DATA", tmp_path / "samples")


@pytest.fixture(name="samples")
def samples_fixture() -> Artifact:
    """The preprocessed evaluation samples."""
    return preprocess.preprocess(BENCHMARK, Part.EVALUATION, fetch.check_data(BENCHMARK), cores=1)


@pytest.fixture(name="worse")
def worse_fixture(tmp_path: Path) -> Candidate:
    """A model that is wrong more often: the digits' own, which sees threes too readily."""
    model = onnx.load(MODEL)
    tensor = next(each for each in model.graph.initializer if each.name == "logits.bias")
    bias = numpy_helper.to_array(tensor).copy()
    bias[3] += 12
    tensor.CopyFrom(numpy_helper.from_array(bias, tensor.name))
    path = tmp_path / "worse.onnx"
    onnx.save(model, path)
    return Candidate("worse", "minmax", "key", 1.5, path, sha256_file(path))


def compared(
    samples: Artifact, candidate: Candidate, limit: int | None = None, benchmark: Digits = BENCHMARK
) -> Comparison:
    """Compare one candidate with the digits' model."""
    return observers.compare(benchmark, CONFIG, MODEL_SHA256, [candidate], samples, limit)


def named(model: Path, count: int) -> list[int]:
    """Return the digits that a model names, straight from ONNX Runtime."""
    samples = BENCHMARK.preprocess(Part.EVALUATION, 0, count)
    logits = onnxruntime.InferenceSession(model).run(["logits"], samples)[0]
    return [int(row.argmax()) for row in logits]


@pytest.mark.parametrize(("limit", "count"), [(None, 500), (70, 70), (9_999, 500)])
def test_accuracy_and_agreement_are_counted_over_the_samples_asked_for(
    samples: Artifact, worse: Candidate, limit: int | None, count: int
) -> None:
    found = compared(samples, worse, limit)
    right, as_float, as_worse = list(BENCHMARK.labels())[:count], named(MODEL, count), named(worse.model, count)
    good = sum(map(int.__eq__, as_worse, right))
    assert as_worse != as_float
    [row] = found.rows
    assert (found.samples, found.metric, row.good) == (count, "top-1", good)
    assert found.float_accuracy == pytest.approx(100 * sum(map(int.__eq__, as_float, right)) / count)
    assert row.accuracy == pytest.approx(100 * good / count)
    assert row.lost == pytest.approx(found.float_accuracy - row.accuracy)
    assert row.agreement == pytest.approx(100 * sum(map(int.__eq__, as_worse, as_float)) / count)
    kept = json.loads((observers.CALIBRATION / "digits" / "observers-digits-reference.json").read_text())
    assert kept["rows"][0]["accuracy"] == row.accuracy and kept["samples"] == count


def test_where_labels_mean_nothing_the_float_model_is_right(samples: Artifact, worse: Candidate) -> None:
    class Meaningless(Digits):
        judged_by_float = True  # type: ignore[assignment]

    found = compared(samples, worse, benchmark=Meaningless())
    [row] = found.rows
    assert found.float_accuracy == 100 and found.metric == "agreement"
    assert row.accuracy == row.agreement == pytest.approx(100 - row.lost)


def test_comparisons_of_other_weights_and_data_are_kept_beside_each_other(samples: Artifact, worse: Candidate) -> None:
    seeded, own = Digits(), Digits()
    seeded.weights, own.own_model = Weights.SYNTHETIC, MODEL
    each = [compared(samples, worse, 20, benchmark) for benchmark in (BENCHMARK, seeded, own)]
    assert [json.loads(comparison.kept_at.read_text())["weights"] for comparison in each] == [
        "reference",
        "synthetic",
        "own",
    ]


def test_a_model_is_asked_once(samples: Artifact, worse: Candidate, tmp_path: Path) -> None:
    first = compared(samples, worse, 40)
    shelf = tmp_path / "samples" / "digits" / "digits" / "answers"
    made = {path: path.stat().st_mtime_ns for path in shelf.glob("*/*")}
    assert compared(samples, worse, 40) == first
    assert {path: path.stat().st_mtime_ns for path in shelf.glob("*/*")} == made
    compared(samples, worse, 50)
    assert len(list(shelf.glob("*/labels.txt"))) == 4


def test_what_runs_are_scored_by_is_not_asked_for_again(samples: Artifact, worse: Candidate) -> None:
    compared(samples, worse)
    shared = answers.answers(BENCHMARK, CONFIG, MODEL_SHA256, samples)
    assert shared.state is State.REUSED
    assert answers.read(shared.file(answers.LABELS)) == named(MODEL, 500)
