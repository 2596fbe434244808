"""One Q/DQ file by the rules, as accurate as the float model, the same bytes each time, and no noise about it."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper, parser

from engineroom.benchmarks import Part
from engineroom.benchmarks.digits import BENCHMARK, MODEL
from engineroom.calibrators import Settings
from engineroom.calibrators._post_training import BATCH_SIZE
from engineroom.calibrators.onnxruntime import CALIBRATOR
from engineroom.errors import EngineError, RequestError
from engineroom.paths import CODE
from engineroom.qdq import Graph, violations
from engineroom.terms import Observer

Floats = npt.NDArray[np.float32]
Ranges = dict[str, tuple[float, float]]
Quantized = tuple[Path, Path, dict[str, Floats]]  # the float model, the int8 model, and the samples


def no_progress(done: int, total: int) -> None:
    """Show nothing."""


@cache
def digits(part: Part) -> Floats:
    """Return the samples of a part."""
    return BENCHMARK.preprocess(part, 0, BENCHMARK.sample_count(part))["input"].astype(np.float32)


def run(model: Path, **inputs: npt.NDArray[np.generic]) -> Floats:
    """Return the first output of a model under ONNX Runtime."""
    output: Floats = onnxruntime.InferenceSession(model).run(None, inputs)[0]
    return output


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ranges]:
    """The quantized digits and their ranges."""
    path = tmp_path_factory.mktemp("calibrated") / "digits.onnx"
    samples = BENCHMARK.preprocess(Part.CALIBRATION, 0, BENCHMARK.sample_count(Part.CALIBRATION))
    return path, CALIBRATOR.calibrate(MODEL, samples, path, no_progress)


def quantize(folder: Path, text: str, count: int = 8, **shapes: tuple[int, ...]) -> Quantized:
    """Quantize the model that `text` describes on random samples; return both files and the samples."""
    random = np.random.default_rng(5)
    samples = {name: random.normal(size=(count, *shape)).astype(np.float32) for name, shape in shapes.items()}
    onnx.save(parser.parse_model(text), folder / "float.onnx")
    CALIBRATOR.calibrate(folder / "float.onnx", dict(samples), folder / "int8.onnx", no_progress)
    return folder / "float.onnx", folder / "int8.onnx", samples


def relative_error(float_model: Path, int8_model: Path, samples: dict[str, Floats]) -> float:
    """Return the root mean square of the int8 model's error over that of the float model's output."""
    expected = run(float_model, **samples)
    return float(np.sqrt(((run(int8_model, **samples) - expected) ** 2).mean() / (expected**2).mean()))


def test_the_file_obeys_every_rule(calibrated: tuple[Path, Any]) -> None:
    assert violations(calibrated[0]) == []


def test_every_layer_and_the_residual_add_are_quantized_and_the_logits_are_not(calibrated: tuple[Path, Any]) -> None:
    graph = Graph(onnx.load(calibrated[0]))
    quantized = [node.op_type for node in graph.nodes if graph.made_by(node.input[0], "DequantizeLinear")]
    assert Counter(kind for kind in quantized if not kind.endswith("Linear")) == {"Conv": 4, "Gemm": 2, "Add": 1}
    assert graph.producers["logits"].op_type == "Gemm"


def test_weights_are_rounded_to_the_nearest_step_of_their_channel(calibrated: tuple[Path, Any]) -> None:
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(MODEL).graph.initializer}
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(calibrated[0]).graph.initializer}
    for name in ("stem.weight", "left.weight", "right.weight", "widen.weight", "hidden.weight", "logits.weight"):
        channels = weights[name].reshape(len(weights[name]), -1)
        steps = stored[f"{name}_scale"].reshape(-1, 1)
        np.testing.assert_allclose(steps[:, 0], np.abs(channels).max(axis=1) / 127, rtol=1e-5)
        again = stored[f"{name}_quantized"].reshape(channels.shape) * steps
        assert (np.abs(again - channels) <= steps * 0.5001).all()


def test_the_ranges_are_those_of_the_calibration_samples(calibrated: tuple[Path, Ranges]) -> None:
    ranges, logits = calibrated[1], run(MODEL, input=digits(Part.CALIBRATION))
    assert ranges["input"] == (0.0, 1.0)
    assert ranges["logits"] == pytest.approx((logits.min(), logits.max()), rel=1e-5)
    assert {"stem", "left", "right", "block_pooled", "flat", "hidden"} <= ranges.keys()


def openvino_logits(model: Path, samples: Floats) -> Floats:
    """Return OpenVINO's logits."""
    import openvino

    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    logits: Floats = openvino.Core().compile_model(model, "CPU", settings)(samples)[0]
    return logits


@pytest.mark.parametrize("infer", [lambda model, samples: run(model, input=samples), openvino_logits])
def test_int8_holds_the_accuracy_target(calibrated: tuple[Path, Any], infer: Callable[[Path, Floats], Floats]) -> None:
    logits = infer(calibrated[0], digits(Part.EVALUATION))
    accuracy = BENCHMARK.score(BENCHMARK.classes_of(logits), BENCHMARK.labels())
    assert accuracy.value >= BENCHMARK.accuracy_target


def test_openvino_runs_the_layers_in_int8(calibrated: tuple[Path, Any]) -> None:
    import openvino

    compiled = openvino.Core().compile_model(calibrated[0], "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    types = [
        node.get_rt_info()["runtimePrecision"].astype(str)
        for node in compiled.get_runtime_model().get_ordered_ops()
        if node.get_rt_info()["layerType"].astype(str) in ("Convolution", "FullyConnected")
    ]
    assert len(types) == 6 and set(types) <= {"i8", "u8"}


def test_the_same_samples_give_the_same_bytes_in_another_process(calibrated: tuple[Path, Any], tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path\n"
        "from engineroom.benchmarks import Part\n"
        "from engineroom.benchmarks.digits import BENCHMARK, MODEL\n"
        "from engineroom.calibrators.onnxruntime import CALIBRATOR\n"
        "samples = BENCHMARK.preprocess(Part.CALIBRATION, 0, 200)\n"
        "CALIBRATOR.calibrate(MODEL, samples, Path(sys.argv[1]), print)\n"
    )
    again = tmp_path / "again.onnx"
    environment = {**os.environ, "PYTHONHASHSEED": "12345", "PYTHONPATH": str(CODE)}
    done = subprocess.run([sys.executable, "-c", script, again], env=environment, capture_output=True, check=True)
    assert done.stderr == b""
    assert again.read_bytes() == calibrated[0].read_bytes()


def test_progress_counts_samples_and_nothing_else_is_printed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[tuple[int, int]] = []
    handlers = list(logging.getLogger().handlers)
    samples = {"input": digits(Part.CALIBRATION)[:70]}
    CALIBRATOR.calibrate(MODEL, dict(samples), tmp_path / "q.onnx", lambda *step: seen.append(step))
    assert seen == [(BATCH_SIZE, 70), (2 * BATCH_SIZE, 70), (70, 70)]
    assert tuple(capfd.readouterr()) == ("", "") and caplog.text == ""
    assert logging.getLogger().handlers == handlers and logging.getLogger().filters == []
    assert list(tmp_path.iterdir()) == [tmp_path / "q.onnx"]


def test_a_normalization_is_folded_into_its_layer(tmp_path: Path) -> None:
    text = """<ir_version: 9, opset_import: ["": 17]>
    g (float[N, 2, 6, 6] x) => (float[N, 3, 4, 4] y)
    <float[3, 2, 3, 3] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 8, 7, 6, 5, 4, 3, 2, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9,
                            9, 8, 7, 6, 5, 4, 3, 2, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 8, 7, 6, 5, 4, 3, 2, 1},
     float[3] scale = {1, 20, 300}, float[3] shift = {1, -2, 3}, float[3] mean = {0, 1, 2}, float[3] var = {1, 4, 9}>
    { c = Conv (x, w)
      y = BatchNormalization (c, scale, shift, mean, var) }"""
    float_model, int8_model, samples = quantize(tmp_path, text, x=(2, 6, 6))
    assert "BatchNormalization" not in {node.op_type for node in onnx.load(int8_model).graph.node}
    assert relative_error(float_model, int8_model, samples) < 0.02


@pytest.mark.parametrize("attributes", ["", "<beta = 3.0>", "<alpha = 0.5, beta = -2.0, transB = 1>"])
def test_a_gemm_keeps_its_scaled_bias(tmp_path: Path, attributes: str) -> None:
    text = f"""<ir_version: 9, opset_import: ["": 17]>
    g (float[N, 3] x) => (float[N, 3] y)
    <float[3, 3] w = {{1, 2, 3, 4, -5, 6, 7, 8, 9}}, float[3] bias = {{10, 20, -30}}>
    {{ y = Gemm {attributes} (x, w, bias) }}"""
    assert relative_error(*quantize(tmp_path, text, x=(3,))) < 0.02


def test_a_matrix_product_of_an_old_opset_without_node_names(tmp_path: Path) -> None:
    text = """<ir_version: 6, opset_import: ["": 11]>
    g (float[N, 4, 2] x) => (float[N, 4, 2] y)
    <float[2, 2] w = {1, -2, 30, 40}, float[2] bias = {1, 2}>
    { a = MatMul (x, w)
      b = Add (a, bias)
      c = MatMul (b, w)
      y = Add (b, c) }"""
    float_model, int8_model, samples = quantize(tmp_path, text, x=(4, 2))
    assert relative_error(float_model, int8_model, samples) < 0.03


def test_a_product_of_two_activations_and_a_mask_stay_in_float(tmp_path: Path) -> None:
    text = """<ir_version: 9, opset_import: ["": 17]>
    g (float[N, 4, 4] x, float[N, 1, 4] mask) => (float[N, 4, 4] y)
    <float[4, 4] w = {1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6, 0, 7, 0, 8, 1}>
    { query = MatMul (x, w)
      scores = MatMul (query, x)
      y = Add (scores, mask) }"""
    _, int8_model, _ = quantize(tmp_path, text, x=(4, 4), mask=(1, 4))
    assert [node.op_type for node in onnx.load(int8_model).graph.node].count("QuantizeLinear") == 1


def test_a_fixed_batch_is_always_full(tmp_path: Path) -> None:
    text = """<ir_version: 9, opset_import: ["": 17]>
    g (float[3, 2] x) => (float[3, 2] y) <float[2, 2] w = {1, 2, 3, 4}> { y = MatMul (x, w) }"""
    quantize(tmp_path, text, count=8, x=(2,))
    with pytest.raises(EngineError, match="fixed batch size is 3, but there are only 2"):
        quantize(tmp_path, text, count=2, x=(2,))


def test_what_cannot_be_quantized_is_said_in_one_line_and_leaves_no_file(tmp_path: Path) -> None:
    target = tmp_path / "int8.onnx"
    samples = {"input": digits(Part.CALIBRATION)}
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(MODEL.read_bytes()[:100_000])
    with pytest.raises(EngineError, match=r"broken\.onnx: is not a valid ONNX model") as caught:
        CALIBRATOR.calibrate(broken, dict(samples), target, no_progress)
    assert "\n" not in str(caught.value)
    relu = '<ir_version: 9, opset_import: ["": 17]> g (float[N] x) => (float[N] y) { y = Relu (x) }'
    with pytest.raises(EngineError, match="has no layer to quantize"):
        quantize(tmp_path, relu, x=())
    with pytest.raises(RequestError, match="takes the inputs input, but is given image"):
        CALIBRATOR.calibrate(MODEL, {"image": samples["input"]}, target, no_progress)
    with pytest.raises(RequestError, match="at least one sample"):
        CALIBRATOR.calibrate(MODEL, {"input": samples["input"][:0]}, target, no_progress)
    with pytest.raises(EngineError, match=r"digits\.onnx: cannot be quantized: ") as caught:
        CALIBRATOR.calibrate(MODEL, {"input": samples["input"].reshape(-1, 64)}, target, no_progress)
    assert "\n" not in str(caught.value)
    assert not target.exists()


@pytest.mark.parametrize("observer", Observer)
def test_every_observer_holds_the_accuracy_target(tmp_path: Path, observer: Observer) -> None:
    target = tmp_path / "int8.onnx"
    samples = {"input": digits(Part.CALIBRATION)}
    CALIBRATOR.calibrate(MODEL, dict(samples), target, no_progress, Settings(observer))
    logits = run(target, input=digits(Part.EVALUATION))
    accuracy = BENCHMARK.score(BENCHMARK.classes_of(logits), BENCHMARK.labels())
    assert accuracy.value >= BENCHMARK.accuracy_target


def test_layers_named_stay_in_float_and_wrong_names_are_all_told(tmp_path: Path) -> None:
    target, samples = tmp_path / "int8.onnx", {"input": digits(Part.CALIBRATION)[:8]}
    settings = Settings(float_layers=("wid*", "logits"))
    CALIBRATOR.calibrate(MODEL, dict(samples), target, no_progress, settings)
    graph = Graph(onnx.load(target))
    layers = {
        node.name: graph.made_by(node.input[1], "DequantizeLinear") for node in graph.nodes if graph.is_layer(node)
    }
    assert {name for name, quantized in layers.items() if quantized is None} == {"widen_sum", "logits"}
    assert violations(target) == []
    with pytest.raises(RequestError, match=r"'hiden_sum'\n  did you mean hidden_sum\?\n.*'x\*'"):
        wrong = Settings(float_layers=("hiden_sum", "stem_sum", "x*"))
        CALIBRATOR.calibrate(MODEL, dict(samples), target, no_progress, wrong)
    with pytest.raises(RequestError, match="no layer is left to quantize"):
        CALIBRATOR.calibrate(MODEL, dict(samples), target, no_progress, Settings(float_layers=("*",)))


def test_a_layer_in_float_reads_floats_though_what_it_shares_is_quantized(tmp_path: Path) -> None:
    """As the shortcut of a residual block does, which reads what the block's first layer reads."""
    text = """<ir_version: 9, opset_import: ["": 17]>
    g (float[N, 2, 4, 4] x) => (float[N, 2, 4, 4] y)
    <float[2, 2, 1, 1] w = {1, 2, 3, 4}, float[2, 2, 1, 1] v = {4, 3, 2, 1}>
    { a = Conv (x, w)
      b = Conv (x, v)
      c = Conv (a, w)
      y = Add (c, b) }"""
    model = parser.parse_model(text)
    for node in model.graph.node:
        node.name = node.output[0]
    onnx.save(model, tmp_path / "float.onnx")
    samples: Any = {"x": np.random.default_rng(5).normal(size=(8, 2, 4, 4)).astype(np.float32)}
    target = tmp_path / "int8.onnx"
    CALIBRATOR.calibrate(tmp_path / "float.onnx", samples, target, no_progress, Settings(float_layers=("[bc]",)))
    written = onnx.load(target)
    inputs = {node.name: list(node.input[:2]) for node in written.graph.node if node.op_type == "Conv"}
    assert inputs["b"] == ["x", "v"] and inputs["c"] == ["a", "w"]
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in written.graph.initializer}
    np.testing.assert_array_equal(constants["w"].ravel(), [1, 2, 3, 4])
    assert inputs["a"] == ["x_DequantizeLinear_Output", "w_DequantizeLinear_Output"]
    assert relative_error(tmp_path / "float.onnx", target, samples) < 0.02
    read = {name for node in written.graph.node for name in node.input}
    assert constants.keys() <= read


def test_large_samples_run_in_small_batches(tmp_path: Path) -> None:
    text = """<ir_version: 9, opset_import: ["": 17]>
    g (float[N, 1, 1024, 1024] x) => (float[N, 32, 1024, 1024] y)
    <float[32, 1, 1, 1] w = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
                             2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2}>
    { y = Conv (x, w) }"""
    onnx.save(parser.parse_model(text), tmp_path / "float.onnx")
    seen: list[int] = []
    samples = {"x": np.ones((8, 1, 1024, 1024), np.float32)}
    CALIBRATOR.calibrate(
        tmp_path / "float.onnx", dict(samples), tmp_path / "int8.onnx", lambda done, total: seen.append(done)
    )
    assert seen == [3, 6, 8]  # 33 planes of 4 MB each: three samples are 0.4 GB
