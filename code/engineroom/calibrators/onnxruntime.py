"""Post-training quantization by ONNX Runtime's own tools, on the CPU: the default calibrator.

What is quantized: the inputs and weights of convolutions and matrix products, and both inputs of residual adds; no
output, so logits stay in float and a Relu stays fused with the layer before it. The rules are engineroom.qdq's.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from engineroom.calibrators import _observers
from engineroom.calibrators._observers import Observed
from engineroom.calibrators._post_training import Job, PostTraining, Ranges, batches, observable
from engineroom.qdq import WEIGHTED, Graph, read_model

if TYPE_CHECKING:
    import onnx


class OnnxRuntimeCalibrator(PostTraining):
    """Takes the ranges that the project's own observers choose."""

    name = "onnxruntime"
    sources = (*PostTraining.sources, Path(_observers.__file__))

    def quantize(self, job: Job) -> tuple[onnx.ModelProto, Ranges]:
        """Return the Q/DQ model and the range of every activation that a layer or an add touches."""
        ranges = _observe(job)
        return _quantize(job, ranges), ranges


def _observe(job: Job) -> Ranges:
    """Run the samples through the float model and return the range of each tensor that a layer or an add touches."""
    import onnxruntime
    from onnx.helper import make_empty_tensor_value_info

    graph = Graph(read_model(job.model))
    total, names = len(next(iter(job.samples.values()))), observable(graph)
    known = {tensor.name for tensor in graph.model.graph.output}
    graph.model.graph.output.extend(make_empty_tensor_value_info(name) for name in names if name not in known)
    session = onnxruntime.InferenceSession(graph.model.SerializeToString(), providers=["CPUExecutionProvider"])
    seen = {name: Observed(job.settings.observer) for name in names}
    for done, batch in batches(graph, names, job.samples):
        for name, values in zip(names, session.run(names, dict(batch)), strict=True):
            seen[name].add(values)
        job.progress(done, total)
    return {name: seen[name].range(job.settings.percentile) for name in sorted(names)}


def _quantize(job: Job, ranges: Ranges) -> onnx.ModelProto:
    """Return the Q/DQ model by `ranges`: of the layers, and of all residual adds, which TensorRT fuses with them."""
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

    graph = Graph(read_model(job.model))
    layers = [node.name for node in graph.nodes if graph.is_layer(node) and node.name not in job.float_layers]
    limits = {name: (np.float32(low), np.float32(high)) for name, (low, high) in ranges.items()}
    save_tensors_data(TensorsData(CalibrationMethod.MinMax, limits), job.scratch / "ranges.json")
    quantize_static(
        job.model,
        job.scratch / "quantized.onnx",
        calibration_cache_path=job.scratch / "ranges.json",
        calibrate_method=CalibrationMethod.MinMax,  # as the ranges are given
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=[*WEIGHTED, "Add"],
        nodes_to_quantize=sorted(layers) + [node.name for node in graph.residual_adds()],
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
    return onnx.load(job.scratch / "quantized.onnx")


CALIBRATOR = OnnxRuntimeCalibrator()
