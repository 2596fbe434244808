"""What lower precisions bring: Offline throughput of ResNet-50 on the openvino engine, in int8 and bf16 beside fp32.

The weights are synthetic and the images drawn, for speed depends on neither; so anyone can run it.
"""

from __future__ import annotations

from functools import partial

from engineroom import systems
from engineroom.bench import product
from engineroom.bench.figures import Comparison, Figure, interleaved
from engineroom.terms import Precision

PEER = Precision.FP32
LIMITS = {Precision.INT8: 3.0, Precision.BF16: None}
FAST = ("avx512_vnni", "avx_vnni", "amx_int8")  # without these int8 has no instructions of its own, and no limit
SECONDS = 10
FLAGS = (
    "--dataset=imagenet-synthetic",
    "--weights=synthetic",
    "--scenarios=Offline",
    "--test_mode=PerformanceOnly",
    f"--min_duration={SECONDS * 1000}",
)
SAMPLES = "--min_query_count=1024"  # MLPerf's 24,576 take a small CPU half an hour; fewer, and the last batches count


def measure(pairs: int) -> list[Figure]:
    """Return the throughput of each precision beside that of fp32, all taken in turn."""
    take = {
        each.value: partial(throughput, SAMPLES, f"--precision={each}", "--engine=openvino") for each in (*LIMITS, PEER)
    }
    for run in take.values():  # engines that are missing are built now
        run()
    taken = interleaved("ResNet-50 Offline, by precision", pairs, take)
    fast = any(name in FAST for name in systems.detect().cpu.isa)
    return [
        Figure(
            f"Offline, openvino, resnet50 {precision}",
            "samples/s",
            taken[precision],
            taken[PEER],
            PEER,
            Comparison.RATIO,
            limit if fast else None,
        )
        for precision, limit in LIMITS.items()
    ]


def throughput(*flags: str) -> float:
    """Run ResNet-50 Offline and return LoadGen's samples per second."""
    with product.run_harness(*FLAGS, *flags, benchmark="resnet50") as ran:
        return float(ran.results["performance"]["performance"]["value"])
