"""What lower precisions bring: Offline throughput of ResNet-50 on the openvino engine, in int8 and bf16 beside fp32."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial

from engineroom.bench import models
from engineroom.bench.figures import Comparison, Figure, interleaved
from engineroom.bench.models import RESNET50
from engineroom.terms import Precision, Scenario

PEER = Precision.FP32
LIMITS = {Precision.INT8: 5.0, Precision.BF16: None}  # where the CPU has instructions for the precision


def measure(pairs: int) -> list[Figure]:
    """Return the throughput of each precision beside that of fp32, all taken in turn."""
    with ExitStack() as stack:
        take = {
            precision.value: partial(
                RESNET50.throughput, stack.enter_context(RESNET50.prepared(Scenario.OFFLINE, precision))
            )
            for precision in models.precisions(RESNET50)
        }
        taken = interleaved("ResNet-50 Offline, by precision", pairs, take)
    return [_figure(precision, taken) for precision in models.precisions(RESNET50) if precision is not PEER]


def _figure(precision: Precision, taken: dict[str, tuple[float, ...]]) -> Figure:
    limit = LIMITS[precision] if precision in models.native() else None
    name = f"Offline, openvino, resnet50 {precision}"
    return Figure(name, "samples/s", taken[precision], taken[PEER], PEER, Comparison.RATIO, limit)
