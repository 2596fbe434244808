"""What a model file says of itself: its input and output, the precisions it can run in, its quantization.

ONNX, TFLite and the programs of torch.export describe their tensors; TorchScript is tried out on one sample.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engineroom import registry
from engineroom.errors import RequestError, plain
from engineroom.images.preprocess import Quantization
from engineroom.paths import display
from engineroom.qdq import DEQUANTIZE, FLOAT8, QUANTIZE, Graph
from engineroom.terms import Precision, TensorSpec

if TYPE_CHECKING:
    import onnx

QUANTIZED = (Precision.INT8,)
QUANTIZED_FP8 = (Precision.FP8,)
HALF = (Precision.BF16, Precision.FP16, Precision.FP32)  # what is calibrated must be in float32
FLOAT = (Precision.INT8, *HALF)

SCORES = ("float32", "float16", "float64", "int8", "uint8")
CLASSES = ("int64", "int32")
IMAGES = ("float32", "float16", "int8", "uint8")
SMALL = 1024  # values: constants of this size may be looked at


@dataclass(frozen=True)
class Layout:
    """A model's tensors without the batch axis. `classes` is None where the file does not tell."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    precisions: tuple[Precision, ...]
    quantization: Quantization | None = None
    classes: int | None = None


@dataclass(frozen=True)
class _Tensor:
    """A tensor as a file describes it, with its batch axis; None is an axis of any length."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        axes = ", ".join("?" if size is None else str(size) for size in self.shape)
        return f"{plain(self.name)}, {self.dtype} [{axes}]"


def read(path: Path, like_inputs: Sequence[TensorSpec], like_outputs: Sequence[TensorSpec]) -> Layout:
    """Return the layout of the classifier at `path`, which is to stand in for a model with the tensors `like_...`.

    An input's axis of any length gets the length that the other model has. Of several outputs, one that holds the class
    is taken, else one with a score per class. Raises RequestError if the file is no whole model of the kind that its
    name says, needs a package that is not here, or has tensors that do not fit.
    """
    kind = path.suffix
    if kind not in READERS:
        near = f"rename it to end in {kind.lower()}" if kind.lower() in READERS else f"known: {', '.join(READERS)}"
        raise RequestError("its name does not end as that of a known kind of model", where=display(path), mend=near)
    _check_content(path)
    if absent := registry.missing(READERS[kind].modules):
        raise RequestError(
            f"reading a {kind} file needs {', '.join(absent)}, not installed here",
            where=display(path),
            mend=f'install it with: make install RUN_ARGS="--engine={READERS[kind].engine}"',
        )
    try:
        return READERS[kind].read(path, like_inputs, like_outputs)
    except _Misfit as misfit:
        raise RequestError(str(misfit), where=display(path), mend=misfit.mend) from misfit.__cause__


def external_files(path: Path) -> tuple[Path, ...]:
    """Return the files beside an ONNX file that hold weights of it; none for other files, nor for what is no model.

    What lies elsewhere is left out: ONNX's own readers refuse it, too.
    """
    if path.suffix != ".onnx":
        return ()
    import onnx

    try:
        tensors = onnx.load(path, load_external_data=False).graph.initializer
    except Exception:  # protobuf's errors are of many kinds; who reads the model says what is wrong with it
        return ()
    named = {Path(entry.value) for tensor in tensors for entry in tensor.external_data if entry.key == "location"}
    return tuple(path.parent / name for name in sorted(named) if not name.is_absolute() and ".." not in name.parts)


class _Misfit(Exception):  # noqa: N818  (an error only by way of `read`, which knows the file)
    """What is wrong with a model, and how to mend it."""

    def __init__(self, what: str, mend: str | None = None) -> None:
        super().__init__(what)
        self.mend = mend


# The file


def _check_content(path: Path) -> None:
    """Raise RequestError unless the file can be read and its first bytes are of the kind that its name says."""
    try:
        if path.exists() and not path.is_file():
            raise RequestError("is no file", where=display(path), mend="name the model's file")
        with path.open("rb") as file:
            head = file.read(8)
        content = _content(path, head)
    except OSError as error:
        raise RequestError(f"cannot be read: {error.strerror or error}", where=display(path)) from error
    if not head:
        raise RequestError("is empty", where=display(path), mend="export or copy the model again")
    if content == (None if path.suffix == ".onnx" else path.suffix):
        return
    if content in READERS:
        raise RequestError(f"is a {content} file by its content", where=display(path), mend=f"rename it to {content}")
    if content == WEIGHTS:
        mend = "save the whole model: torch.export.save(torch.export.export(model, ...), 'model.pt2')"
        raise RequestError(
            "holds weights or a pickled object, not a model that can run", where=display(path), mend=mend
        )
    raise RequestError(f"is {content or 'damaged, or'} no {path.suffix} file", where=display(path))


WEIGHTS, ARCHIVE, TRUNCATED = "weights", "an archive,", "a truncated archive,"


def _content(path: Path, head: bytes) -> str | None:
    """Return the kind of model that a file has in it, or what else; None where nothing tells, as in ONNX."""
    if head[4:8] == b"TFL3":
        return ".tflite"
    if not head.startswith(b"PK"):
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.partition("/")[2] for name in archive.namelist()}
    except zipfile.BadZipFile:
        return TRUNCATED
    if any(name.startswith("code/") for name in names):
        return ".pt"
    if "archive_format" in names or any(name.startswith("serialized_exported_program") for name in names):
        return ".pt2"
    return WEIGHTS if "data.pkl" in names else ARCHIVE


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


# What must fit


def _inputs(tensors: Sequence[_Tensor], like: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
    """Return the inputs as the benchmark has to give them. Raises _Misfit if they are not of its kind."""
    if len(tensors) != len(like):
        names = "; ".join(map(str, tensors)) or "none"
        raise _Misfit(f"takes {len(tensors)} inputs ({names}), the benchmark gives {len(like)}")
    return tuple(_input(tensor, spec) for tensor, spec in zip(tensors, like, strict=True))


def _input(tensor: _Tensor, like: TensorSpec) -> TensorSpec:
    wanted = f"the benchmark gives {like.dtype} {list(like.shape)} a sample"
    if len(tensor.shape) != len(like.shape) + 1 or tensor.dtype not in IMAGES:
        raise _Misfit(f"its input {tensor} is of another kind: {wanted}")
    batch, *axes = tensor.shape
    if batch not in (None, 1):
        raise _Misfit(f"its input {tensor} has a fixed batch of {batch}", "export it with a batch of any size, or of 1")
    if None in axes:
        orders = (like.shape, (*like.shape[1:], like.shape[0]), (like.shape[-1], *like.shape[:-1]))
        fitting = (order for order in orders if all(size in (None, of) for size, of in zip(axes, order, strict=True)))
        if (known := next(fitting, None)) is None:
            raise _Misfit(f"its input {tensor} does not tell its size: {wanted}", "export it with a fixed size")
        axes = list(known)
    return TensorSpec(tensor.name, tensor.dtype, tuple(size or 0 for size in axes))


def _output(tensors: Iterable[_Tensor]) -> TensorSpec:
    """Return the output that counts. Raises _Misfit if none is a class or a score per class."""
    found = list(tensors)
    known = [
        TensorSpec(tensor.name, tensor.dtype, tuple(size or 0 for size in tensor.shape[1:]))
        for tensor in found
        if tensor.shape and None not in tensor.shape[1:]
    ]
    named = (spec for spec in known if spec.dtype in CLASSES and math.prod(spec.shape) == 1)
    scored = (
        spec for spec in known if spec.dtype in SCORES and math.prod(spec.shape) == max(spec.shape, default=1) > 1
    )
    if (chosen := next(named, None) or next(scored, None)) is None:
        names = "; ".join(map(str, found)) or "nothing"
        raise _Misfit(f"answers with {names}: neither the class nor a score per class", "export it with such an output")
    return chosen


def _only(tensors: Sequence[_Tensor]) -> TensorSpec:
    """Return the output of a model of PyTorch's, whose engine takes no choice among several."""
    if len(tensors) > 1:
        names = "; ".join(map(str, tensors))
        raise _Misfit(f"answers with {len(tensors)} tensors ({names})", "export it so that it returns the scores alone")
    return _output(tensors)


def _classes(output: TensorSpec) -> int | None:
    """Return how many classes have a score; None for an output that is a class."""
    return None if output.dtype in CLASSES else math.prod(output.shape)


# The kinds


def _onnx(path: Path, like_inputs: Sequence[TensorSpec], like_outputs: Sequence[TensorSpec]) -> Layout:
    import onnx

    model = _onnx_model(path)
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [info for info in model.graph.input if info.name not in constants]
    specs = _inputs([_of_onnx(info) for info in inputs], like_inputs)
    for info, spec in zip(inputs, specs, strict=True):  # with their lengths, more can be inferred
        for axis, size in zip(info.type.tensor_type.shape.dim[1:], spec.shape, strict=True):
            axis.dim_value = size
    try:
        graph = Graph(onnx.shape_inference.infer_shapes(model, data_prop=True))
    except Exception as error:  # onnx has errors of many kinds without a common base
        raise _Misfit(f"its shapes cannot be inferred: {_first_line(error)}") from error
    output = _output(map(_of_onnx, graph.model.graph.output))
    kinds = {node.op_type for node in graph.nodes}
    half = any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in model.graph.initializer)
    quantized = any(kind in INTEGER or kind.startswith("QLinear") for kind in kinds)
    quantizations = [_onnx_quantization(graph, spec) for spec in specs]
    return Layout(
        specs,
        (output,),
        _quantized_in(graph) if quantized else HALF if half else FLOAT,
        quantizations[0],
        _classes(output) or _chosen_among(graph, output.name),
    )


INTEGER = (QUANTIZE, DEQUANTIZE, "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger")


def _onnx_model(path: Path) -> onnx.ModelProto:
    """Return the checked model. Large weights that lie in files of their own stay there: nobody asks for them here."""
    import onnx

    try:
        onnx.checker.check_model(str(path))
        model = onnx.load(path, load_external_data=False)
        for tensor in model.graph.initializer:
            if tensor.external_data and math.prod(tensor.dims) <= SMALL:
                onnx.external_data_helper.load_external_data_for_tensor(tensor, str(path.parent))
    except Exception as error:  # onnx has errors of many kinds without a common base
        raise _Misfit(f"is not a whole, valid ONNX model: {_first_line(error)}") from error
    return model


def _of_onnx(info: onnx.ValueInfoProto) -> _Tensor:
    from onnx import helper

    tensor = info.type.tensor_type
    if not tensor.elem_type:
        return _Tensor(info.name, "no tensor", ())
    axes = tuple(axis.dim_value or None for axis in tensor.shape.dim)
    return _Tensor(info.name, helper.tensor_dtype_to_np_dtype(tensor.elem_type).name, axes)


def _onnx_quantization(graph: Graph, spec: TensorSpec) -> Quantization | None:
    """Return what an integer input stands for: what the DequantizeLinear says that it goes into."""
    if spec.dtype.startswith("float"):
        return None
    uses = [node for node in graph.nodes if spec.name in node.input]
    if len(uses) != 1 or uses[0].op_type != DEQUANTIZE:
        raise _Misfit(
            f"its input {plain(spec.name)} is {spec.dtype}, but no DequantizeLinear says what that stands for",
            "export it with a float32 input",
        )
    scale, zero_point = ([graph.constant(name) for name in uses[0].input[1:]] + [None])[:2]
    if scale is None or scale.size != 1 or (len(uses[0].input) > 2 and (zero_point is None or zero_point.size != 1)):
        raise _Misfit(f"its input {plain(spec.name)} has no constant scale", "export it with a float32 input")
    return Quantization(float(scale.item()), 0 if zero_point is None else int(zero_point.item()))


def _chosen_among(graph: Graph, name: str) -> int | None:
    """Return among how many an ArgMax chooses the class that is in tensor `name`; None if that cannot be told."""
    while node := graph.made_by(name, "Identity", "Cast", "Squeeze", "Unsqueeze", "Reshape", "Flatten"):
        name = node.input[0]
    if not (node := graph.made_by(name, "ArgMax")) or not (shape := graph.shape(node.input[0])):
        return None
    axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 0)
    size = shape[axis]
    return size if isinstance(size, int) and size else None


def _quantized_in(graph: Graph) -> tuple[Precision, ...]:
    """Return what a quantized ONNX model computes in: fp8 if its Q and DQ nodes say so, else int8."""
    zero_points = (graph.constant(node.input[2]) for node in graph.nodes if len(node.input) > 2)
    fp8 = any(zero is not None and str(zero.dtype) == FLOAT8 for zero in zero_points)
    return QUANTIZED_FP8 if fp8 else QUANTIZED


def _tflite(path: Path, like_inputs: Sequence[TensorSpec], like_outputs: Sequence[TensorSpec]) -> Layout:
    from ai_edge_litert.interpreter import Interpreter

    try:
        interpreter = Interpreter(model_path=str(path), num_threads=1)
    except Exception as error:  # ValueError and RuntimeError, as it happens
        raise _Misfit(f"LiteRT cannot load this model: {_first_line(error)}") from error
    details = interpreter.get_input_details()
    inputs = _inputs([_of_tflite(detail) for detail in details], like_inputs)
    output = _output(map(_of_tflite, interpreter.get_output_details()))
    quantized = any(
        detail["quantization_parameters"]["scales"].size and _of_tflite(detail).dtype in ("uint8", "int8", "int16")
        for detail in interpreter.get_tensor_details()
    )
    quantizations = [_tflite_quantization(detail, spec) for detail, spec in zip(details, inputs, strict=True)]
    precisions = QUANTIZED if quantized else (Precision.FP32,)
    return Layout(inputs, (output,), precisions, quantizations[0], _classes(output))


def _of_tflite(detail: dict[str, Any]) -> _Tensor:
    axes = (int(size) for size in detail["shape_signature"])
    return _Tensor(detail["name"], detail["dtype"].__name__, tuple(None if size < 0 else size for size in axes))


def _tflite_quantization(detail: dict[str, Any], spec: TensorSpec) -> Quantization | None:
    if spec.dtype.startswith("float"):
        return None
    scale, zero_point = detail["quantization"]
    if not scale:
        raise _Misfit(f"its input {plain(spec.name)} is {spec.dtype} without a scale", "export it with a float32 input")
    return Quantization(float(scale), int(zero_point))


def _exported(path: Path, like_inputs: Sequence[TensorSpec], like_outputs: Sequence[TensorSpec]) -> Layout:
    import torch

    try:
        program = torch.export.load(path)
    except Exception as error:  # PyTorch's errors have no common base but this one
        raise _Misfit(f"PyTorch cannot load this program: {_first_line(error)}") from error
    nodes = {node.name: node for node in program.graph.nodes}
    inputs = [_of_torch(str(name), nodes[str(name)].meta["val"]) for name in program.graph_signature.user_inputs]
    outputs = [_of_torch(str(name), nodes[str(name)].meta["val"]) for name in program.graph_signature.user_outputs]
    output = _only(outputs)
    node = nodes[output.name]
    classes = _classes(output)
    if node.target is torch.ops.aten.argmax.default and len(node.args) > 1:
        classes = int(node.args[0].meta["val"].shape[node.args[1]])
    return Layout(_inputs(inputs, like_inputs), (output,), HALF, classes=classes)


def _torchscript(path: Path, like_inputs: Sequence[TensorSpec], like_outputs: Sequence[TensorSpec]) -> Layout:
    """TorchScript describes no shapes, so it gets a sample of the benchmark's own."""
    import torch

    inputs = tuple(TensorSpec(spec.name, "float32", spec.shape) for spec in like_inputs)
    try:
        module = torch.jit.load(path, map_location="cpu").eval()
        if "quantized::" not in str(module.inlined_graph):
            raise _Misfit("is TorchScript of a float model", "export it by torch.export.save as .pt2, or as ONNX")
        with torch.inference_mode():
            result = module(*(torch.zeros(1, *spec.shape) for spec in inputs))
    except _Misfit:
        raise
    except Exception as error:  # PyTorch's errors have no common base but this one
        given = ", ".join(str([1, *spec.shape]) for spec in like_inputs)
        last = (str(error).strip() or type(error).__name__).splitlines()[-1]  # the first ones are the script's own
        raise _Misfit(f"PyTorch cannot run this model on zeros {given}: {last}") from error
    tensors = result if isinstance(result, (tuple, list)) else [result]
    names = [spec.name for spec in like_outputs]
    output = _only([_of_torch(name, tensor) for name, tensor in zip(names * len(tensors), tensors, strict=False)])
    return Layout(inputs, (output,), QUANTIZED, classes=_classes(output))


def _of_torch(name: str, value: Any) -> _Tensor:
    """Describe a tensor as the engine takes and gives it: every float as float32."""
    import torch

    if not isinstance(value, torch.Tensor):
        return _Tensor(name, type(value).__name__, ())
    dtype = "float32" if value.is_floating_point() else str(value.dtype).removeprefix("torch.")
    return _Tensor(name, dtype, tuple(size if isinstance(size, int) else None for size in value.shape))


Read = Callable[[Path, Sequence[TensorSpec], Sequence[TensorSpec]], Layout]


@dataclass(frozen=True)
class _Reader:
    """How a kind of file is read, what that needs, and the engine whose installation brings it."""

    read: Read
    modules: tuple[str, ...] = ()
    engine: str = ""


READERS = {
    ".onnx": _Reader(_onnx),
    ".tflite": _Reader(_tflite, ("ai_edge_litert",), "litert"),
    ".pt2": _Reader(_exported, ("torch",), "torch"),
    ".pt": _Reader(_torchscript, ("torch",), "torch"),
}
