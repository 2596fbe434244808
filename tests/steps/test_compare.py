"""An engine's outputs beside the float model's: what differs is found, sample by sample."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from engineroom.actions import compare as action
from engineroom.artifacts import Artifact, State
from engineroom.benchmarks import Part
from engineroom.benchmarks.digits import BENCHMARK, MODEL
from engineroom.config import RunConfig
from engineroom.engines import BuildRequest, placed
from engineroom.engines.onnxruntime import ENGINE as ONNXRUNTIME
from engineroom.engines.openvino import ENGINE as OPENVINO
from engineroom.errors import RequestError
from engineroom.run_args import Request
from engineroom.steps import compare
from engineroom.steps.compare import Comparison
from engineroom.terms import Precision, Scenario, TestMode

SAMPLES = 40


def config(**changes: Any) -> RunConfig:
    made = RunConfig(
        benchmark="digits",
        system="s",
        scenario=Scenario.OFFLINE,
        test_mode=TestMode.ACCURACY_ONLY,
        engine="openvino",
        precision=Precision.FP32,
        batch_size=16,
        instances=1,
        threads_per_instance=1,
    )
    return msgspec.structs.replace(made, **changes)


@pytest.fixture
def samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Artifact:
    """Return the first digits as an artifact; reports go beside it."""
    monkeypatch.setattr(compare, "REPORT", tmp_path / "report")
    folder = tmp_path / "samples"
    folder.mkdir()
    np.save(folder / "input.npy", BENCHMARK.preprocess(Part.EVALUATION, 0, SAMPLES)["input"])
    return Artifact(folder, {}, {}, {"samples": SAMPLES}, State.REUSED, "")


def compared(samples: Artifact, folder: Path, indices: list[int], model: Path = MODEL, **changes: Any) -> Comparison:
    made = config(**changes)
    plugin = {"openvino": OPENVINO, "onnxruntime": ONNXRUNTIME}[made.engine]
    request = BuildRequest(
        made.engine, str(model), "", made.precision, made.batch_size, BENCHMARK.inputs, BENCHMARK.outputs,
        plugin.settings_of(made),
    )  # fmt: skip
    folder.mkdir()
    options = placed(plugin.build(request, folder), folder)
    engine = Artifact(folder, {}, {}, {}, State.REUSED, "")
    return compare.compare(BENCHMARK, made, engine, options, samples, indices)


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_the_same_model_answers_the_same(engine: str, samples: Artifact, tmp_path: Path) -> None:
    found = compared(samples, tmp_path / "engine", list(range(SAMPLES)), engine=engine)
    assert (found.samples, found.agreement, found.reference) == (SAMPLES, 100.0, "ONNX Runtime fp32")
    assert found.relative_error is not None and found.relative_error < 1e-4
    assert json.loads(found.kept_at.read_text())["agreement"] == 100.0


def test_a_wrong_model_is_found_and_the_worst_samples_come_first(samples: Artifact, tmp_path: Path) -> None:
    import onnx
    from onnx import numpy_helper

    model = onnx.load(MODEL)
    last = next(tensor for tensor in model.graph.initializer if tensor.name == model.graph.node[-1].input[1])
    last.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(last), last.name))
    wrong = tmp_path / "wrong.onnx"
    onnx.save(model, wrong)
    found = compared(samples, tmp_path / "engine", [5, 7, 11, 13, 17, 19], wrong)
    assert found.agreement < 50
    assert found.relative_error is not None and found.relative_error > 0.5
    assert {each.index for each in found.worst} <= {5, 7, 11, 13, 17, 19}
    assert [each.agrees for each in found.worst] == sorted(each.agrees for each in found.worst)


def test_what_is_not_finite_is_the_worst() -> None:
    ours, theirs = np.array([[1.0, np.nan]], np.float32), np.array([[1.0, 2.0]], np.float32)
    [sample] = compare._samples(BENCHMARK, [3], [np.repeat(ours, 5, 1)], [np.repeat(theirs, 5, 1)])
    assert (sample.index, sample.answer, sample.agrees) == (3, -1, False)
    assert sample.relative_error == float("inf")


def test_an_engine_that_runs_no_model_is_refused(samples: Artifact, tmp_path: Path) -> None:
    engine = Artifact(tmp_path, {}, {}, {}, State.REUSED, "")
    with pytest.raises(RequestError, match="the engine null answers without running the model"):
        compare.compare(BENCHMARK, config(engine="null"), engine, {}, samples, [0])


@pytest.mark.parametrize(
    ("text", "indices"), [("3", [0, 1, 2]), ("0-2,9", [0, 1, 2, 9]), ("100", list(range(10))), (None, list(range(10)))]
)
def test_samples_are_a_number_or_a_list(text: str | None, indices: list[int]) -> None:
    request = Request(extras={"samples": text} if text else {})
    assert action._indices(request, 10) == indices


@pytest.mark.parametrize("text", ["0", "-3", "", "9-3", "10", "1,x"])
def test_samples_that_are_none_are_refused(text: str) -> None:
    if text == "10":  # as a list, it is beyond the last
        text = "10,11"
    with pytest.raises(RequestError, match="--samples: "):
        action._indices(Request(extras={"samples": text}), 10)
