"""NVIDIA's ModelOpt on the CPU: its file obeys the same rules, runs in the same engines, and is the same each time."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import openvino
import pytest
from onnx import numpy_helper, parser

from engineroom.benchmarks import Part
from engineroom.benchmarks.digits import BENCHMARK, MODEL
from engineroom.calibrators import Settings
from engineroom.calibrators.modelopt import CALIBRATOR
from engineroom.errors import EngineError
from engineroom.qdq import Graph, violations
from engineroom.terms import Observer

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.skipif(find_spec("modelopt") is None, reason="needs the extra modelopt"),
]
Floats = npt.NDArray[np.float32]
Ranges = dict[str, tuple[float, float]]


def no_progress(done: int, total: int) -> None:
    """Show nothing."""


def samples(part: Part) -> dict[str, Any]:
    """Return the samples of a part."""
    return dict(BENCHMARK.preprocess(part, 0, BENCHMARK.sample_count(part)))


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ranges]:
    """The quantized digits and their ranges."""
    path = tmp_path_factory.mktemp("modelopt") / "digits.onnx"
    return path, CALIBRATOR.calibrate(MODEL, samples(Part.CALIBRATION), path, no_progress)


def onnxruntime_logits(model: Path) -> Floats:
    """Return ONNX Runtime's logits of the evaluation part."""
    found: Floats = onnxruntime.InferenceSession(model).run(None, samples(Part.EVALUATION))[0]
    return found


def openvino_logits(model: Path) -> Floats:
    """Return OpenVINO's."""
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    found: Floats = openvino.Core().compile_model(model, "CPU", settings)(samples(Part.EVALUATION))[0]
    return found


@pytest.mark.parametrize("infer", [onnxruntime_logits, openvino_logits])
def test_int8_holds_the_accuracy_target(calibrated: tuple[Path, Ranges], infer: Any) -> None:
    named = BENCHMARK.classes_of(infer(calibrated[0]))
    good = sum(answer == label for answer, label in zip(named, BENCHMARK.labels(), strict=True))
    assert 100 * good / len(named) >= BENCHMARK.accuracy_target


def layers(model: Path) -> dict[str, bool]:
    """Return whether each layer is quantized."""
    graph = Graph(onnx.load(model))
    found = [node for node in graph.nodes if graph.is_layer(node)]
    return {node.name: graph.made_by(node.input[1], "DequantizeLinear") is not None for node in found}


def test_the_file_obeys_every_rule_and_the_layers_are_quantized(calibrated: tuple[Path, Ranges]) -> None:
    assert violations(calibrated[0]) == []
    found = layers(calibrated[0])
    assert len(found) == 6
    assert [name for name, quantized in found.items() if not quantized] == ["logits"]  # ModelOpt's own choice


def test_the_ranges_are_those_of_the_samples_and_the_steps_of_weights_those_of_their_channels(
    calibrated: tuple[Path, Ranges],
) -> None:
    model = onnx.load(MODEL)
    observed = [name for name in calibrated[1] if name != "input"]
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in observed)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    values = session.run(observed, samples(Part.CALIBRATION))
    wanted = {name: float(np.abs(value).max()) for name, value in zip(observed, values, strict=True)} | {"input": 1.0}
    assert calibrated[1] == {name: pytest.approx((-most, most), rel=1e-5) for name, most in wanted.items()}
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    steps = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(calibrated[0]).graph.initializer}
    for name in ("stem.weight", "widen.weight", "hidden.weight"):
        most = np.abs(weights[name].reshape(len(weights[name]), -1)).max(axis=1)
        np.testing.assert_allclose(steps[f"{name}_scale"], most / 127, rtol=1e-5)


def test_the_same_samples_give_the_same_bytes_and_nothing_is_printed_or_left_behind(
    calibrated: tuple[Path, Ranges], tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, int]] = []
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    monkeypatch.setitem(os.environ, "PYTHONHASHSEED", "12345")
    CALIBRATOR.calibrate(MODEL, samples(Part.CALIBRATION), tmp_path / "again.onnx", lambda *step: seen.append(step))
    assert (tmp_path / "again.onnx").read_bytes() == calibrated[0].read_bytes()
    assert tuple(capfd.readouterr()) == ("", "")
    assert seen == sorted(seen) and seen[-1] == (200, 200) and len(seen) > 3
    assert list((tmp_path / "scratch").iterdir()) == []


def test_entropy_and_layers_in_float(tmp_path: Path) -> None:
    settings = Settings(Observer.ENTROPY, float_layers=("wid*", "logits"))
    CALIBRATOR.calibrate(MODEL, samples(Part.CALIBRATION), tmp_path / "int8.onnx", no_progress, settings)
    found = layers(tmp_path / "int8.onnx")
    assert {name for name, quantized in found.items() if not quantized} == {"widen_sum", "logits"}
    assert violations(tmp_path / "int8.onnx") == []


def test_what_it_cannot_quantize_is_one_line(tmp_path: Path) -> None:
    text = """<ir_version: 9, opset_import: ["": 17]>
    g (float[N, 2] x) => (float[N, 2] y) <float[2, 2] w = {1, 2, 3, 4}> { y = MatMul (x, w) }"""
    onnx.save(parser.parse_model(text), tmp_path / "float.onnx")
    wrong: Any = {"x": np.ones((4, 3), np.float32)}
    with pytest.raises(EngineError, match=r"ModelOpt cannot quantize it: ") as caught:
        CALIBRATOR.calibrate(tmp_path / "float.onnx", wrong, tmp_path / "int8.onnx", no_progress)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "int8.onnx").exists()
