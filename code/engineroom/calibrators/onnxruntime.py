"""Post-training quantization by ONNX Runtime's own tools, on the CPU: the default calibrator.

What is quantized: the inputs and weights of convolutions and matrix products, and both inputs of residual adds; no
output, so logits stay in float and a Relu stays fused with the layer before it. The rules are engineroom.qdq's.
"""

from __future__ import annotations

import fnmatch
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from engineroom.benchmarks import Progress
from engineroom.calibrators import Calibrator, Settings
from engineroom.calibrators._observers import Observed
from engineroom.errors import EngineError, EngineroomError, Mistakes, RequestError, did_you_mean, shown
from engineroom.paths import display, write_beside
from engineroom.qdq import OPSET_MIN, WEIGHTED, Graph, opset_of, read_model, violations

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import onnx

BATCH_SIZE = 32  # samples that run at a time, if what is observed of them fits into
HELD_BYTES = 512 << 20


class OnnxRuntimeCalibrator(Calibrator):
    """Symmetric int8, one scale per activation, one per output channel of a weight."""

    name = "onnxruntime"
    modules = ("onnx", "onnxruntime")
    distributions = ("onnxruntime", "onnx")

    def calibrate(
        self,
        model: Path,
        samples: dict[str, npt.NDArray[np.generic]],
        target: Path,
        progress: Progress,
        settings: Settings = Settings(),  # noqa: B008  (frozen)
    ) -> dict[str, tuple[float, float]]:
        """Write the Q/DQ model; the same inputs give the same bytes. Returns the range of each calibrated tensor."""
        _check(model, samples)
        with TemporaryDirectory(prefix="engineroom-calibrate-") as scratch, _quiet():
            try:
                prepared = _prepare(model, Path(scratch))
                chosen = _choose(prepared, settings.float_layers)
                ranges = _observe(prepared, samples, settings, progress)
                quantized = _quantize(prepared, chosen, ranges, Path(scratch))
            except EngineroomError:
                raise
            except Exception as error:  # onnx and ONNX Runtime have errors of many kinds without a common base
                raise EngineError(f"cannot be quantized: {_first_line(error)}", where=display(model)) from error
        with write_beside(target) as beside:
            beside.write_bytes(quantized.SerializeToString(deterministic=True))
            if broken := violations(beside):
                raise EngineError(f"quantized against the rules: {'; '.join(broken)}", where=display(model))
        return ranges


def _check(path: Path, samples: Mapping[str, npt.NDArray[np.generic]]) -> None:
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


def _choose(path: Path, float_layers: Sequence[str]) -> list[str]:
    """Return the names of the layers to quantize, and of all residual adds, which TensorRT fuses with layers.

    Raises Mistakes for each of `float_layers` that is none.
    """
    graph = Graph(read_model(path))
    known = [node.name for node in graph.nodes if graph.is_layer(node)]
    unknown = [name for name in float_layers if not fnmatch.filter(known, name)]
    if unknown:
        raise Mistakes(
            RequestError(f"no layer is named {shown(name)}", where="float_layers", mend=did_you_mean(name, known))
            for name in unknown
        )
    chosen = sorted(name for name in known if not any(fnmatch.fnmatchcase(name, kept) for kept in float_layers))
    if not chosen:
        raise RequestError("no layer is left to quantize", where="float_layers", mend="or ask for --precision=fp32")
    return chosen + [node.name for node in graph.residual_adds()]


def _observe(
    path: Path, samples: Mapping[str, npt.NDArray[np.generic]], settings: Settings, progress: Progress
) -> dict[str, tuple[float, float]]:
    """Run the samples through the float model and return the range of each tensor that a layer or an add touches."""
    import onnxruntime
    from onnx.helper import make_empty_tensor_value_info

    graph = Graph(read_model(path))
    total = len(next(iter(samples.values())))
    fixed, names = _fixed_batch_size(graph), _observable(graph)
    if fixed > total:
        raise EngineError(f"the model's fixed batch size is {fixed}, but there are only {total} calibration samples")
    size = fixed or min(total, BATCH_SIZE, max(1, HELD_BYTES // _held_bytes(graph, names)))
    known = {tensor.name for tensor in graph.model.graph.output}
    graph.model.graph.output.extend(make_empty_tensor_value_info(name) for name in names if name not in known)
    session = onnxruntime.InferenceSession(graph.model.SerializeToString(), providers=["CPUExecutionProvider"])
    seen = {name: Observed(settings.observer) for name in names}
    for start in range(0, total, size):
        first = min(start, total - fixed) if fixed else start  # a fixed batch must be full: the last two overlap
        batch = {name: array[first : first + size] for name, array in samples.items()}
        for name, values in zip(names, session.run(names, batch), strict=True):
            seen[name].add(values)
        progress(min(start + size, total), total)
    return {name: seen[name].range(settings.percentile) for name in sorted(names)}


def _observable(graph: Graph) -> list[str]:
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


def _quantize(
    path: Path, chosen: list[str], ranges: Mapping[str, tuple[float, float]], scratch: Path
) -> onnx.ModelProto:
    """Return the Q/DQ model, in which the nodes `chosen` are quantized by `ranges`."""
    import numpy as np
    import onnx
    from onnxruntime.quantization import (
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
        save_tensors_data,
    )
    from onnxruntime.quantization.calibrate import TensorsData

    limits = {name: (np.float32(low), np.float32(high)) for name, (low, high) in ranges.items()}
    save_tensors_data(TensorsData(CalibrationMethod.MinMax, limits), scratch / "ranges.json")
    quantize_static(
        path,
        scratch / "quantized.onnx",
        calibration_cache_path=scratch / "ranges.json",
        calibrate_method=CalibrationMethod.MinMax,  # as the ranges are given
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=[*WEIGHTED, "Add"],
        nodes_to_quantize=chosen,
        per_channel=True,
        activation_type=QuantType.QInt8,
        # All eight bits. On x86 without VNNI, OpenVINO's sums of products may then saturate: on an AVX2 machine the
        # squared error of the digits' logits was 0.022, with seven bits 0.0007; the predictions were the same.
        weight_type=QuantType.QInt8,
        extra_options={
            "ActivationSymmetric": True,
            "WeightSymmetric": True,
            "QuantizeBias": False,
            "QDQDisableWeightAdjustForInt32Bias": True,
            "OpTypesToExcludeOutputQuantization": [*WEIGHTED, "Add"],
        },
    )
    model = onnx.load(scratch / "quantized.onnx")
    used = {node.domain for node in model.graph.node}
    opsets = [opset for opset in model.opset_import if opset.domain in used]
    del model.opset_import[:], model.metadata_props[:]
    model.opset_import.extend(opsets)
    return model


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


CALIBRATOR = OnnxRuntimeCalibrator()
