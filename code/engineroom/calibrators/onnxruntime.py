"""Post-training quantization by ONNX Runtime's own tools, on the CPU: the default calibrator.

What is quantized: the inputs and weights of convolutions and matrix products, and both inputs of residual adds; no
output, so logits stay in float and a Relu stays fused with the layer before it. The rules are engineroom.qdq's.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from engineroom.benchmarks import Progress
from engineroom.calibrators import Calibrator
from engineroom.errors import EngineError, RequestError
from engineroom.paths import display, write_beside
from engineroom.qdq import OPSET_MIN, WEIGHTED, Graph, opset_of, read_model, violations

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import onnx

# Of ONNX Runtime's methods the one with the least squared error of the logits on the digits' training part (0.00048;
# percentile 0.00051, entropy 0.00053), and the only one that need not keep histograms.
METHOD = "MinMax"
BATCH_SIZE = 32  # samples whose activations are held at a time


class OnnxRuntimeCalibrator(Calibrator):
    """Symmetric int8, one scale per activation, one per output channel of a weight."""

    name = "onnxruntime"
    modules = ("onnx", "onnxruntime")
    distributions = ("onnxruntime", "onnx")

    def calibrate(
        self, model: Path, samples: dict[str, npt.NDArray[np.generic]], target: Path, progress: Progress
    ) -> dict[str, tuple[float, float]]:
        """Write the Q/DQ model; the same inputs give the same bytes. Returns the range of each calibrated tensor."""
        _check(model, samples)
        with TemporaryDirectory(prefix="engineroom-calibrate-") as scratch, _quiet():
            try:
                prepared = _prepare(model, Path(scratch))
                ranges = _observe(prepared, samples, Path(scratch), progress)
                quantized = _quantize(prepared, ranges, Path(scratch))
            except EngineError:
                raise
            except Exception as error:  # onnx and ONNX Runtime have errors of many kinds without a common base
                raise EngineError(f"cannot be quantized: {_first_line(error)}", where=display(model)) from error
        with write_beside(target) as beside:
            beside.write_bytes(quantized.SerializeToString(deterministic=True))
            if broken := violations(beside):
                raise EngineError(f"quantized against the rules: {'; '.join(broken)}", where=display(model))
        return {name: (float(data.lowest.min()), float(data.highest.max())) for name, data in sorted(ranges.items())}


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


def _observe(model: Path, samples: Mapping[str, npt.NDArray[np.generic]], scratch: Path, progress: Progress) -> Any:
    """Run the samples through the float model and return the range of each activation (TensorsData)."""
    from onnxruntime.quantization import CalibrationMethod, create_calibrator

    calibrator = create_calibrator(
        model,
        [*WEIGHTED, "Add"],
        augmented_model_path=str(scratch / "observed.onnx"),
        calibrate_method=CalibrationMethod[METHOD],
    )
    total = len(next(iter(samples.values())))
    size = _fixed_batch_size(model) or min(BATCH_SIZE, total)
    if size > total:
        raise EngineError(f"the model's fixed batch size is {size}, but there are only {total} calibration samples")
    for start in range(0, total, size):
        first = min(start, total - size)  # a fixed batch must be full: the last one overlaps the one before
        batch = {name: array[first : first + size] for name, array in samples.items()}
        calibrator.collect_data(_Reader(batch))
        progress(min(start + size, total), total)
    return calibrator.compute_data()


def _fixed_batch_size(path: Path) -> int:
    """Return the batch size that the model is fixed to, 0 if it takes any."""
    graph = Graph(read_model(path)).model.graph
    return next((tensor.type.tensor_type.shape.dim[0].dim_value for tensor in graph.input), 0)


def _quantize(path: Path, ranges: Any, scratch: Path) -> onnx.ModelProto:
    """Return the Q/DQ model."""
    import onnx
    from onnxruntime.quantization import (
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
        save_tensors_data,
    )

    graph = Graph(read_model(path))
    quantized = {node.name for node in graph.nodes if graph.is_layer(node)}
    quantized |= {node.name for node in graph.residual_adds()}
    save_tensors_data(ranges, scratch / "ranges.json")
    quantize_static(
        path,
        scratch / "quantized.onnx",
        calibration_cache_path=scratch / "ranges.json",
        calibrate_method=CalibrationMethod[METHOD],
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=[*WEIGHTED, "Add"],
        nodes_to_quantize=sorted(quantized),
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


class _Reader:
    """One batch, the way ONNX Runtime asks for it: `get_next` until None."""

    def __init__(self, batch: Mapping[str, npt.NDArray[np.generic]]) -> None:
        self._batches = iter([batch])

    def get_next(self) -> Mapping[str, npt.NDArray[np.generic]] | None:
        return next(self._batches, None)


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
