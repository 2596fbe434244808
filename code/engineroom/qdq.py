"""The rules of an explicitly quantized (Q/DQ) ONNX model that OpenVINO, ONNX Runtime and TensorRT all take.

TensorRT is the strictest, and most rules are its own. Their sources:

[importer] onnx-tensorrt, onnxOpImporters.cpp, QuantDequantLinearHelper and docs/operators.md (TensorRT 10.1)
[manual]   TensorRT documentation, "Explicit Quantization": Q/DQ layer-placement recommendations
[425]      NVIDIA/TensorRT-Model-Optimizer pull request 425: only the residual input of an add needs Q/DQ
[14229]    microsoft/onnxruntime issue 14229: an int32 bias behind a DequantizeLinear stops TensorRT's parser
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from engineroom.errors import EngineError
from engineroom.paths import display

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import onnx

QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"
WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
OPSET_MIN = 13  # the first in which QuantizeLinear has an axis
OPSET_MIN_FLOAT8 = 19  # the first that has fp8
INT8, FLOAT8 = "int8", "float8_e4m3fn"  # NumPy's names of what is quantized to
_INTEGER_OPS = ("QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger", "DynamicQuantizeLinear")
_KEEPS_VALUES = ("MaxPool", "Flatten", "Reshape")  # picks or moves them, and computes none
_PASSES_ON = ("BatchNormalization", "Dropout", "Identity")  # between a layer and the add it feeds


def read_model(path: Path) -> onnx.ModelProto:
    """Return the ONNX model at `path`. Raises EngineError in one line if it is not a whole, valid one."""
    import onnx

    try:
        path.open("rb").close()
        onnx.checker.check_model(str(path))
        return onnx.load(path)
    except OSError as error:
        raise EngineError(f"cannot be read: {error.strerror or error}", where=display(path)) from error
    except onnx.checker.ValidationError as error:
        reason = str(error).strip().splitlines()[0]
        raise EngineError(f"is not a valid ONNX model: {reason}", where=display(path)) from error


def violations(path: Path, dtype: str = INT8) -> list[str]:
    """Return every rule that the model at `path` breaks, with the node that breaks it; none if it may be built.

    `dtype` is what it is quantized to. Raises EngineError if it cannot be read.
    """
    graph = Graph(read_model(path), dtype)
    return [f"{where}: {what}" for rule in RULES for where, what in rule(graph)]


class Graph:
    """A model's graph with its edges: who makes a tensor, which tensors are constant, which shapes are known."""

    def __init__(self, model: onnx.ModelProto, dtype: str = INT8) -> None:
        self.model, self.dtype = model, dtype
        self.nodes = list(model.graph.node)
        self.producers = {output: node for node in self.nodes for output in node.output}
        self._constants = {tensor.name: tensor for tensor in model.graph.initializer}
        for node in self.nodes:
            if node.op_type == "Constant" and node.attribute[0].name == "value":
                self._constants[node.output[0]] = node.attribute[0].t

    def constant(self, name: str) -> npt.NDArray[np.generic] | None:
        """Return a constant tensor's value, or None."""
        from onnx import numpy_helper

        tensor = self._constants.get(name)
        return None if tensor is None else numpy_helper.to_array(tensor)

    def is_constant(self, name: str) -> bool:
        """Whether the tensor is a constant, quantized or not."""
        return self.source(name) in self._constants

    def made_by(self, name: str, *kinds: str) -> onnx.NodeProto | None:
        """Return the node that makes tensor `name` if it is one of `kinds`, else None."""
        node = self.producers.get(name)
        return node if node is not None and node.op_type in kinds else None

    def source(self, name: str) -> str:
        """Return the tensor that `name` stands for: what went into the Q and DQ before it, if any."""
        while node := self.made_by(name, QUANTIZE, DEQUANTIZE):
            name = node.input[0]
        return name

    def activation_scales(self) -> dict[str, float]:
        """Return the scale of each activation that is quantized."""
        found = {}
        for node in self.nodes:
            scale = self.constant(node.input[1]) if node.op_type == QUANTIZE else None
            if scale is not None and not self.is_constant(node.input[0]):
                found[node.input[0]] = float(scale.item())
        return found

    def is_layer(self, node: onnx.NodeProto) -> bool:
        """Whether `node` is a weighted layer: a convolution or matrix product with constant weights."""
        return node.op_type in WEIGHTED and self.is_constant(node.input[1])

    def is_layer_output(self, name: str) -> bool:
        """Whether tensor `name` comes from a weighted layer, perhaps by way of its bias or normalization."""
        node = self.producers.get(self.source(name))
        if node is None or self.is_layer(node):
            return node is not None
        if node.op_type == "Add" and len(variable := [item for item in node.input if not self.is_constant(item)]) == 1:
            return self.is_layer_output(variable[0])
        return node.op_type in _PASSES_ON and self.is_layer_output(node.input[0])

    def residual_adds(self) -> list[onnx.NodeProto]:
        """Return the adds that join a weighted layer's output with another activation of the same shape."""
        return [
            node
            for node in self.nodes
            if node.op_type == "Add"
            and not any(self.is_constant(name) for name in node.input)
            and any(self.is_layer_output(name) for name in node.input)
            and self.shape(node.input[0]) == self.shape(node.input[1])
        ]

    def shape(self, name: str) -> tuple[int | str, ...] | None:
        """Return a tensor's shape, a name for each axis of any length; None if it cannot be inferred."""
        found = self._types.get(self.source(name))
        return found and tuple(axis.dim_param or axis.dim_value for axis in found.shape.dim)

    def is_float(self, name: str) -> bool:
        """Whether the tensor is known to hold float32."""
        import onnx

        found = self._types.get(name)
        return found is not None and found.elem_type == onnx.TensorProto.FLOAT

    @cached_property
    def _types(self) -> dict[str, onnx.TypeProto.Tensor]:
        import onnx

        graph = onnx.shape_inference.infer_shapes(self.model).graph
        return {info.name: info.type.tensor_type for info in [*graph.input, *graph.value_info, *graph.output]}


def opset_of(model: onnx.ModelProto) -> int:
    """Return the version of ONNX's own operators that the model uses, 0 if it uses none."""
    return next((opset.version for opset in model.opset_import if opset.domain in ("", "ai.onnx")), 0)


def output_axis(node: onnx.NodeProto, rank: int) -> int:
    """Return the axis of the output channels in the weights of a weighted layer, weights of `rank` axes."""
    if node.op_type == "Conv":
        return 0
    if node.op_type == "ConvTranspose":
        return 1
    if node.op_type == "Gemm":
        return 0 if any(attribute.name == "transB" and attribute.i for attribute in node.attribute) else 1
    return rank - 1


def quantize_ahead(model: onnx.ModelProto) -> int:
    """Move the Q/DQ pair behind each pool or reshaping ahead of it, in place; return how many steps that were.

    Rounding keeps order, so the answers are the same: DQ(Q(max(x))) is max(DQ(Q(x))). The layer before can then hand
    over int8, and a quarter of the bytes is pooled. TensorRT does so itself ([manual], "Processing of Q/DQ Networks").
    """
    moved = 0
    while found := _behind_kept_values(Graph(model)):
        keeps, quantize, dequantize = found
        after = dequantize.output[0]
        quantize.input[0], keeps.input[0] = keeps.input[0], f"{after}_ahead"
        dequantize.output[0], keeps.output[0] = keeps.input[0], after
        model.graph.node.remove(keeps)
        model.graph.node.insert(list(model.graph.node).index(dequantize) + 1, keeps)
        moved += 1
    if moved:
        del model.graph.value_info[:]  # the shapes of what was renamed are others now
    return moved


def _behind_kept_values(graph: Graph) -> tuple[onnx.NodeProto, onnx.NodeProto, onnx.NodeProto] | None:
    """Return a node that keeps values and the Q and DQ behind it, which nobody else reads, if there are such."""
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.nodes:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    shown = {output.name for output in graph.model.graph.output}

    def only_reader(node: onnx.NodeProto, kind: str) -> onnx.NodeProto | None:
        read = readers.get(node.output[0], [])
        alone = len(node.output) == len(read) == 1 and node.output[0] not in shown
        return read[0] if alone and read[0].op_type == kind else None

    for node in graph.nodes:
        if node.op_type in _KEEPS_VALUES and (quantize := only_reader(node, QUANTIZE)):
            scale = graph.constant(quantize.input[1])
            if scale is not None and scale.size == 1 and (dequantize := only_reader(quantize, DEQUANTIZE)):
                return node, quantize, dequantize
    return None


Rule = Callable[[Graph], Iterator[tuple[str, str]]]  # yields (node, what is wrong)


def _is_quantized(graph: Graph) -> Iterator[tuple[str, str]]:
    """A float model has nothing to be built in int8."""
    if not any(node.op_type == QUANTIZE for node in graph.nodes):
        yield "model", f"has no QuantizeLinear node; TensorRT 11 has no {graph.dtype} without"


def _opset(graph: Graph) -> Iterator[tuple[str, str]]:
    """[manual] Weights per channel need an axis, and fp8 its type (ONNX, docs/Operators.md)."""
    version = opset_of(graph.model)
    if version < OPSET_MIN:
        yield "model", f"opset {version}; per-channel quantization needs {OPSET_MIN} or later"
    elif graph.dtype == FLOAT8 and version < OPSET_MIN_FLOAT8:
        yield "model", f"opset {version}; fp8 needs {OPSET_MIN_FLOAT8} or later"


def _no_integer_operators(graph: Graph) -> Iterator[tuple[str, str]]:
    """[importer] Quantized operators, as of ONNX Runtime's QOperator format, have no importer."""
    for node in graph.nodes:
        if node.op_type in _INTEGER_OPS or node.domain not in ("", "ai.onnx"):
            yield _name(node), f"{node.op_type} is a quantized or private operator; use QuantizeLinear/DequantizeLinear"


def _one_type(graph: Graph) -> Iterator[tuple[str, str]]:
    """[importer] uint8 is not taken, int32 neither. The type is the zero point's; without one a Q makes uint8.

    int8 and fp8 in one network is not taken (TensorRT documentation, "Working with Quantized Types").
    """
    for node in _q_and_dq(graph):
        zero_point = graph.constant(node.input[2]) if len(node.input) > 2 else None
        data = graph.constant(node.input[0]) if node.op_type == DEQUANTIZE else None
        typed = zero_point if zero_point is not None else data
        made = graph.made_by(node.input[0], QUANTIZE)
        if typed is None and node.op_type == DEQUANTIZE and made is not None:
            continue  # its type is that of the QuantizeLinear before it, which is looked at itself
        dtype = "uint8" if typed is None else str(typed.dtype)
        if dtype not in (graph.dtype, "int32"):  # int32 is the next rule's
            yield _name(node), f"quantizes to {dtype}; only {graph.dtype} is taken"


def _float_biases(graph: Graph) -> Iterator[tuple[str, str]]:
    """[14229] Biases stay in float."""
    for node in _q_and_dq(graph):
        data = graph.constant(node.input[0])
        if node.op_type == DEQUANTIZE and data is not None and str(data.dtype) == "int32":
            yield _name(node), "dequantizes an int32 bias; biases must stay in float"


def _zero_points(graph: Graph) -> Iterator[tuple[str, str]]:
    """[importer] Only symmetric quantization: zero points are constant, all 0, and as many as the scales."""
    for node in _q_and_dq(graph):
        if len(node.input) < 3 or not node.input[2]:
            continue
        zero_point, scale = graph.constant(node.input[2]), graph.constant(node.input[1])
        if zero_point is None or zero_point.astype(float).any():
            yield _name(node), "its zero point must be a constant 0"
        elif scale is not None and scale.size != zero_point.size:
            yield _name(node), f"has {zero_point.size} zero points for {scale.size} scales"


def _scales(graph: Graph) -> Iterator[tuple[str, str]]:
    """[importer] Scales are positive; [manual] activations have one scale for the whole tensor."""
    import numpy as np

    for node in _q_and_dq(graph):
        scale = graph.constant(node.input[1])
        if scale is None or not ((scale > 0) & np.isfinite(scale)).all():  # type: ignore[operator]
            yield _name(node), "its scales must be constant, positive and finite"
        elif scale.size > 1 and not graph.is_constant(node.input[0]):
            yield _name(node), f"has {scale.size} scales for an activation; activations take one"


def _weights(graph: Graph) -> Iterator[tuple[str, str]]:
    """[manual] A layer runs in int8 if its input and its weights are quantized, the weights per output channel."""
    for node in filter(graph.is_layer, graph.nodes):
        quantized = graph.made_by(node.input[1], DEQUANTIZE)
        has_int8_input = graph.made_by(node.input[0], DEQUANTIZE) is not None
        if has_int8_input != (quantized is not None):
            half = "input is" if has_int8_input else "weights are"
            yield _name(node), f"only its {half} quantized; quantize both or none"
        if quantized is not None and (wrong := _wrong_channels(graph, node, quantized)):
            yield _name(node), wrong


def _wrong_channels(graph: Graph, node: onnx.NodeProto, dequantize: onnx.NodeProto) -> str | None:
    weights, scale = graph.constant(graph.source(node.input[1])), graph.constant(dequantize.input[1])
    if weights is None or scale is None:
        return None  # said by the rule on scales
    wanted = output_axis(node, weights.ndim)
    axis = next((attribute.i for attribute in dequantize.attribute if attribute.name == "axis"), 1) % weights.ndim
    channels = weights.shape[wanted]
    if scale.size != channels or (scale.size > 1 and axis != wanted):
        return f"has {scale.size} weight scales on axis {axis}; output channels: {channels} on axis {wanted}"
    return None


def _residual_adds(graph: Graph) -> Iterator[tuple[str, str]]:
    """[manual] [425] The add is fused with the layer before it, in int8, if the residual, its other input, is int8.

    Whether that layer's own output is quantized too is left open: NVIDIA's tool leaves it bare.
    """
    for node in graph.residual_adds():
        bare = [name for name in node.input if graph.made_by(name, DEQUANTIZE) is None]
        if len(bare) > 1 or not all(map(graph.is_layer_output, bare)):
            yield _name(node), f"a residual add with {' and '.join(bare)} not quantized; quantize the residual input"


RULES: tuple[Rule, ...] = (
    _is_quantized,
    _opset,
    _no_integer_operators,
    _one_type,
    _float_biases,
    _zero_points,
    _scales,
    _weights,
    _residual_adds,
)


def _q_and_dq(graph: Graph) -> list[onnx.NodeProto]:
    return [node for node in graph.nodes if node.op_type in (QUANTIZE, DEQUANTIZE)]


def _name(node: onnx.NodeProto) -> str:
    return f"{node.op_type} {node.name or node.output[0]}"
