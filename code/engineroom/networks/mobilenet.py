"""MobileNet v2 1.0 and v3-large-minimalistic at 224 pixels with seeded weights: TFLite, float or uint8, and ONNX.

Architectures: Sandler et al. 2018, "MobileNetV2: Inverted Residuals and Linear Bottlenecks", table 2; Howard et al.
2019, "Searching for MobileNetV3", table 1, "minimalistic": 3x3 convolutions, ReLU and no squeeze-and-excite. Tensors
have TensorFlow's names: `input` [N, 224, 224, 3], pixels from -1 to 1; scores [N, 1001], class 0 the background.
Normalizations are folded, as the published files have them. uint8 is asymmetric with one scale per tensor, as theirs.
The ONNX file has the same float weights and the same tensors: what it answers under ONNX Runtime is right for both.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from engineroom.networks.weights import draw, patterns, rounded_up
from engineroom.paths import write_beside

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import onnx

    Array = npt.NDArray[np.generic]

Activation = Literal["none", "relu", "relu6"]
Range = tuple[float, float]

INPUT = "input"
SIZE = 224
CLASSES = 1001
SEED = 224
GAIN = 1.7  # as ResNet-50's
DEPTHWISE_GAIN = 0.5  # beside the mean of its pixels, which a depthwise filter also takes: its channels stay alike
BRANCH_GAIN = 0.25  # of the projection that is added to a block's input
LOGIT_GAIN = 2.0
PIXEL_GAIN = 2.0  # pixels between -1 and 1 have about half the deviation of later layers

# How a uint8 input q stands for x = (q - zero point) * scale: as in v3-large-minimalistic_224_1.0_uint8.tflite, whose
# numbers omgitsmj24/mobilenet_from_c_scratch has read out (components/main_with_weights.c, input_scale).
INPUT_SCALE = 1 / 127
INPUT_ZERO_POINT = 128

OPSET = 13  # of the ONNX file, as of ResNet-50's
IR_VERSION = 7  # the one of opset 13
DESCRIPTION = "engineroom: synthetic weights"


@dataclass(frozen=True)
class Architecture:
    """What differs between the networks. A block is (expanded channels, channels, stride)."""

    name: str
    output: str
    activation: Activation
    stem: int
    blocks: tuple[tuple[int, int, int], ...]
    last: int  # channels of the 1x1 layer before the pooling
    hidden: int  # of the one after it; 0: there is none


def _repeated(*groups: tuple[int, int, int, int]) -> tuple[tuple[int, int, int], ...]:
    """Return v2's blocks from its table: (expansion, channels, repeats, stride of the first)."""
    blocks, channels = [], 32
    for expansion, wanted, repeats, stride in groups:
        for number in range(repeats):
            blocks.append((expansion * channels, wanted, 1 if number else stride))
            channels = wanted
    return tuple(blocks)


V2 = Architecture(
    "mobilenet-v2",
    "MobilenetV2/Predictions/Reshape_1",
    "relu6",
    32,
    _repeated(
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)
    ),
    1280,
    0,
)
V3_LARGE_MINIMALISTIC = Architecture(
    "mobilenet-v3-large-minimalistic",
    "MobilenetV3/Predictions/Softmax",
    "relu",
    16,
    (
        *((16, 16, 1), (64, 24, 2), (72, 24, 1), (72, 40, 2), (120, 40, 1), (120, 40, 1), (240, 80, 2), (200, 80, 1)),
        *((184, 80, 1), (184, 80, 1), (480, 112, 1), (672, 112, 1), (672, 160, 2), (960, 160, 1), (960, 160, 1)),
    ),
    960,
    1280,
)


def write(architecture: Architecture, path: Path, *, uint8: bool = False, seed: int = SEED) -> None:
    """Write the model to `path`; the same seed gives the same bytes. Needs the packages of the extra `litert`.

    The ranges of uint8 are observed on seeded patterns and rounded outwards, so that they do not depend on the last
    digits that a machine computes.
    """
    graph = _graph(architecture, seed)
    content = _serialized(graph, {})
    if uint8:
        content = _serialized(graph, _observed(content))
    with write_beside(path) as beside:
        beside.write_bytes(content)


def write_onnx(architecture: Architecture, path: Path, *, seed: int = SEED) -> None:
    """Write the float model as ONNX to `path`: the weights and tensors of the TFLite file, for a batch of any size."""
    model = _onnx(_graph(architecture, seed))
    with write_beside(path) as beside:
        beside.write_bytes(model.SerializeToString(deterministic=True))


# The graph


@dataclass(frozen=True)
class _Node:
    kind: Literal["CONV_2D", "DEPTHWISE_CONV_2D", "ADD", "MEAN", "RESHAPE", "SOFTMAX"]
    inputs: tuple[str, ...]
    output: str
    stride: int = 1
    activation: Activation = "none"


@dataclass
class _Graph:
    """Nodes in order, the shape of each tensor that is computed, and the constants."""

    name: str
    seed: int
    output: str
    nodes: list[_Node] = field(default_factory=list)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=lambda: {INPUT: (1, SIZE, SIZE, 3)})
    constants: dict[str, Array] = field(default_factory=dict)

    def conv(self, name: str, source: str, wanted: int, size: int, stride: int, gain: float, act: Activation) -> str:
        """Add a convolution with a bias; `wanted` 0: a depthwise one."""
        import numpy as np

        _, height, width, channels = self.shapes[source]
        number = len(self.constants)
        if wanted:
            weights = draw(self.seed, number, (wanted, size, size, channels), gain)
        else:
            drawn = draw(self.seed, number, (channels, size, size), gain) + np.float32(1 / size**2)
            weights = np.ascontiguousarray(drawn.transpose(1, 2, 0)[np.newaxis])
        self.constants[f"{name}/weights"] = weights
        self.constants[f"{name}/bias"] = np.zeros(weights.shape[0 if wanted else 3], np.float32)
        kind: Literal["CONV_2D", "DEPTHWISE_CONV_2D"] = "CONV_2D" if wanted else "DEPTHWISE_CONV_2D"
        shape = (1, math.ceil(height / stride), math.ceil(width / stride), wanted or channels)
        return self._add(_Node(kind, (source, f"{name}/weights", f"{name}/bias"), name, stride, act), shape)

    def add(self, name: str, left: str, right: str) -> str:
        """Add an addition of two tensors of one shape."""
        return self._add(_Node("ADD", (left, right), name), self.shapes[left])

    def pool(self, name: str, source: str) -> str:
        """Add a mean over the image."""
        import numpy as np

        self.constants[f"{name}/axes"] = np.array([1, 2], np.int32)
        return self._add(_Node("MEAN", (source, f"{name}/axes"), name), (1, 1, 1, self.shapes[source][3]))

    def scores(self, logits: str) -> str:
        """Add what turns logits [N, 1, 1, classes] into scores [N, classes]."""
        import numpy as np

        classes = self.shapes[logits][3]
        self.constants["flat/shape"] = np.array([-1, classes], np.int32)
        flat = self._add(_Node("RESHAPE", (logits, "flat/shape"), "flat"), (1, classes))
        return self._add(_Node("SOFTMAX", (flat,), self.output), (1, classes))

    def _add(self, node: _Node, shape: tuple[int, ...]) -> str:
        self.nodes.append(node)
        self.shapes[node.output] = shape
        return node.output


def _graph(architecture: Architecture, seed: int) -> _Graph:
    graph, act = _Graph(architecture.name, seed, architecture.output), architecture.activation
    tensor = graph.conv("stem", INPUT, architecture.stem, 3, 2, GAIN * PIXEL_GAIN, act)
    for number, (expanded, wanted, stride) in enumerate(architecture.blocks):
        name, source = f"block{number}", tensor
        channels = graph.shapes[source][3]
        if expanded != channels:
            tensor = graph.conv(f"{name}/expand", tensor, expanded, 1, 1, GAIN, act)
        tensor = graph.conv(f"{name}/depthwise", tensor, 0, 3, stride, DEPTHWISE_GAIN, act)
        adds = stride == 1 and channels == wanted
        tensor = graph.conv(f"{name}/project", tensor, wanted, 1, 1, GAIN * (BRANCH_GAIN if adds else 1), "none")
        if adds:
            tensor = graph.add(f"{name}/add", source, tensor)
    tensor = graph.conv("last", tensor, architecture.last, 1, 1, GAIN, act)
    tensor = graph.pool("pool", tensor)
    if architecture.hidden:
        tensor = graph.conv("hidden", tensor, architecture.hidden, 1, 1, GAIN, act)
    graph.scores(graph.conv("logits", tensor, CLASSES, 1, 1, LOGIT_GAIN, "none"))
    return graph


# Quantization


def _observed(content: bytes) -> dict[str, Range]:
    """Return the range of each tensor that the float model computes on patterns of many sizes, rounded outwards."""
    import warnings

    import numpy as np
    from ai_edge_litert.interpreter import Interpreter

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # keeping all tensors takes memory, it says
        interpreter = Interpreter(model_content=content, num_threads=1, experimental_preserve_all_tensors=True)
    interpreter.allocate_tensors()
    source = interpreter.get_input_details()[0]["index"]
    ranges: dict[str, Range] = {}
    for image in patterns(SEED):
        interpreter.set_tensor(source, (image[np.newaxis].astype(np.float32) - 128) / 128)
        interpreter.invoke()
        for detail in interpreter.get_tensor_details():
            if detail["dtype"] is np.float32 and detail["name"]:
                values = interpreter.get_tensor(detail["index"])
                low, high = ranges.get(detail["name"], (0.0, 0.0))
                ranges[detail["name"]] = (min(low, float(values.min())), max(high, float(values.max())))
    return {name: (-rounded_up(-low), rounded_up(high)) for name, (low, high) in ranges.items()}


@dataclass(frozen=True)
class _Scale:
    scale: float
    zero_point: int


def _scale_of(low: float, high: float) -> _Scale:
    """Return how the range from `low` <= 0 to `high` >= 0 goes into 0 to 255; 0 is represented exactly."""
    scale = (high - low) / 255 or 1.0
    return _Scale(scale, round(-low / scale))


def _scales(graph: _Graph, ranges: Mapping[str, Range]) -> dict[str, _Scale]:
    """Return how each tensor is quantized. LiteRT fixes a Softmax's output, and a Reshape must change nothing."""
    scales = {INPUT: _Scale(INPUT_SCALE, INPUT_ZERO_POINT)}
    for node in graph.nodes:
        if node.kind in ("RESHAPE", "MEAN"):
            scales[node.output] = scales[node.inputs[0]]
        elif node.kind == "SOFTMAX":
            scales[node.output] = _Scale(1 / 256, 0)
        else:
            scales[node.output] = _scale_of(*ranges[node.output])
        for name in node.inputs:
            if name.endswith("/weights"):
                weights: Any = graph.constants[name]
                scales[name] = _scale_of(min(0.0, float(weights.min())), max(0.0, float(weights.max())))
            elif name.endswith("/bias"):
                scales[name] = _Scale(scales[node.inputs[0]].scale * scales[node.inputs[1]].scale, 0)
    return scales


def _quantized(name: str, array: Array, scales: Mapping[str, _Scale]) -> Array:
    import numpy as np

    if name not in scales:
        return array
    steps = np.rint(array.astype(np.float64) / scales[name].scale) + scales[name].zero_point
    return steps.astype(np.int32) if name.endswith("/bias") else np.clip(steps, 0, 255).astype(np.uint8)


# The file


def _serialized(graph: _Graph, ranges: Mapping[str, Range]) -> bytes:
    """Return the TFLite file: float without `ranges`, else uint8."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    scales = _scales(graph, ranges) if ranges else {}
    kinds = sorted({node.kind for node in graph.nodes})
    tensors = [*graph.shapes, *graph.constants]
    model = schema.ModelT()
    model.version = 3  # of the schema; the file's identifier says so too
    model.description = DESCRIPTION
    model.operatorCodes = [_operator_code(schema, kind) for kind in kinds]
    model.buffers = [schema.BufferT()]  # the first one stands for "no data"
    subgraph = schema.SubGraphT()
    subgraph.name = graph.name
    subgraph.tensors = []
    for name in tensors:
        constant = graph.constants.get(name)
        data = None if constant is None else _quantized(name, constant, scales)
        subgraph.tensors.append(
            _tensor(schema, name, graph, data, scales, len(model.buffers) if data is not None else 0)
        )
        if data is not None:
            model.buffers.append(_buffer(schema, data))
    subgraph.operators = [_operator(schema, node, tensors, kinds) for node in graph.nodes]
    subgraph.inputs, subgraph.outputs = [tensors.index(INPUT)], [tensors.index(graph.output)]
    model.subgraphs = [subgraph]
    builder = flatbuffers.Builder(1 << 24)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _operator_code(schema: Any, kind: str) -> Any:
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = getattr(schema.BuiltinOperator, kind)
    code.version = 1
    return code


def _buffer(schema: Any, data: Array) -> Any:
    import numpy as np

    buffer = schema.BufferT()
    buffer.data = np.frombuffer(data.tobytes(), np.uint8)
    return buffer


def _tensor(
    schema: Any, name: str, graph: _Graph, data: Array | None, scales: Mapping[str, _Scale], buffer: int
) -> Any:
    tensor = schema.TensorT()
    tensor.name, tensor.buffer = name, buffer
    tensor.shape = list(graph.shapes[name] if data is None else data.shape)
    if data is None:
        tensor.shapeSignature = [-1, *tensor.shape[1:]]
    dtype = str(data.dtype) if data is not None else "uint8" if scales else "float32"
    tensor.type = getattr(schema.TensorType, dtype.upper())
    if name in scales:
        tensor.quantization = schema.QuantizationParametersT()
        tensor.quantization.scale = [scales[name].scale]
        tensor.quantization.zeroPoint = [scales[name].zero_point]
    return tensor


def _operator(schema: Any, node: _Node, tensors: Sequence[str], kinds: Sequence[str]) -> Any:
    operator = schema.OperatorT()
    operator.opcodeIndex = kinds.index(node.kind)
    operator.inputs = [tensors.index(name) for name in node.inputs]
    operator.outputs = [tensors.index(node.output)]
    options = {
        "CONV_2D": "Conv2DOptions",
        "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
        "ADD": "AddOptions",
        "MEAN": "ReducerOptions",
        "RESHAPE": "ReshapeOptions",
        "SOFTMAX": "SoftmaxOptions",
    }[node.kind]
    operator.builtinOptionsType = getattr(schema.BuiltinOptions, options)
    operator.builtinOptions = getattr(schema, f"{options}T")()
    values: dict[str, Any] = {
        "padding": schema.Padding.SAME,
        "strideH": node.stride,
        "strideW": node.stride,
        "depthMultiplier": 1,
        "fusedActivationFunction": getattr(schema.ActivationFunctionType, node.activation.upper()),
        "keepDims": True,
        "beta": 1.0,
    }
    for name in values.keys() & vars(operator.builtinOptions).keys():
        setattr(operator.builtinOptions, name, values[name])
    return operator


# The ONNX file

_FIRST = "channels_first"  # the input as ONNX's convolutions take it
_PLAIN: Mapping[str, tuple[str, dict[str, int]]] = {
    "ADD": ("Add", {}),
    "MEAN": ("GlobalAveragePool", {}),
    "RESHAPE": ("Flatten", {"axis": 1}),
    "SOFTMAX": ("Softmax", {"axis": 1}),
}


def _onnx(graph: _Graph) -> onnx.ModelProto:
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    nodes = [helper.make_node("Transpose", [INPUT], [_FIRST], _FIRST, perm=[0, 3, 1, 2])]
    constants: dict[str, Array] = {}
    for node in graph.nodes:
        linear = node.output if node.activation == "none" else f"{node.output}/linear"
        kind, attributes = _PLAIN.get(node.kind) or ("Conv", _conv(graph, node))
        if kind == "Conv":
            constants |= _conv_constants(graph, node)
        known = [name for name in node.inputs if name in graph.shapes or name in constants]
        tensors = [_FIRST if name == INPUT else name for name in known]
        nodes.append(helper.make_node(kind, tensors, [linear], linear, **attributes))
        if node.activation == "relu":
            nodes.append(helper.make_node("Relu", [linear], [node.output], node.output))
        elif node.activation == "relu6":
            constants |= {"0": np.array(0, np.float32), "6": np.array(6, np.float32)}
            nodes.append(helper.make_node("Clip", [linear, "0", "6"], [node.output], node.output))
    images = helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["N", *graph.shapes[INPUT][1:]])
    scores = helper.make_tensor_value_info(graph.output, TensorProto.FLOAT, ["N", *graph.shapes[graph.output][1:]])
    stored = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    made = helper.make_graph(nodes, graph.name, [images], [scores], stored)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    model.producer_name = DESCRIPTION
    return model


def _conv(graph: _Graph, node: _Node) -> dict[str, Any]:
    """Return a convolution's attributes: TensorFlow's SAME padding has the odd pixel at the far side."""
    size, channels = graph.constants[node.inputs[1]].shape[1], graph.shapes[node.output][3]
    lengths = zip(graph.shapes[node.inputs[0]][1:3], graph.shapes[node.output][1:3], strict=True)
    padding = [max((after - 1) * node.stride + size - before, 0) for before, after in lengths]
    return {
        "group": channels if node.kind == "DEPTHWISE_CONV_2D" else 1,
        "kernel_shape": [size, size],
        "strides": [node.stride, node.stride],
        "pads": [*(total // 2 for total in padding), *(total - total // 2 for total in padding)],
    }


def _conv_constants(graph: _Graph, node: _Node) -> dict[str, Array]:
    """Return weights and bias. TFLite's weights are [out, height, width, in], depthwise [1, height, width, out]."""
    import numpy as np

    _, weights, bias = node.inputs
    axes = (3, 0, 1, 2) if node.kind == "DEPTHWISE_CONV_2D" else (0, 3, 1, 2)
    return {
        weights: np.ascontiguousarray(graph.constants[weights].transpose(axes)),
        bias: graph.constants[bias],
    }
