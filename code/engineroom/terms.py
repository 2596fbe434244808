"""The field's words, as types: scenarios, test modes, precisions, tensors and metrics."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from enum import StrEnum


class Scenario(StrEnum):
    """The four ways LoadGen issues queries (MLPerf Inference rules, "Scenarios")."""

    SINGLE_STREAM = "SingleStream"
    MULTI_STREAM = "MultiStream"
    SERVER = "Server"
    OFFLINE = "Offline"


class TestMode(StrEnum):
    """LoadGen's test modes, by LoadGen's own names (`test_settings.h`, enum TestMode)."""

    __test__ = False  # pytest would otherwise take the name for a test class

    SUBMISSION_RUN = "SubmissionRun"
    ACCURACY_ONLY = "AccuracyOnly"
    PERFORMANCE_ONLY = "PerformanceOnly"
    FIND_PEAK_PERFORMANCE = "FindPeakPerformance"


# The modes in which LoadGen logs the answers, so that accuracy can be scored.
SCORED = frozenset({TestMode.ACCURACY_ONLY, TestMode.SUBMISSION_RUN})


class Precision(StrEnum):
    """The number format of an engine's weights and activations. AUTO: the best one that holds the accuracy target."""

    AUTO = "auto"
    INT8 = "int8"
    FP8 = "fp8"
    BF16 = "bf16"
    FP16 = "fp16"
    FP32 = "fp32"


class ExecutionProvider(StrEnum):
    """What ONNX Runtime computes with."""

    CPU = "cpu"
    CUDA = "cuda"
    TENSORRT = "tensorrt"


class Wait(StrEnum):
    """How a worker waits for its GPU: it asks again and again, at the cost of a core, or sleeps until it is woken."""

    SPIN = "spin"
    BLOCK = "block"


class HardwareCompatibility(StrEnum):
    """On which GPUs a TensorRT plan runs beside the kind that it was built on."""

    NONE = "none"
    SAME_COMPUTE_CAPABILITY = "same_compute_capability"
    AMPERE_PLUS = "ampere_plus"


class Weights(StrEnum):
    """What a model's weights are: the benchmark's own, or seeded ones of the same architecture, which know nothing."""

    REFERENCE = "reference"
    SYNTHETIC = "synthetic"


class Observer(StrEnum):
    """What decides the range of an activation that int8 covers: all values seen, the least loss of information, or a
    percentile of the magnitudes.
    """

    MINMAX = "minmax"
    ENTROPY = "entropy"
    PERCENTILE = "percentile"


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of a model, for one sample: `shape` has no batch axis.

    `dtype` is NumPy's name ("float32", "int64").
    """

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """The size of one sample's tensor. NumPy's names of fixed-size types end in their bits."""
        bits = re.search(r"[0-9]+$", self.dtype)
        return math.prod(self.shape) * (int(bits[0]) // 8 if bits else 1)


@dataclass(frozen=True)
class Metric:
    """The figure that counts in a scenario: LoadGen's key for it in the detail log, and the words that people read.

    `scale` turns LoadGen's number into `unit`.
    """

    key: str
    name: str
    unit: str
    scale: float


# The keys are those of LoadGen 6.0 `results.cc`; latencies are nanoseconds there. For the two streams it is the
# early-stopping estimate of the percentile that MLPerf publishes, not the percentile of this run's own samples.
METRICS: dict[Scenario, Metric] = {
    Scenario.SINGLE_STREAM: Metric("early_stopping_latency_ss", "p90 latency", "ms", 1e-6),
    Scenario.MULTI_STREAM: Metric("early_stopping_latency_ms", "p99 latency of 8 samples", "ms", 1e-6),
    Scenario.SERVER: Metric("result_completed_samples_per_sec", "completed rate", "samples/s", 1.0),
    Scenario.OFFLINE: Metric("result_samples_per_second", "throughput", "samples/s", 1.0),
}

SAMPLES_PER_QUERY_MULTI_STREAM = 8  # fixed by the rules; LoadGen's mlperf.conf `*.MultiStream.samples_per_query`
