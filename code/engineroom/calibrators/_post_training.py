"""What calibrators share that quantize a trained model: it is checked and prepared, and what comes out is checked too.

The layers of the prepared model are what `float_layers` names: the same whichever calibrator quantizes it.
"""

from __future__ import annotations

import fnmatch
import logging
import math
import re
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from engineroom import qdq
from engineroom.benchmarks import Progress
from engineroom.calibrators import Calibrator, Settings
from engineroom.errors import EngineError, EngineroomError, Mistakes, RequestError, did_you_mean, shown
from engineroom.networks import layout
from engineroom.paths import display, write_beside
from engineroom.qdq import DEQUANTIZE, OPSET_MIN, QUANTIZE, WEIGHTED, Graph, opset_of, read_model, violations

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import onnx

    Samples = Mapping[str, npt.NDArray[np.generic]]  # [count, *shape] by the input's name

Ranges = dict[str, tuple[float, float]]
BATCH_SIZE = 32  # samples that run at a time, if what is observed of them fits into
HELD_BYTES = 512 << 20


@dataclass(frozen=True)
class Job:
    """A model that is to be quantized: `model`, prepared, with the names of its layers that stay in float.

    `scratch` is a folder for whatever lies around meanwhile.
    """

    model: Path
    float_layers: frozenset[str]
    samples: Samples
    settings: Settings
    scratch: Path
    progress: Progress


class PostTraining(Calibrator):
    """Symmetric int8, one scale per activation, one per output channel of a weight; biases and logits in float."""

    modules: tuple[str, ...] = ("onnx", "onnxruntime")
    distributions: tuple[str, ...] = ("onnxruntime", "onnxruntime-gpu", "onnx")  # one of the builds of the first
    sources: tuple[Path, ...] = (Path(__file__), Path(qdq.__file__))

    @abstractmethod
    def quantize(self, job: Job) -> tuple[onnx.ModelProto, Ranges]:
        """Return the Q/DQ model, and the range that was chosen for each activation."""

    def calibrate(
        self,
        model: Path,
        samples: dict[str, npt.NDArray[np.generic]],
        target: Path,
        progress: Progress,
        settings: Settings = Settings(),  # noqa: B008  (frozen)
    ) -> Ranges:
        """Write the Q/DQ model; the same inputs give the same bytes. Returns the range of each calibrated tensor."""
        _check(model, samples)
        with TemporaryDirectory(prefix="engineroom-calibrate-") as folder, _quiet():
            scratch = Path(folder)
            try:
                prepared = _prepare(model, scratch)
                kept = _left_in_float(prepared, settings.float_layers)
                quantized, ranges = self.quantize(Job(prepared, kept, samples, settings, scratch, progress))
                _restore(quantized, prepared, kept)
            except EngineroomError:
                raise
            except Exception as error:  # onnx and ONNX Runtime have errors of many kinds without a common base
                raise EngineError(f"cannot be quantized: {_first_line(error)}", where=display(model)) from error
        with write_beside(target) as beside:
            beside.write_bytes(quantized.SerializeToString(deterministic=True))
            if broken := violations(beside):
                raise EngineError(f"quantized against the rules: {'; '.join(broken)}", where=display(model))
        return ranges


def _check(path: Path, samples: Samples) -> None:
    """Raise EngineError or RequestError if the model has nothing to quantize or takes other inputs than given."""
    graph = Graph(read_model(path))
    if not any(graph.is_layer(node) for node in graph.nodes):
        layers = ", ".join(WEIGHTED)
        raise EngineError(f"has no layer to quantize: no {layers} with constant weights", where=display(path))
    inputs = {tensor.name for tensor in graph.model.graph.input if not graph.is_constant(tensor.name)}
    if inputs != samples.keys():
        given = ", ".join(sorted(samples)) or "none"
        raise RequestError(f"takes the inputs {', '.join(sorted(inputs))}, but is given {given}", where=display(path))
    if len({len(array) for array in samples.values()}) != 1 or not all(len(array) for array in samples.values()):
        raise RequestError("calibration needs at least one sample, and as many of each input", where=display(path))


def _prepare(path: Path, scratch: Path) -> Path:
    """Fold normalization and constants into the layers, as ONNX Runtime advises, and write what quantizes well.

    Every node gets a name of its own, by which it is chosen later.
    """
    import onnx
    from onnxruntime.quantization import quant_pre_process

    prepared = scratch / "prepared.onnx"
    if layout.external_files(path):  # what ONNX Runtime folds it into would look for them beside itself
        onnx.save(onnx.load(path), scratch / "whole.onnx")
        path = scratch / "whole.onnx"
    quant_pre_process(path, prepared, skip_symbolic_shape=True)
    model = onnx.load(prepared)
    if opset_of(model) < OPSET_MIN:
        model = onnx.version_converter.convert_version(model, OPSET_MIN)
    names: set[str] = set()
    for number, node in enumerate(model.graph.node):
        if not node.name or node.name in names:
            node.name = f"{node.op_type}_{number}"
        names.add(node.name)
    _fold_beta(model)
    onnx.save(model, prepared)
    return prepared


def _fold_beta(model: onnx.ModelProto) -> None:
    """Scale each Gemm's bias by its beta: the quantizer sets beta to 1 and would leave a float bias unscaled."""
    from onnx import numpy_helper

    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        beta = next((attribute for attribute in node.attribute if attribute.name == "beta"), None)
        bias = constants.get(node.input[2]) if len(node.input) > 2 else None
        if node.op_type == "Gemm" and beta is not None and beta.f != 1 and bias is not None:
            values = numpy_helper.to_array(bias)
            node.input[2] = f"{node.name}_scaled_bias"
            model.graph.initializer.append(numpy_helper.from_array(values * values.dtype.type(beta.f), node.input[2]))
            beta.f = 1.0


def _left_in_float(path: Path, float_layers: Sequence[str]) -> frozenset[str]:
    """Return the names of the layers that shall stay in float. Raises Mistakes for each pattern without any."""
    graph = Graph(read_model(path))
    known = [node.name for node in graph.nodes if graph.is_layer(node)]
    unknown = [name for name in float_layers if not fnmatch.filter(known, name)]
    if unknown:
        raise Mistakes(
            RequestError(f"no layer is named {shown(name)}", where="float_layers", mend=_nearest(name, known))
            for name in unknown
        )
    kept = frozenset(name for pattern in float_layers for name in fnmatch.filter(known, pattern))
    if len(kept) == len(known):
        raise RequestError("no layer is left to quantize", where="float_layers", mend="or ask for --precision=fp32")
    return kept


def _nearest(pattern: str, known: Sequence[str]) -> str:
    """Say which layer may have been meant, or which group of layers: of `stgae1.*` the part before the wildcard."""
    group = re.split(r"[*?[]", pattern)[0]
    depth = group.count(".") if group != pattern else 0
    names = {".".join(name.split(".")[:depth]) for name in known} if depth else set(known)
    return did_you_mean(group.rstrip("."), names)


def _restore(quantized: onnx.ModelProto, prepared: Path, float_layers: frozenset[str]) -> None:
    """Let the layers `float_layers` read what they read in the float model, whoever else reads it quantized.

    Then take away what nobody reads any more, and the names of operators that are not used.
    """
    model, graph = read_model(prepared), quantized.graph
    were = {node.name: node for node in model.graph.node if node.name in float_layers}
    for node in graph.node:
        if node.name in were:
            node.input[:] = were[node.name].input
    while unread := _unread(graph):
        for node in unread:
            graph.node.remove(node)
    read = {name for node in graph.node for name in node.input}
    constants = {
        tensor.name: tensor for tensor in (*model.graph.initializer, *graph.initializer) if tensor.name in read
    }
    used = {node.domain for node in graph.node}
    opsets = [opset for opset in quantized.opset_import if opset.domain in used]
    del quantized.opset_import[:], quantized.metadata_props[:], graph.initializer[:]
    quantized.opset_import.extend(opsets)
    graph.initializer.extend(tensor for name, tensor in constants.items() if name in read)


def _unread(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    read = {name for node in graph.node for name in node.input} | {item.name for item in graph.output}
    return [node for node in graph.node if node.op_type in (QUANTIZE, DEQUANTIZE) and node.output[0] not in read]


def batches(graph: Graph, names: Sequence[str], samples: Samples) -> Iterator[tuple[int, Samples]]:
    """Yield (samples done with it, batch), in batches that leave room for the tensors `names` of each sample."""
    total = len(next(iter(samples.values())))
    fixed = _fixed_batch_size(graph)
    if fixed > total:
        raise EngineError(f"the model's fixed batch size is {fixed}, but there are only {total} calibration samples")
    size = fixed or min(total, BATCH_SIZE, max(1, HELD_BYTES // _held_bytes(graph, names)))
    for start in range(0, total, size):
        first = min(start, total - fixed) if fixed else start  # a fixed batch must be full: the last two overlap
        yield min(start + size, total), {name: array[first : first + size] for name, array in samples.items()}


def observable(graph: Graph) -> list[str]:
    """Return the float tensors that go into or come out of layers and adds, but for constants."""
    nodes = [node for node in graph.nodes if node.op_type in (*WEIGHTED, "Add")]
    names = dict.fromkeys(name for node in nodes for name in (*node.input, *node.output) if name)
    return [name for name in names if not graph.is_constant(name) and graph.is_float(name)]


def _held_bytes(graph: Graph, names: Sequence[str]) -> int:
    """Return how many bytes the float tensors `names` of one sample take, as far as their shapes are known."""
    shapes = [graph.shape(name) or () for name in names]
    return 4 * sum(math.prod(axis for axis in shape[1:] if isinstance(axis, int)) for shape in shapes)


def _fixed_batch_size(graph: Graph) -> int:
    """Return the batch size that the model is fixed to, 0 if it takes any."""
    return next((tensor.type.tensor_type.shape.dim[0].dim_value for tensor in graph.model.graph.input), 0)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the library's advice off the terminal. It logs to the root logger, which that alone would make print."""
    import onnxruntime

    root, silent = logging.getLogger(), logging.NullHandler()
    root.addHandler(silent)
    root.addFilter(_never)  # holds back what is logged to the root itself, and nobody else's records
    onnxruntime.set_default_logger_severity(4)
    try:
        yield
    finally:
        onnxruntime.set_default_logger_severity(2)  # its default
        root.removeFilter(_never)
        root.removeHandler(silent)


def _never(record: logging.LogRecord) -> bool:
    return False


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
