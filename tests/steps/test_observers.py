"""What int8 costs is counted as anybody would count it, over the samples asked for, and each model is asked once."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from engineroom.artifacts import Artifact
from engineroom.benchmarks import Part
from engineroom.benchmarks.digits import BENCHMARK, MODEL, MODEL_SHA256, Digits
from engineroom.paths import sha256_file
from engineroom.steps import fetch, observers, preprocess
from engineroom.steps.observers import Candidate


@pytest.fixture(autouse=True)
def shelves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what the tests make out of build/."""
    monkeypatch.setattr(observers, "CALIBRATION", tmp_path / "calibration")
    monkeypatch.setattr(preprocess, "PREPROCESSED_DATA", tmp_path / "samples")


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


def named(model: Path, count: int) -> list[int]:
    """Return the digits that a model names, straight from ONNX Runtime."""
    samples = BENCHMARK.preprocess(Part.EVALUATION, 0, count)
    logits = onnxruntime.InferenceSession(model).run(["logits"], samples)[0]
    return [int(row.argmax()) for row in logits]


@pytest.mark.parametrize(("limit", "count"), [(None, 500), (70, 70), (9_999, 500)])
def test_accuracy_and_agreement_are_counted_over_the_samples_asked_for(
    samples: Artifact, worse: Candidate, limit: int | None, count: int
) -> None:
    found = observers.compare(BENCHMARK, MODEL_SHA256, [worse], samples, limit)
    right, as_float, as_worse = list(BENCHMARK.labels())[:count], named(MODEL, count), named(worse.model, count)
    good = sum(map(int.__eq__, as_worse, right))
    assert as_worse != as_float
    [row] = found.rows
    assert (found.samples, found.metric, row.good) == (count, "top-1", good)
    assert found.float_accuracy == pytest.approx(100 * sum(map(int.__eq__, as_float, right)) / count)
    assert row.accuracy == pytest.approx(100 * good / count)
    assert row.lost == pytest.approx(found.float_accuracy - row.accuracy)
    assert row.agreement == pytest.approx(100 * sum(map(int.__eq__, as_worse, as_float)) / count)
    kept = json.loads((observers.CALIBRATION / "digits" / "observers.json").read_text())
    assert kept["rows"][0]["accuracy"] == row.accuracy and kept["samples"] == count


def test_where_labels_mean_nothing_the_float_model_is_right(samples: Artifact, worse: Candidate) -> None:
    class Meaningless(Digits):
        judged_by_float = True  # type: ignore[assignment]

    found = observers.compare(Meaningless(), MODEL_SHA256, [worse], samples)
    [row] = found.rows
    assert found.float_accuracy == 100 and found.metric == "agreement with the float model"
    assert row.accuracy == row.agreement == pytest.approx(100 - row.lost)


def test_a_model_is_asked_once(samples: Artifact, worse: Candidate) -> None:
    first = observers.compare(BENCHMARK, MODEL_SHA256, [worse], samples, 40)
    shelf = observers.CALIBRATION / "digits" / "answers"
    made = {path: path.stat().st_mtime_ns for path in shelf.glob("*/*")}
    assert observers.compare(BENCHMARK, MODEL_SHA256, [worse], samples, 40) == first
    assert {path: path.stat().st_mtime_ns for path in shelf.glob("*/*")} == made
    observers.compare(BENCHMARK, MODEL_SHA256, [worse], samples, 50)
    assert len(list(shelf.glob("*/answers.json"))) == 4
