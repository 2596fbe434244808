"""Writes an ONNX model in which every float tensor has the type asked for: fp16 or bf16 is then what the file says.

A strongly typed network has the types of its file; TensorRT 11 knows no other (NVIDIA/TensorRT, NvInfer.h of 11.1,
NetworkDefinitionCreationFlag). Inputs and outputs keep their types: a Cast stands behind and before them. What ONNX
does not define for the type, such as the scales of a Resize, stays in float32 between two Casts. In a quantized model
the scales get the type, for a DequantizeLinear answers in the type of its scale; constant weights are rounded anew.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engineroom.errors import EngineError
from engineroom.paths import display
from engineroom.qdq import DEQUANTIZE, QUANTIZE, opset_of, read_model

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import onnx

TYPES = {"float16": "FLOAT16", "bfloat16": "BFLOAT16"}  # NumPy's names, and ONNX's
# The first opset in which the operators of CNNs are defined for a type; scales of a Q or DQ can be float16 from 19 on.
OPSETS = {"float16": 13, "bfloat16": 22}
OPSET_OF_SCALES = 19
SUBGRAPHS = ("If", "Loop", "Scan")
ONE_FILE_MAX = (1 << 31) - (1 << 20)  # bytes: protobuf's limit


def write(source: Path, target: Path, dtype: str) -> None:
    """Write the model at `source` to `target` with its float tensors in `dtype`.

    Raises EngineError if it cannot be read, or cannot be said in this type.
    """
    import onnx

    model = read_model(source)
    try:
        model = _raised(model, dtype)
        _Retyped(model, dtype).apply()
        model = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
        onnx.checker.check_model(model)
    except Exception as error:  # the checker, the converter and protobuf have no common base but this one
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise EngineError(f"cannot be written in {dtype}: {reason}", where=display(source)) from error
    large = model.ByteSize() > ONE_FILE_MAX
    onnx.save(model, target, save_as_external_data=large, location=f"{target.name}.data" if large else None)


def _raised(model: onnx.ModelProto, dtype: str) -> onnx.ModelProto:
    """Return the model in an opset that has its operators for the type."""
    import onnx

    quantized = any(node.op_type in (QUANTIZE, DEQUANTIZE) for node in model.graph.node)
    wanted = max(OPSETS[dtype], OPSET_OF_SCALES if quantized else 0)
    return onnx.version_converter.convert_version(model, wanted) if opset_of(model) < wanted else model


class _Retyped:
    """The rewriting of one model, in place."""

    def __init__(self, model: onnx.ModelProto, dtype: str) -> None:
        import onnx

        self.graph, self.opset = model.graph, opset_of(model)
        self.float = int(onnx.TensorProto.FLOAT)
        self.type = int(getattr(onnx.TensorProto, TYPES[dtype]))
        self.word = f"tensor({dtype})"
        # Shape inference leaves out what it cannot tell; such a tensor is taken for no float.
        inferred = onnx.shape_inference.infer_shapes(model).graph
        infos = [*inferred.input, *inferred.value_info, *inferred.output]
        found = {info.name: info.type.tensor_type.elem_type for info in infos}
        found |= {tensor.name: tensor.data_type for tensor in self.graph.initializer}
        self.floats = {name for name, elem_type in found.items() if elem_type == self.float}
        self.casts: dict[str, onnx.NodeProto] = {}  # back to float32, by the name of what is cast
        self.names = Counter[str]()

    def apply(self) -> None:
        """Rewrite nodes, constants, inputs and outputs."""
        if inner := [node.op_type for node in self.graph.node if node.op_type in SUBGRAPHS]:
            raise ValueError(f"it holds a graph within a graph ({inner[0]})")
        self._retype_scaled_weights()
        constants = {tensor.name: tensor for tensor in self.graph.initializer}
        kept = self._kept_constants(constants)
        nodes = [made for node in self.graph.node for made in self._node(node, kept)]
        for name in (constants.keys() & self.floats) - kept:
            constants[name].CopyFrom(self._tensor(constants[name]))
        inputs = [tensor.name for tensor in self.graph.input if tensor.name in self.floats - constants.keys()]
        outputs = [tensor.name for tensor in self.graph.output if tensor.name in self.floats]
        typed = {name: f"{name}_typed" for name in (*inputs, *outputs)}
        for node in nodes:
            node.input[:] = [typed.get(name, name) for name in node.input]
            node.output[:] = [typed.get(name, name) for name in node.output]
        del self.graph.node[:], self.graph.value_info[:]
        self.graph.node.extend(self._cast(name, typed[name], self.type) for name in inputs)
        self.graph.node.extend(nodes)
        self.graph.node.extend(self._cast(typed[name], name, self.float) for name in outputs)

    def _node(self, node: onnx.NodeProto, kept: set[str]) -> Iterator[onnx.NodeProto]:
        """Yield the node with the Casts that it needs around it."""
        self._retype_attributes(node)
        schema, before = self._schema(node), list(node.input)
        for place, name in enumerate(before):
            if name in self.floats - kept and not self._takes(schema, "inputs", place):
                if name not in self.casts:
                    self.casts[name] = self._cast(name, f"{name}_fp32", self.float)
                    yield self.casts[name]
                node.input[place] = self.casts[name].output[0]
        after = []
        for place, name in enumerate(node.output):
            if name in self.floats and not self._takes(schema, "outputs", place):
                node.output[place] = f"{name}_as_fp32"
                after.append(self._cast(node.output[place], name, self.type))
        yield node
        yield from after

    def _schema(self, node: onnx.NodeProto) -> Any:
        """Return what ONNX defines of a node; None for an operator that is not ONNX's."""
        import onnx

        try:
            return onnx.defs.get_schema(node.op_type, self.opset, node.domain)
        except onnx.defs.SchemaError:
            return None

    def _takes(self, schema: Any, side: str, place: int) -> bool:
        """Whether an input or output of a node may be of the type."""
        formal = getattr(schema, side, None)
        if not formal:
            return False
        word = formal[min(place, len(formal) - 1)].type_str
        allowed = next((each.allowed_type_strs for each in schema.type_constraints if each.type_param_str == word), ())
        return self.word in (allowed or (word,))

    def _kept_constants(self, constants: dict[str, onnx.TensorProto]) -> set[str]:
        """Return the float constants that only inputs use which do not take the type: they stay as they are."""
        taken: set[str] = set()
        for node in self.graph.node:
            schema = self._schema(node)
            taken |= {name for place, name in enumerate(node.input) if self._takes(schema, "inputs", place)}
        used = {name for node in self.graph.node for name in node.input}
        return {name for name in constants.keys() & self.floats & used if name not in taken}

    def _retype_attributes(self, node: onnx.NodeProto) -> None:
        import onnx
        from onnx import helper

        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == self.float:
                attribute.i = self.type
            elif attribute.type == onnx.AttributeProto.TENSOR and attribute.t.data_type == self.float:
                attribute.t.CopyFrom(self._tensor(attribute.t))
            elif node.op_type == "Constant" and attribute.name in ("value_float", "value_floats"):
                alone = attribute.name == "value_float"
                values = [attribute.f] if alone else list(attribute.floats)
                made = helper.make_tensor("", self.float, [] if alone else [len(values)], values)
                attribute.CopyFrom(helper.make_attribute("value", self._tensor(made)))

    def _tensor(self, tensor: onnx.TensorProto) -> onnx.TensorProto:
        """Return a float constant in the type; what is larger than it can hold becomes the largest that it can."""
        return self._of_array(_rounded(self._array(tensor), self._dtype), tensor.name)

    def _retype_scaled_weights(self) -> None:
        """Round the constants behind a DequantizeLinear to the scales that the type can say, so that both agree."""
        import numpy as np

        constants = {tensor.name: tensor for tensor in self.graph.initializer}
        uses = Counter(name for node in self.graph.node for name in node.input)
        for node in self.graph.node:
            if node.op_type != DEQUANTIZE:
                continue
            data, scale = (constants.get(name) for name in node.input[:2])
            if data is None or scale is None or uses[data.name] > 1:
                continue
            old, weights = self._array(scale).astype(np.float32), self._array(data)
            new = _scales(old, self._dtype).astype(np.float32)
            axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 1)
            factor = _along(old / new, axis, weights.ndim)
            data.CopyFrom(self._of_array(_requantized(weights, factor), data.name))
        for node in self.graph.node:
            tensor = constants.get(node.input[1]) if node.op_type in (QUANTIZE, DEQUANTIZE) else None
            if tensor is not None and tensor.data_type == self.float:
                said = _scales(self._array(tensor), self._dtype).astype(np.float32)
                tensor.CopyFrom(self._of_array(said, tensor.name))

    @property
    def _dtype(self) -> np.dtype[Any]:
        from onnx import helper

        return helper.tensor_dtype_to_np_dtype(self.type)

    def _array(self, tensor: onnx.TensorProto) -> npt.NDArray[Any]:
        from onnx import numpy_helper

        found: npt.NDArray[Any] = numpy_helper.to_array(tensor)
        return found

    def _of_array(self, array: npt.NDArray[Any], name: str) -> onnx.TensorProto:
        from onnx import numpy_helper

        return numpy_helper.from_array(array, name)

    def _cast(self, name: str, to_name: str, to: int) -> onnx.NodeProto:
        from onnx import helper

        return helper.make_node("Cast", [name], [to_name], name=f"{to_name}_cast", to=to)


def _rounded(array: npt.NDArray[Any], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Return float32 values in `dtype`, infinities as they are, all others within what it can hold."""
    import numpy as np
    from ml_dtypes import finfo

    largest = np.float32(finfo(dtype).max)  # type: ignore[no-untyped-call]
    clipped = np.where(np.isinf(array), array, np.clip(array, -largest, largest))
    return clipped.astype(dtype)


def _scales(array: npt.NDArray[Any], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Return scales in `dtype`; below its normal numbers it has few digits, and 0 is no scale."""
    import numpy as np
    from ml_dtypes import finfo

    least = np.float32(finfo(dtype).smallest_normal)  # type: ignore[no-untyped-call]
    return _rounded(np.maximum(array, least), dtype)


def _along(factor: npt.NDArray[Any], axis: int, rank: int) -> npt.NDArray[Any]:
    """Return a factor for each channel in the shape that multiplies with all of them; one for all as it is."""
    if factor.size == 1:
        return factor.reshape(())
    return factor.reshape([-1 if place == axis % rank else 1 for place in range(rank)])


def _requantized(weights: npt.NDArray[Any], factor: npt.NDArray[Any]) -> npt.NDArray[Any]:
    import numpy as np

    scaled = weights.astype(np.float32) * factor
    if weights.dtype.kind in "iu":
        limits = np.iinfo(weights.dtype)
        scaled = np.clip(np.rint(scaled), limits.min, limits.max)
    rounded: npt.NDArray[Any] = scaled.astype(weights.dtype)
    return rounded
