"""Offline throughput of the openvino engine under LoadGen, beside OpenVINO's own benchmark_app.

benchmark_app compiles the same model file for the same batch with the same properties as the engine was built with: the
engine's engine.json has them. (It cannot take the blob: in OpenVINO 2026.4's wheel it refuses every compiled model.) It
runs as many requests as OpenVINO calls optimal and fills their inputs once, before the clock starts; LoadGen's change.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import msgspec

from engineroom.bench import product
from engineroom.bench.figures import Comparison, Figure, interleaved
from engineroom.engines import BuildRequest
from engineroom.paths import VENV
from engineroom.steps.build import RECIPE
from engineroom.terms import Precision

PRECISIONS = (Precision.INT8, Precision.FP32)
LIMIT = 0.95
SECONDS = 5
PEER = "benchmark_app"
DEVICE = "CPU"


def measure(pairs: int) -> list[Figure]:
    """Return the throughput of each precision."""
    return [_figure(precision, pairs) for precision in PRECISIONS]


def _figure(precision: Precision, pairs: int) -> Figure:
    flags = [
        "--scenarios=Offline",
        "--test_mode=PerformanceOnly",
        "--engine=openvino",
        f"--precision={precision}",
        f"--min_duration={SECONDS * 1000}",
    ]
    with product.run_harness(*flags) as ran:
        harness = json.loads((ran.folders["performance"] / "recipe" / "harness.json").read_text(encoding="utf-8"))
    engine = Path(harness["engine"]["options"]["blob"]).parent
    request = msgspec.json.decode((engine / RECIPE).read_bytes(), type=BuildRequest)
    with product.scratch() as folder:
        take = {"engineroom": partial(_ours, flags), PEER: partial(_peer, request, folder)}
        taken = interleaved(f"Offline throughput, {precision}", pairs, take)
    name = f"Offline, openvino, digits {precision}"
    return Figure(name, "samples/s", taken["engineroom"], taken[PEER], PEER, Comparison.RATIO, LIMIT)


def _ours(flags: list[str]) -> float:
    with product.run_harness(*flags) as ran:
        return float(ran.results["performance"]["performance"]["value"])


def _peer(request: BuildRequest, folder: Path) -> float:
    """Return benchmark_app's samples per second."""
    properties = folder / "properties.json"
    properties.write_text(json.dumps({DEVICE: request.settings}), encoding="utf-8")
    shapes = ",".join(f"{spec.name}{[request.batch_size, *spec.shape]}".replace(" ", "") for spec in request.inputs)
    types = ",".join(f"{spec.name}:{_short(spec.dtype)}" for spec in request.inputs)
    product.run(
        [
            *(str(VENV / "bin" / "benchmark_app"), "-m", request.model, "-d", DEVICE, "-t", str(SECONDS)),
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
