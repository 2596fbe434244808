"""What lower precisions bring: Offline throughput of ResNet-50 on the openvino engine, in int8 and bf16 beside fp32.

The weights are synthetic and the images drawn, for speed depends on neither; so anyone can run it.
"""

from __future__ import annotations

from functools import partial

from engineroom import systems
from engineroom.bench import product
from engineroom.bench.figures import Comparison, Figure, interleaved
from engineroom.engines import computes_in
from engineroom.terms import Precision

PEER = Precision.FP32
LIMITS = {Precision.INT8: 3.0, Precision.BF16: None}
SECONDS = 10
FLAGS = (
    "--dataset=imagenet-synthetic",
    "--weights=synthetic",
    "--scenarios=Offline",
    "--test_mode=PerformanceOnly",
    f"--min_duration={SECONDS * 1000}",
)
# MLPerf's 24,576 images take a small CPU half an hour; of 64 small batches the last ones count little.
BATCH, SAMPLES, FEW = "--batch_size=8", "--min_query_count=512", "--min_query_count=64"


def measure(pairs: int) -> list[Figure]:
    """Return the throughput of each precision beside that of fp32, all taken in turn."""
    machine = systems.detect()
    native = [precision for precision in LIMITS if computes_in(precision, machine)]
    chosen = [precision for precision in LIMITS if precision is Precision.INT8 or precision in native]
    flags = {each.value: (BATCH, f"--precision={each}", "--engine=openvino") for each in (*chosen, PEER)}
    for each in flags.values():  # engines that are missing are built now
        throughput(*each, FEW)
    take = {name: partial(throughput, *each, SAMPLES) for name, each in flags.items()}
    taken = interleaved("ResNet-50 Offline, by precision", pairs, take)
    return [
        Figure(
            f"Offline, openvino, resnet50 {precision}",
            "samples/s",
            taken[precision],
            taken[PEER],
            PEER,
            Comparison.RATIO,
            LIMITS[precision] if precision in native else None,
        )
        for precision in chosen
    ]


def throughput(*flags: str) -> float:
    """Run ResNet-50 Offline and return LoadGen's samples per second."""
    with product.run_harness(*FLAGS, *flags, benchmark="resnet50") as ran:
        return float(ran.results["performance"]["performance"]["value"])
