"""Each rule of a Q/DQ model is broken once, in a small model, and named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import parser

from engineroom.errors import EngineError
from engineroom.qdq import FLOAT8, Graph, output_axis, quantize_ahead, read_model, violations

# A convolution of two output channels, and the add that joins it with its input.
GOOD = """
<ir_version: 9, opset_import: ["": 17, "com.microsoft": 1]>
small (float[N, 2, 4, 4] x) => (float[N, 2, 4, 4] y)
<
  float scale = {0.1}, int8 zero = {0},
  int8[2, 2, 1, 1] weights = {1, 2, 3, 4}, float[2] weight_scales = {0.1, 0.2}, int8[2] weight_zeros = {0, 0},
  float[2, 2, 1, 1] float_weights = {1, 2, 3, 4},
  float[2] bias = {0.5, 0.5}, int32[2] int32_bias = {5, 5}
>
{
  x_int8 = QuantizeLinear (x, scale, zero)
  x_again = DequantizeLinear (x_int8, scale, zero)
  w = DequantizeLinear <axis = 0> (weights, weight_scales, weight_zeros)
  b = Identity (bias)
  c = Conv (x_again, w, b)
  c_int8 = QuantizeLinear (c, scale, zero)
  c_again = DequantizeLinear (c_int8, scale, zero)
  y = Add (x_again, c_again)
}
"""


def written(folder: Path, text: str) -> Path:
    """Write the model that `text` describes."""
    path = folder / "model.onnx"
    onnx.save(parser.parse_model(text), path)
    return path


def test_a_model_by_the_rules_breaks_none(tmp_path: Path) -> None:
    assert violations(written(tmp_path, GOOD)) == []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("int8 zero = {0}", "int8 zero = {3}", "QuantizeLinear x_int8: its zero point must be a constant 0"),
        ("weight_zeros = {0, 0}", "weight_zeros = {0, 1}", "DequantizeLinear w: its zero point must be a constant 0"),
        ("int8 zero = {0}", "uint8 zero = {0}", "QuantizeLinear x_int8: quantizes to uint8; only int8 is taken"),
        ("(x, scale, zero)", "(x, scale)", "QuantizeLinear x_int8: quantizes to uint8"),
        (
            "b = Identity (bias)",
            "b = DequantizeLinear (int32_bias, scale)",
            "DequantizeLinear b: dequantizes an int32 bias",
        ),
        ("float scale = {0.1}", "float scale = {0.0}", "QuantizeLinear x_int8: its scales must be constant, positive"),
        ("weight_scales = {0.1, 0.2}", "weight_scales = {0.1, -0.2}", "DequantizeLinear w: its scales must be"),
        (
            "(x, scale, zero)",
            "(x, weight_scales, weight_zeros)",
            "QuantizeLinear x_int8: has 2 scales for an activation",
        ),
        (
            "int8[2] weight_zeros = {0, 0}",
            "int8 weight_zeros = {0}",
            "DequantizeLinear w: has 1 zero points for 2 scales",
        ),
        ("<axis = 0>", "<axis = 1>", "Conv c: has 2 weight scales on axis 1; output channels: 2 on axis 0"),
        (
            "<axis = 0> (weights, weight_scales, weight_zeros)",
            "(weights, scale, zero)",
            "Conv c: has 1 weight scales on axis 1; output channels: 2 on axis 0",
        ),
        ("Conv (x_again,", "Conv (x,", "Conv c: only its weights are quantized"),
        ("Conv (x_again, w,", "Conv (x_again, float_weights,", "Conv c: only its input is quantized"),
        ("Add (x_again, c_again)", "Add (c_again, x)", "Add y: a residual add with x not quantized"),
        ("Add (x_again, c_again)", "Add (x, c)", "Add y: a residual add with x and c not quantized"),
        (
            "c = Conv (x_again, w, b)",
            "i = ConvInteger (x_int8, weights)\n  c = Cast <to = 1> (i)",
            "ConvInteger i: ConvInteger is a quantized or private operator",
        ),
        ("y = Add (", "y = com.microsoft.QLinearAdd (", "QLinearAdd y: QLinearAdd is a quantized or private operator"),
        (
            '"": 17',
            '"": 12',
            "model: opset 12; per-channel quantization needs 13 or later",
        ),
    ],
)
def test_a_broken_rule_is_named_with_its_node(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert GOOD.count(old) == 1
    text = GOOD.replace(old, new)
    if "opset" in said:  # before opset 13 there is no axis to write
        text = text.replace("<axis = 0> (weights, weight_scales, weight_zeros)", "(weights, scale, zero)")
    found = violations(written(tmp_path, text))
    assert any(rule.startswith(said) for rule in found), found


def test_the_layer_before_a_residual_add_may_hand_over_floats(tmp_path: Path) -> None:
    """TensorRT fuses the two; NVIDIA's ModelOpt quantizes the other input alone."""
    assert violations(written(tmp_path, GOOD.replace("Add (x_again, c_again)", "Add (x_again, c)"))) == []


FP8 = """
<ir_version: 9, opset_import: ["": 19]>
small (float[N, 2] x) => (float[N, 2] y)
<float scale = {0.1}, float zero_float = {0}>
{
  zero = Cast <to = 17> (zero_float)
  x_fp8 = QuantizeLinear (x, scale, zero)
  y = DequantizeLinear (x_fp8, scale, zero)
}
"""


def fp8_model(folder: Path, opset: int = 19) -> Path:
    """Write a model whose zero point is a constant of fp8, which ONNX's text cannot say."""
    model = parser.parse_model(FP8.replace('"": 19', f'"": {opset}'))
    del model.graph.node[0]
    model.graph.initializer.append(onnx.helper.make_tensor("zero", onnx.TensorProto.FLOAT8E4M3FN, [], [0.0]))
    path = folder / "fp8.onnx"
    onnx.save(model, path)
    return path


def test_fp8_has_the_same_rules_and_is_not_mixed_with_int8(tmp_path: Path) -> None:
    path = fp8_model(tmp_path)
    assert violations(path, FLOAT8) == []
    assert violations(path)[0] == "QuantizeLinear x_fp8: quantizes to float8_e4m3fn; only int8 is taken"
    found = violations(written(tmp_path, GOOD), FLOAT8)
    assert found[0] == "model: opset 17; fp8 needs 19 or later"
    assert "QuantizeLinear x_int8: quantizes to int8; only float8_e4m3fn is taken" in found


def test_a_float_model_is_no_quantized_model(tmp_path: Path) -> None:
    text = '<ir_version: 9, opset_import: ["": 17]> g (float[N] x) => (float[N] y) { y = Relu (x) }'
    assert violations(written(tmp_path, text)) == ["model: has no QuantizeLinear node; TensorRT 11 has no int8 without"]


def test_all_violations_come_in_one_pass(tmp_path: Path) -> None:
    text = GOOD.replace("int8 zero = {0}", "int8 zero = {3}").replace("<axis = 0>", "<axis = 1>")
    assert len(violations(written(tmp_path, text))) == 5  # the zero point of four nodes, and the axis


def test_weights_may_be_quantized_from_float_in_the_model(tmp_path: Path) -> None:
    twice = """w_int8 = QuantizeLinear <axis = 0> (float_weights, weight_scales, weight_zeros)
  w = DequantizeLinear <axis = 0> (w_int8, weight_scales, weight_zeros)"""
    one = "w = DequantizeLinear <axis = 0> (weights, weight_scales, weight_zeros)"
    assert violations(written(tmp_path, GOOD.replace(one, twice))) == []


@pytest.mark.parametrize(
    ("body", "names"),
    [
        ("c = Conv (x, w)\n y = Add (c, x)", ["y"]),
        ("c = Conv (x, w)\n n = BatchNormalization (c, s, s, s, s)\n y = Add (x, n)", ["y"]),
        ("c = Conv (x, w)\n d = Add (c, bias)\n y = Add (d, x)", ["y"]),
        ("c = Conv (x, w)\n y = Add (c, bias)", []),
        ("r = Relu (x)\n y = Add (r, x)", []),
        ("c = Conv (x, w)\n g = GlobalAveragePool (x)\n y = Add (c, g)", []),
    ],
    ids=["plain", "normalized", "bias added", "bias only", "no layer", "broadcast"],
)
def test_which_adds_are_residual(body: str, names: list[str]) -> None:
    text = f"""<ir_version: 9, opset_import: ["": 17]>
    g (float[N, 2, 4, 4] x) => (float[N, 2, 4, 4] y)
    <float[2, 2, 1, 1] w = {{1, 2, 3, 4}}, float[2] s = {{1, 1}}, float[1, 2, 1, 1] bias = {{1, 1}}> {{ {body} }}"""
    assert [node.output[0] for node in Graph(parser.parse_model(text)).residual_adds()] == names


@pytest.mark.parametrize(
    ("call", "rank", "axis"),
    [
        ("Conv (x, w)", 4, 0),
        ("ConvTranspose (x, w)", 4, 1),
        ("Gemm (x, w)", 2, 1),
        ("Gemm <transB = 1> (x, w)", 2, 0),
        ("MatMul (x, w)", 2, 1),
        ("MatMul (x, w)", 3, 2),
    ],
)
def test_where_the_output_channels_lie(call: str, rank: int, axis: int) -> None:
    [node] = parser.parse_graph(f"g (float[N] x, float[N] w) => (float[N] y) {{ y = {call} }}").node
    assert output_axis(node, rank) == axis


@pytest.mark.parametrize("damage", [lambda raw: raw[: len(raw) // 2], lambda raw: b"", lambda raw: b"hello" * 99])
def test_a_damaged_file_is_one_line(tmp_path: Path, damage: object) -> None:
    path = written(tmp_path, GOOD)
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    with pytest.raises(EngineError, match="is not a valid ONNX model") as caught:
        read_model(path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"absent\.onnx: cannot be read: No such file"):
        read_model(tmp_path / "absent.onnx")


# What pools and reshapes between a layer and the Q/DQ pair of the next.
POOLED = """
<ir_version: 9, opset_import: ["": 17]>
pooled (float[N, 2, 4, 4] x) => (float[N, 3] y)
<
  float scale = {0.1}, int8 zero = {0}, float[2] scales = {0.1, 0.2}, int8[2] zeros = {0, 0},
  float[2, 2, 1, 1] kernel = {1, -2, 3, 4}, float[8, 3] weights = {1, 2, 3, 4, 5, 6, 7, 8, 9, -1, -2, -3}
>
{
  c = Conv (x, kernel)
  p = MaxPool <kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]> (c)
  f = Flatten (p)
  q = QuantizeLinear (f, scale, zero)
  d = DequantizeLinear (q, scale, zero)
  y = Gemm (d, weights)
}
""".replace("-3}", "-3" + ", 1" * 12 + "}")


def test_quantizing_ahead_of_what_pools_and_reshapes_changes_no_answer() -> None:
    model = parser.parse_model(POOLED)
    images = np.random.default_rng(0).normal(0, 3, (5, 2, 4, 4)).astype(np.float32)
    before = answers(model, images)
    assert quantize_ahead(model) == 2
    onnx.checker.check_model(model, full_check=True)
    kinds = [node.op_type for node in model.graph.node]
    assert kinds == ["Conv", "QuantizeLinear", "DequantizeLinear", "MaxPool", "Flatten", "Gemm"]
    assert np.array_equal(answers(model, images), before)
    assert len(np.unique(before)) > 3, "not all of it is clipped"
    assert quantize_ahead(model) == 0


def answers(model: onnx.ModelProto, images: np.ndarray[Any, np.dtype[np.float32]]) -> Any:
    """Return what ONNX Runtime answers if it computes node by node, as written."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    [found] = onnxruntime.InferenceSession(model.SerializeToString(), options).run(None, {"x": images})
    return found


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("float[N, 3] y)", "float[N, 3] y, float[N, 8] f)"),  # the float values are an answer, too
        ("Gemm (d, weights)", "Gemm (d, weights)\n  z = Relu (f)"),  # or go on elsewhere
        ("(f, scale, zero)", "(f, scales, zeros)"),  # a scale for each place of the flat vector
        ("f = Flatten (p)", "f, i = MaxPool <kernel_shape = [1, 1]> (p)"),  # its second output says where
        ("f = Flatten (p)", "f = AveragePool <kernel_shape = [1, 1]> (p)"),  # computes
    ],
)
def test_what_others_read_or_what_computes_is_left_where_it_is(old: str, new: str) -> None:
    model = parser.parse_model(POOLED.replace(old, new))
    before = model.SerializeToString()
    assert quantize_ahead(model) == 0
    assert model.SerializeToString() == before
