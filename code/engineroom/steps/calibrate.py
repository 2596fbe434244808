"""Writes ONE explicitly quantized (Q/DQ) ONNX model of a benchmark, with the ranges it saw beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Unpack

from engineroom import qdq, registry, terminal, versions
from engineroom.artifacts import Artifact, Switches, obtain
from engineroom.benchmarks import Benchmark
from engineroom.calibrators import Calibrator, Settings, _observers
from engineroom.errors import RequestError
from engineroom.paths import CALIBRATION, sha256_files

MODEL = "model.qdq.onnx"
RANGES = "ranges.json"


def calibrate(
    benchmark: Benchmark,
    calibrator_name: str,
    model_sha256: str,
    samples: Artifact,
    settings: Settings = Settings(),  # noqa: B008  (frozen)
    **switches: Unpack[Switches],
) -> Artifact:
    """Return the quantized model. `samples` is the preprocessed calibration part, the only data it may see."""
    plugin = registry.get("calibrators", calibrator_name, where="calibrator")
    calibrator: Calibrator = plugin.load().CALIBRATOR
    if absent := registry.missing(calibrator.modules):
        raise RequestError(f"the calibrator {calibrator.name} needs {', '.join(absent)}, not installed here")
    inputs = {
        "model": model_sha256,
        "samples": samples.key,
        "calibrator": calibrator.name,
        **settings.inputs(),
        "code": sha256_files((plugin.path, Path(_observers.__file__), Path(qdq.__file__))),
        **versions.of_distributions(calibrator.distributions),
    }
    return obtain(
        CALIBRATION / benchmark.name,
        inputs,
        lambda folder: _make(benchmark, calibrator, samples, settings, folder),
        what=f"the calibration of {benchmark.name}",
        **switches,
    )


def _make(
    benchmark: Benchmark, calibrator: Calibrator, samples: Artifact, settings: Settings, folder: Path
) -> dict[str, Any]:
    import numpy as np

    arrays = {spec.name: np.load(samples.file(f"{spec.name}.npy"), mmap_mode="r") for spec in benchmark.inputs}
    with terminal.progress(f"calibrate {benchmark.name}", 1) as update:
        model, count = benchmark.model_file()[0], terminal.counting(update)
        ranges = calibrator.calibrate(model, arrays, folder / MODEL, count, settings)
    text = json.dumps({name: [low, high] for name, (low, high) in sorted(ranges.items())}, indent=1)
    (folder / RANGES).write_text(text + "\n", encoding="utf-8")
    return {"tensors": len(ranges), "samples": len(next(iter(arrays.values())))}
