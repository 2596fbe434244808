"""Offline throughput of the openvino engine under LoadGen, beside a bare loop of OpenVINO and its own benchmark_app.

The bare loop keeps as many asynchronous requests in flight as the engine has instances, over the same compiled model.
benchmark_app compiles the same model file for the same batch with the same properties as the engine was built with: the
engine's engine.json has them. (It cannot take the blob: in OpenVINO 2026.4's wheel it refuses every compiled model.) It
runs as many requests as OpenVINO calls optimal. Both fill their inputs once, before the clock starts; LoadGen's change.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from engineroom.bench import loop, models, product
from engineroom.bench.figures import Comparison, Figure, interleaved
from engineroom.engines import BuildRequest
from engineroom.paths import VENV
from engineroom.steps.build import RECIPE
from engineroom.terms import Precision, Scenario

LIMITS = {"bare loop": 0.97, "benchmark_app": 1.0}
DEVICE = "CPU"


def measure(pairs: int, benchmarks: str | None = None, precisions: str | None = None) -> list[Figure]:
    """Return the throughput of each precision, beside each peer."""
    loop.build()
    subjects = models.subjects(benchmarks, precisions)
    return [figure for model, precision in subjects for figure in _figures(model, precision, pairs)]


def _figures(model: models.Model, precision: Precision, pairs: int) -> list[Figure]:
    with model.prepared(Scenario.OFFLINE, precision) as recipe, product.scratch() as folder:
        harness = recipe.harness()
        engine = Path(harness["engine"]["options"]["blob"]).parent
        request = msgspec.json.decode((engine / RECIPE).read_bytes(), type=BuildRequest)
        take = {
            "engineroom": partial(model.throughput, recipe),
            "bare loop": partial(_bare_loop, harness, model.seconds),
            "benchmark_app": partial(_benchmark_app, request, folder, model.seconds),
        }
        taken = interleaved(f"Offline throughput, {model.benchmark} {precision}", pairs, take)
    name = f"Offline, openvino, {model.benchmark} {precision}"
    return [
        Figure(name, "samples/s", taken["engineroom"], taken[peer], peer, Comparison.RATIO, limit)
        for peer, limit in LIMITS.items()
    ]


def _bare_loop(harness: Mapping[str, Any], seconds: int) -> float:
    return loop.measure(harness, "async", harness["instances"], seconds)["samples_per_second"]


def _benchmark_app(request: BuildRequest, folder: Path, seconds: int) -> float:
    """Return benchmark_app's samples per second."""
    properties = folder / "properties.json"
    properties.write_text(json.dumps({DEVICE: request.settings}), encoding="utf-8")
    shapes = ",".join(f"{spec.name}{[request.batch_size, *spec.shape]}".replace(" ", "") for spec in request.inputs)
    types = ",".join(f"{spec.name}:{_short(spec.dtype)}" for spec in request.inputs)
    product.run(
        [
            *(str(VENV / "bin" / "benchmark_app"), "-m", request.model, "-d", DEVICE, "-t", str(seconds)),
            *("-shape", shapes, "-iop", types),
            *("-hint", "none", "-load_config", str(properties)),  # its own hint would replace our properties
            *("-report_type", "no_counters", "-report_folder", str(folder), "-json_stats"),
        ]
    )
    report = json.loads((folder / "benchmark_report.json").read_text(encoding="utf-8"))
    return float(report["execution_results"]["throughput"])


def _short(dtype: str) -> str:
    """Return benchmark_app's word for a type: float32 is f32, uint8 is u8."""
    return dtype.replace("float", "f").replace("uint", "u").replace("int", "i")
