"""A float model written in half precision: every tensor has the type, and the answers are those of the float model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper, parser

from engineroom.benchmarks import Part
from engineroom.benchmarks.digits import BENCHMARK, MODEL
from engineroom.errors import EngineError
from engineroom.networks import typed
from engineroom.qdq import violations


def test_fp16_answers_as_the_float_model_does(tmp_path: Path) -> None:
    target = tmp_path / "fp16.onnx"
    typed.write(MODEL, target, "float16")
    images = BENCHMARK.preprocess(Part.EVALUATION, 0, 64)["input"]

    def answers(path: Path) -> Any:
        return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"input": images})[0]

    found, wanted = answers(target), answers(MODEL)
    assert found.dtype == np.float32
    assert 0 < np.abs(found - wanted).max() < 5e-3


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_every_float_tensor_has_the_type_but_inputs_and_outputs(tmp_path: Path, dtype: str) -> None:
    target = tmp_path / "typed.onnx"
    typed.write(MODEL, target, dtype)
    model = onnx.shape_inference.infer_shapes(onnx.load(target), strict_mode=True)
    graph, wanted = model.graph, getattr(onnx.TensorProto, typed.TYPES[dtype])
    ends = {tensor.name for tensor in (*graph.input, *graph.output)}
    types = {info.name: info.type.tensor_type.elem_type for info in graph.value_info}
    assert {types[name] for name in types.keys() - ends} == {wanted}
    assert {info.type.tensor_type.elem_type for info in (*graph.input, *graph.output)} == {onnx.TensorProto.FLOAT}


def test_what_has_no_half_stays_in_float_between_casts(tmp_path: Path) -> None:
    text = """<ir_version: 8, opset_import: ["": 13]> g (float[N, 1, 4, 4] x) => (float[N, 1, 8, 8] y)
    <float[4] scales = {1, 1, 2, 2}, float[1] w = {70000.0}>
    { s = Mul (x, w) y = Resize <mode = "nearest"> (s, , scales) }"""
    model, target = tmp_path / "m.onnx", tmp_path / "t.onnx"
    onnx.save(parser.parse_model(text), model)
    typed.write(model, target, "float16")
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(target).graph.initializer}
    assert constants["scales"].dtype == np.float32
    assert constants["w"].dtype == np.float16 and constants["w"] == 65504, "as large as it can be, no infinity"


QDQ = """<ir_version: 9, opset_import: ["": 17]> g (float[N, 2, 4, 4] x) => (float[N, 2, 4, 4] y)
<float s = {0.1}, int8 z = {0}, int8[2, 2, 1, 1] w = {100, -3, 127, 5}, float[2] ws = {0.0001234567, 0.00000001},
 int8[2] wz = {0, 0}, float[2] b = {0.5, 0.25}>
{ q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, z) v = DequantizeLinear <axis = 0> (w, ws, wz)
  y = Conv (d, v, b) }"""


def test_scales_get_the_type_and_weights_are_rounded_to_them(tmp_path: Path) -> None:
    model, target = tmp_path / "m.onnx", tmp_path / "t.onnx"
    onnx.save(parser.parse_model(QDQ), model)
    typed.write(model, target, "float16")
    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(target).graph.initializer}
    assert {found[name].dtype for name in ("s", "ws", "b")} == {np.dtype(np.float16)}
    assert found["ws"].min() > 0, "a scale of 0 is none"
    assert violations(model) == violations(target) == []
    weights = found["w"].astype(np.float64) * found["ws"].astype(np.float64).reshape(2, 1, 1, 1)
    wanted = np.array([100, -3, 127, 5]).reshape(2, 2, 1, 1) * np.array([0.0001234567, 1e-8]).reshape(2, 1, 1, 1)
    assert np.abs(weights - wanted).max() < 0.5 * float(found["ws"].max())


def test_a_graph_within_a_graph_is_refused_in_words(tmp_path: Path) -> None:
    text = """<ir_version: 8, opset_import: ["": 13]> g (bool c, float[2] x) => (float[2] y) {
    y = If (c) <then_branch = t () => (float[2] a) { a = Identity (x) },
                else_branch = e () => (float[2] b) { b = Neg (x) }> }"""
    model = tmp_path / "m.onnx"
    onnx.save(parser.parse_model(text), model)
    with pytest.raises(EngineError, match=r"cannot be written in float16: it holds a graph within a graph \(If\)"):
        typed.write(model, tmp_path / "t.onnx", "float16")
