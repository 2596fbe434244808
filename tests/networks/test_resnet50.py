"""The synthetic ResNet-50 is the published architecture, with weights that make images differ."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from engineroom.calibrators import Settings
from engineroom.calibrators.onnxruntime import CALIBRATOR
from engineroom.errors import Mistakes
from engineroom.networks import resnet50
from engineroom.qdq import Graph, violations

Floats = npt.NDArray[np.float32]

# torchvision's documentation, "resnet50": 25,557,032 parameters, 4.09 GFLOPS (multiply-adds), for 1,000 classes.
PARAMETERS, GMACS = 25_557_032, 4.09
BACKGROUND = 2048 + 1  # what one class more adds


@pytest.fixture(scope="module")
def model(resnet: Path) -> onnx.ModelProto:
    """The model with its shapes."""
    return onnx.shape_inference.infer_shapes(onnx.load(resnet), strict_mode=True)


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """Return a node's attributes."""
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def test_the_parameters_are_the_published_ones(model: onnx.ModelProto) -> None:
    counted = [t for t in model.graph.initializer if not t.name.endswith((".mean", ".variance"))]  # not trained
    assert sum(math.prod(tensor.dims) for tensor in counted) == PARAMETERS + BACKGROUND
    onnx.checker.check_model(model, full_check=True)


def test_the_work_is_the_published_one(model: onnx.ModelProto) -> None:
    shapes = {
        info.name: [axis.dim_value for axis in info.type.tensor_type.shape.dim] for info in model.graph.value_info
    }
    weights = {tensor.name: tensor.dims for tensor in model.graph.initializer}
    layers = [node for node in model.graph.node if node.op_type in ("Conv", "Gemm")]
    macs = sum(math.prod(weights[node.input[1]]) * math.prod(shapes[node.output[0]][2:]) for node in layers)
    assert len(layers) == 1 + 16 * 3 + 4 + 1
    assert round(macs / 1e9, 2) == GMACS


def test_blocks_halve_the_image_in_their_3x3_convolution(model: onnx.ModelProto) -> None:
    halving = [node for node in model.graph.node if node.op_type == "Conv" and attributes(node)["strides"] == [2, 2]]
    kernels = {node.name: attributes(node)["kernel_shape"][0] for node in halving}
    assert kernels.pop("conv0") == 7
    assert sorted(kernels) == sorted(f"stage{s}.block1.{part}" for s in (2, 3, 4) for part in ("conv2", "shortcut"))
    assert all(size == (3 if name.endswith("conv2") else 1) for name, size in kernels.items())


def test_tensors_are_those_of_mlperfs_file(model: onnx.ModelProto) -> None:
    types = {info.name: info.type.tensor_type for info in [*model.graph.input, *model.graph.output]}
    described = [
        (name, kind.elem_type, [axis.dim_value or axis.dim_param for axis in kind.shape.dim])
        for name, kind in types.items()
    ]
    assert described == [
        ("input_tensor:0", onnx.TensorProto.FLOAT, ["N", 3, 224, 224]),
        ("ArgMax:0", onnx.TensorProto.INT64, ["N"]),
        ("softmax_tensor:0", onnx.TensorProto.FLOAT, ["N", 1001]),
    ]


@pytest.mark.heavy
def test_the_same_seed_gives_the_same_bytes(resnet: Path, tmp_path: Path) -> None:
    resnet50.write(tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == resnet.read_bytes()
    assert resnet50.build(1).SerializeToString(deterministic=True) != resnet.read_bytes()


@pytest.mark.heavy
def test_predictions_vary_with_the_image_and_activations_stay_sane(
    resnet: Path, images: Floats, entropy_bits: Callable[[Any], float]
) -> None:
    model = onnx.load(resnet)
    names = [node.output[0] for node in model.graph.node if node.op_type == "Add"]
    model.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    classes, scores, *sums = session.run(None, {resnet50.INPUT: images})
    assert entropy_bits(classes) > 3
    assert (classes == scores.argmax(axis=1)).all() and np.isfinite(scores).all()
    assert all(0.1 < values.std() < 20 for values in sums)


@pytest.mark.heavy
def test_int8_obeys_the_rules_and_agrees_with_float(resnet: Path, images: Floats, tmp_path: Path) -> None:
    target = tmp_path / "int8.onnx"
    with pytest.raises(Mistakes, match=r"(?s)named 'stgae1\.\*'.*did you mean stage1\?.*block9.*mean stage1\.block3\?"):
        unknown = Settings(float_layers=("stgae1.*", "stage1.block9.*"))
        CALIBRATOR.calibrate(resnet, {resnet50.INPUT: images[:1]}, target, lambda done, total: None, unknown)
    settings = Settings(float_layers=("conv0", "stage1.block1.*"))
    CALIBRATOR.calibrate(resnet, {resnet50.INPUT: images[:8]}, target, lambda done, total: None, settings)
    assert violations(target) == []
    graph = Graph(onnx.load(target))
    adds = graph.residual_adds()
    assert len(adds) == 16
    assert all(graph.made_by(name, "DequantizeLinear") for add in adds for name in add.input)
    layers = [node for node in graph.nodes if graph.is_layer(node)]
    in_float = [node.name for node in layers if not graph.made_by(node.input[1], "DequantizeLinear")]
    assert sorted(in_float) == ["conv0", *(f"stage1.block1.{part}" for part in ("conv1", "conv2", "conv3", "shortcut"))]
    expected, found = (
        onnxruntime.InferenceSession(path).run([resnet50.CLASS], {resnet50.INPUT: images})[0]
        for path in (resnet, target)
    )
    assert (found == expected).mean() >= 0.7


def test_normalizations_are_neutral(model: onnx.ModelProto) -> None:
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    assert all((values[name] == 0).all() for name in values if name.endswith((".mean", ".shift")))
    assert all((values[name] == 1).all() for name in values if name.endswith((".variance", ".scale")))
