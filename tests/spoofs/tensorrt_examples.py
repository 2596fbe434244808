"""What the tests of TensorRT share: a GPU, settings of a plan, and the request for one of the digits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import examples
import msgspec

from engineroom.benchmarks.digits import BENCHMARK, MODEL
from engineroom.detection import Gpu
from engineroom.engines import BuildRequest
from engineroom.engines._plans import BuildSettings
from engineroom.terms import HardwareCompatibility, Precision

GPU = Gpu("NVIDIA H200", memory_bytes=140 << 30, compute_capability="9.0")
SETTINGS = BuildSettings(
    builder_optimization_level=3,
    workspace_bytes=1 << 30,
    version_compatible=False,
    hardware_compatibility=HardwareCompatibility.NONE,
    detailed_profiling=False,
)
CONFIG = examples.config(engine="tensorrt", precision=Precision.FP16)


def request_for(model: Path = MODEL, **changes: Any) -> BuildRequest:
    """Return the request for a plan in fp16 of batches up to 64."""
    request = BuildRequest(
        "tensorrt", str(model), "", Precision.FP16, 64, BENCHMARK.inputs, BENCHMARK.outputs, SETTINGS.as_text()
    )
    return msgspec.structs.replace(request, **changes)
