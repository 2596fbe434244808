"""An ONNX model as a PyTorch module with the same weights: the operators of image classifiers, and no more.

The file's own tensors are used, so that PyTorch and the other engines compute the same function, whether the weights
were trained or are synthetic.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from engineroom.errors import EngineError
from engineroom.paths import display
from engineroom.qdq import Graph, read_model

if TYPE_CHECKING:
    import onnx
    import torch

Attributes = dict[str, Any]


def module_of(path: Path, outputs: Sequence[str]) -> torch.fx.GraphModule:
    """Return the model at `path` as a module that returns the tensors `outputs` in this order.

    Raises EngineError if it cannot be read, has an operator that is not among the ones here, or lacks an output.
    """
    import torch

    graph = Graph(_folded(path))
    if unknown := sorted({node.op_type for node in graph.nodes} - OPERATORS.keys() - {"Constant"}):
        raise EngineError(
            f"PyTorch is not told how to compute {', '.join(unknown)}",
            where=display(path),
            mend="give this engine a model that PyTorch exported (.pt2) or compiled (.pt)",
        )
    builder = _Builder(graph)
    if absent := [name for name in outputs if name not in builder.made]:
        raise EngineError(f"the model has no output {', '.join(absent)}", where=display(path))
    builder.graph.output(tuple(builder.made[name] for name in outputs))
    return torch.fx.GraphModule(builder.root, builder.graph).eval()


def _folded(path: Path) -> onnx.ModelProto:
    """Return the model with constants computed and normalizations folded into the layers before them."""
    import onnx
    import onnxruntime

    content = read_model(path).SerializeToString()  # with the weights that lie in files beside it
    with TemporaryDirectory(prefix="engineroom-import-") as scratch:
        settings = onnxruntime.SessionOptions()
        settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        settings.optimized_model_filepath = str(Path(scratch) / "folded.onnx")
        settings.log_severity_level = 3
        try:
            onnxruntime.InferenceSession(content, settings, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's errors have no common base but this one
            raise EngineError(str(error).strip().splitlines()[0], where=display(path)) from error
        return onnx.load(settings.optimized_model_filepath)


class _Builder:
    """The module as it grows: `made` has what computes each tensor, `root` the weights."""

    def __init__(self, graph: Graph) -> None:
        import torch

        self.onnx, self.graph, self.root = graph, torch.fx.Graph(), torch.nn.Module()
        self.made: dict[str, Any] = {}
        for number, tensor in enumerate(graph.model.graph.input):
            if not graph.is_constant(tensor.name):
                self.made[tensor.name] = self.graph.placeholder(f"input_{number}")
        for node in graph.nodes:
            if node.op_type != "Constant":
                self.made[node.output[0]] = OPERATORS[node.op_type](self, node, _attributes(node))

    def call(self, name: str, *arguments: Any, **named: Any) -> Any:
        """Add a call of torch.nn.functional's or torch's function `name`."""
        import torch

        function = getattr(torch.nn.functional, name, None) or getattr(torch, name)
        return self.graph.call_function(function, arguments, named)

    def tensor(self, node: onnx.NodeProto, index: int) -> Any:
        """Return what stands for an input of `node`: a tensor computed before, or weights; None if it has none."""
        import numpy as np
        import torch

        name = node.input[index] if index < len(node.input) else ""
        if not name or name in self.made:
            return self.made.get(name)
        constant = self.onnx.constant(name)
        attribute = f"weight_{len(self.made)}"
        self.root.register_buffer(attribute, torch.from_numpy(np.array(constant)))
        self.made[name] = self.graph.get_attr(attribute)
        return self.made[name]

    def numbers(self, node: onnx.NodeProto, index: int, attributes: Attributes, name: str) -> list[Any] | None:
        """Return a setting that is a constant input of newer operator sets, an attribute of older ones."""
        constant = self.onnx.constant(node.input[index]) if index < len(node.input) and node.input[index] else None
        found: list[Any] | None = attributes.get(name) if constant is None else constant.ravel().tolist()
        return found

    def pads(self, node: onnx.NodeProto, attributes: Attributes, kernel: Sequence[int]) -> list[int]:
        """Return the padding before and after each axis, as F.pad takes it: the last axis first."""
        strides = attributes.get("strides", [1] * len(kernel))
        pads: list[int] = attributes.get("pads", [0] * 2 * len(kernel))
        if (how := attributes.get("auto_pad", b"NOTSET")) in (b"SAME_UPPER", b"SAME_LOWER"):
            sizes: Any = self.onnx.shape(node.input[0])
            total = [
                max((math.ceil(size / stride) - 1) * stride + width - size, 0)
                for size, stride, width in zip(sizes[2:], strides, kernel, strict=True)
            ]
            less, more = [size // 2 for size in total], [size - size // 2 for size in total]
            pads = less + more if how == b"SAME_UPPER" else more + less
        count = len(kernel)
        return [pads[axis + side * count] for axis in reversed(range(count)) for side in (0, 1)]

    def padded(self, node: onnx.NodeProto, pads: list[int], value: float) -> tuple[Any, list[int]]:
        """Return a layer's input and the symmetric padding left to it: what is not symmetric is padded before."""
        source = self.tensor(node, 0)
        if pads[::2] == pads[1::2]:
            return source, pads[::-2]
        return self.call("pad", source, pads, "constant", value), [0] * (len(pads) // 2)


def _attributes(node: onnx.NodeProto) -> Attributes:
    from onnx import helper

    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def _conv(builder: _Builder, node: onnx.NodeProto, attributes: Attributes) -> Any:
    weight, bias = builder.tensor(node, 1), builder.tensor(node, 2)
    shape = builder.onnx.constant(node.input[1]).shape[2:]  # type: ignore[union-attr]
    dilations = attributes.get("dilations", [1] * len(shape))
    reach = [(size - 1) * dilation + 1 for size, dilation in zip(shape, dilations, strict=True)]
    source, padding = builder.padded(node, builder.pads(node, attributes, reach), 0.0)
    strides = attributes.get("strides", [1] * len(shape))
    return builder.call("conv2d", source, weight, bias, strides, padding, dilations, attributes.get("group", 1))


def _max_pool(builder: _Builder, node: onnx.NodeProto, attributes: Attributes) -> Any:
    kernel = attributes["kernel_shape"]
    source, padding = builder.padded(node, builder.pads(node, attributes, kernel), -math.inf)
    strides = attributes.get("strides", [1] * len(kernel))
    ceil_mode = bool(attributes.get("ceil_mode", 0))
    return builder.call("max_pool2d", source, kernel, strides, padding, ceil_mode=ceil_mode)


def _gemm(builder: _Builder, node: onnx.NodeProto, attributes: Attributes) -> Any:
    left, right = builder.tensor(node, 0), builder.tensor(node, 1)
    if _is_linear(builder, node, attributes):
        return builder.call("linear", left, right, builder.tensor(node, 2))
    left = builder.call("t", left) if attributes.get("transA") else left
    right = builder.call("t", right) if attributes.get("transB") else right
    product = builder.call("matmul", left, right)
    if (alpha := attributes.get("alpha", 1.0)) != 1:
        product = builder.call("mul", product, alpha)
    if (bias := builder.tensor(node, 2)) is None:
        return product
    return builder.call("add", product, bias, alpha=attributes.get("beta", 1.0))


def _is_linear(builder: _Builder, node: onnx.NodeProto, attributes: Attributes) -> bool:
    """Whether it is what PyTorch knows as one layer, and can quantize: weights per row, and a bias of one axis."""
    bias = builder.onnx.constant(node.input[2]) if len(node.input) > 2 else None
    settings = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0} | attributes
    plain = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 1}
    return settings == plain and bias is not None and bias.ndim == 1


def _mean(builder: _Builder, node: onnx.NodeProto, attributes: Attributes) -> Any:
    axes = builder.numbers(node, 1, attributes, "axes")
    return builder.call("mean", builder.tensor(node, 0), axes, keepdim=bool(attributes.get("keepdims", 1)))


def _squeeze(builder: _Builder, node: onnx.NodeProto, attributes: Attributes) -> Any:
    axes = builder.numbers(node, 1, attributes, "axes")
    return builder.call("squeeze", builder.tensor(node, 0), *([tuple(axes)] if axes else []))


def _reshape(builder: _Builder, node: onnx.NodeProto, attributes: Attributes) -> Any:
    """A 0 in the new shape keeps that axis; a first axis that was the batch stays one of any length."""
    shape, source = builder.numbers(node, 1, attributes, "shape"), builder.onnx.shape(node.input[0])
    if shape is None or not source:
        raise EngineError(f"the shape that {node.name} makes is not constant")
    known = [source[axis] if size == 0 else size for axis, size in enumerate(shape)]
    return builder.call("reshape", builder.tensor(node, 0), [size if isinstance(size, int) else -1 for size in known])


def _flatten(builder: _Builder, node: onnx.NodeProto, attributes: Attributes) -> Any:
    if attributes.get("axis", 1) != 1:
        raise EngineError(f"{node.name} flattens from another axis than 1")
    return builder.call("flatten", builder.tensor(node, 0), 1)


def _clip(builder: _Builder, node: onnx.NodeProto, attributes: Attributes) -> Any:
    found = [builder.numbers(node, 1, attributes, "min"), builder.numbers(node, 2, attributes, "max")]
    limits = [limit[0] if isinstance(limit, list) else limit for limit in found]
    source = builder.tensor(node, 0)
    return source if limits == [None, None] else builder.call("clamp", source, *limits)


def _arg_max(builder: _Builder, node: onnx.NodeProto, attributes: Attributes) -> Any:
    keep = bool(attributes.get("keepdims", 1))
    return builder.call("argmax", builder.tensor(node, 0), attributes.get("axis", 0), keep)


def _alike(name: str, inputs: int = 1) -> Operator:
    """Return how to add an operator that PyTorch has just as ONNX has it."""
    return lambda builder, node, attributes: builder.call(name, *(builder.tensor(node, i) for i in range(inputs)))


Operator = Callable[[_Builder, "onnx.NodeProto", Attributes], Any]
OPERATORS: dict[str, Operator] = {
    "Add": _alike("add", 2),
    "ArgMax": _arg_max,
    "Clip": _clip,
    "Conv": _conv,
    "Flatten": _flatten,
    "Gemm": _gemm,
    "GlobalAveragePool": lambda builder, node, attributes: builder.call(
        "mean", builder.tensor(node, 0), [2, 3], keepdim=True
    ),
    "Identity": lambda builder, node, attributes: builder.tensor(node, 0),
    "MatMul": _alike("matmul", 2),
    "MaxPool": _max_pool,
    "Mul": _alike("mul", 2),
    "ReduceMean": _mean,
    "Relu": _alike("relu"),
    "Reshape": _reshape,
    "Softmax": lambda builder, node, attributes: builder.call(
        "softmax", builder.tensor(node, 0), attributes.get("axis", -1)
    ),
    "Squeeze": _squeeze,
}
