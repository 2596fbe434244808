"""ResNet-50 v1.5 as MLPerf's ONNX file has it, with seeded weights.

Architecture: He et al. 2015, "Deep Residual Learning for Image Recognition", table 1; v1.5 halves the image in a
block's 3x3 convolution instead of its first 1x1 one. Tensors: `input_tensor:0` [N, 3, 224, 224]; `ArgMax:0` int64 [N]
and `softmax_tensor:0` [N, 1001], class 0 the background. Normalizations are nodes of their own, so that the file's
parameters are the published ones; every engine here folds them into the convolutions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engineroom.networks.weights import draw
from engineroom.paths import write_beside

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import onnx

INPUT, CLASS, SCORES = "input_tensor:0", "ArgMax:0", "softmax_tensor:0"
SEED = 50
CLASSES = 1001
STAGES = ((3, 64), (4, 128), (6, 256), (3, 512))  # blocks, and channels of their 3x3 convolution
EXPANSION = 4  # a block's output has so many times the channels
OPSET = 13  # the first with weights quantized per channel; MLPerf's file has 11, with the same operators
IR_VERSION = 7  # the one of opset 13: older readers take it too

GAIN = 1.7  # keeps the deviation of a layer over a rectified one: the weights' sum of zero takes the mean's share away
PIXEL_GAIN = 1 / 64  # pixels with their means taken away have about this deviation
BRANCH_GAIN = (
    0.15  # of the last convolution of a block: with 0.5 rounding to int8 grows, block by block, into other answers
)
LOGIT_GAIN = 8.0


@dataclass(frozen=True)
class Variant:
    """What differs between the published networks. `pool_pads` are those before and after each axis."""

    input: str
    logits: str
    classes: int
    pixel_gain: float
    pool_pads: tuple[int, int, int, int]


# TensorFlow's SAME padding, with which it was trained, fills up at the far sides only.
TENSORFLOW = Variant(INPUT, "dense", CLASSES, PIXEL_GAIN, (0, 0, 1, 1))


def write(path: Path, seed: int = SEED) -> None:
    """Write the model to `path`; the same seed gives the same bytes."""
    model = build(seed)
    with write_beside(path) as beside:
        beside.write_bytes(model.SerializeToString(deterministic=True))


def build(seed: int = SEED) -> onnx.ModelProto:
    """Return the model."""
    from onnx import TensorProto, helper

    graph = Graph(seed)
    logits = add_layers(graph, TENSORFLOW)
    graph.node("ArgMax", CLASS, [logits], axis=1, keepdims=0)
    graph.node("Softmax", SCORES, [logits], axis=1)
    outputs = [
        helper.make_tensor_value_info(CLASS, TensorProto.INT64, ["N"]),
        helper.make_tensor_value_info(SCORES, TensorProto.FLOAT, ["N", CLASSES]),
    ]
    return graph.model(INPUT, outputs)


def add_layers(graph: Graph, variant: Variant) -> str:
    """Add the whole network and return its logits."""
    tensor = graph.conv("conv0", variant.input, 3, 64, 7, 2, GAIN * variant.pixel_gain)
    pads = list(variant.pool_pads)
    tensor = graph.node("MaxPool", "pool0", [tensor], kernel_shape=[3, 3], strides=[2, 2], pads=pads)
    channels = 64
    for stage, (blocks, width) in enumerate(STAGES):
        for block in range(blocks):
            stride = 2 if stage > 0 and block == 0 else 1
            tensor = _block(graph, f"stage{stage + 1}.block{block + 1}", tensor, channels, width, stride)
            channels = EXPANSION * width
    tensor = graph.node("GlobalAveragePool", "pool", [tensor])
    tensor = graph.node("Flatten", "features", [tensor], axis=1)
    weights = graph.drawn("dense.weight", (variant.classes, channels), LOGIT_GAIN)
    bias = graph.zeros("dense.bias", variant.classes)
    return graph.node("Gemm", variant.logits, [tensor, weights, bias], transB=1)


def _block(graph: Graph, name: str, source: str, channels: int, width: int, stride: int) -> str:
    """Add a bottleneck block: 1x1, 3x3 with the stride, 1x1; the shortcut is a convolution where the shape changes."""
    expanded = EXPANSION * width
    shortcut = source
    if channels != expanded:
        shortcut = graph.conv(f"{name}.shortcut", source, channels, expanded, 1, stride, GAIN, relu=False)
    tensor = graph.conv(f"{name}.conv1", source, channels, width, 1, 1, GAIN)
    tensor = graph.conv(f"{name}.conv2", tensor, width, width, 3, stride, GAIN)
    tensor = graph.conv(f"{name}.conv3", tensor, width, expanded, 1, 1, GAIN * BRANCH_GAIN, relu=False)
    return graph.node("Relu", f"{name}.relu", [graph.node("Add", f"{name}.add", [tensor, shortcut])])


class Graph:
    """Nodes and constants as they are added. Each node bears its output's name."""

    def __init__(self, seed: int) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._seed = seed

    def model(self, source: str, outputs: Sequence[onnx.ValueInfoProto]) -> onnx.ModelProto:
        """Return the graph as a model that takes images by the name `source`."""
        from onnx import TensorProto, helper

        images = helper.make_tensor_value_info(source, TensorProto.FLOAT, ["N", 3, 224, 224])
        made = helper.make_graph(self.nodes, "resnet50_v1.5", [images], outputs, self.constants)
        model = helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
        model.producer_name = "engineroom: synthetic weights"
        return model

    def node(self, kind: str, name: str, inputs: list[str], **attributes: Any) -> str:
        """Add a node and return its output."""
        from onnx import helper

        self.nodes.append(helper.make_node(kind, inputs, [name], name, **attributes))
        return name

    def conv(
        self, name: str, source: str, channels: int, wanted: int, size: int, stride: int, gain: float, relu: bool = True
    ) -> str:
        """Add a convolution that keeps the image's size but for the stride, its normalization, perhaps a rectifier."""
        weight = self.drawn(f"{name}.weight", (wanted, channels, size, size), gain)
        tensor = self.node(
            "Conv", name, [source, weight], kernel_shape=[size] * 2, strides=[stride] * 2, pads=[size // 2] * 4
        )
        norm = [self.ones(f"{name}.scale", wanted), self.zeros(f"{name}.shift", wanted)]
        norm += [self.zeros(f"{name}.mean", wanted), self.ones(f"{name}.variance", wanted)]
        tensor = self.node("BatchNormalization", f"{name}.norm", [tensor, *norm])
        return self.node("Relu", f"{name}.relu", [tensor]) if relu else tensor

    def drawn(self, name: str, shape: tuple[int, ...], gain: float) -> str:
        """Add seeded weights."""
        return self._constant(name, draw(self._seed, len(self.constants), shape, gain))

    def ones(self, name: str, size: int) -> str:
        """Add a vector of ones."""
        import numpy as np

        return self._constant(name, np.ones(size, np.float32))

    def zeros(self, name: str, size: int) -> str:
        """Add a vector of zeros."""
        import numpy as np

        return self._constant(name, np.zeros(size, np.float32))

    def _constant(self, name: str, array: npt.NDArray[np.float32]) -> str:
        from onnx import numpy_helper

        self.constants.append(numpy_helper.from_array(array, name))
        return name
