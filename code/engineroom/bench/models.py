"""The models that speed is measured on, the flags that keep their runs short, and the precisions this machine has.

ResNet-50's weights are synthetic and its images drawn, for speed depends on neither; so anyone can run it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from engineroom import systems
from engineroom.bench import product
from engineroom.engines import computes_in
from engineroom.errors import RequestError, did_you_mean
from engineroom.terms import Precision, Scenario


@dataclass(frozen=True)
class Model:
    """A benchmark and the flags of its runs: of all, of those Offline, and of those in SingleStream.

    `seconds` is how long a peer runs.
    """

    benchmark: str
    flags: tuple[str, ...]
    offline: tuple[str, ...]
    single_stream: tuple[str, ...]
    seconds: int

    def performance(self, scenario: Scenario) -> tuple[str, ...]:
        """Return the flags of a performance test on any engine."""
        return (*self.flags, f"--scenarios={scenario}", "--test_mode=PerformanceOnly")

    def openvino(self, scenario: Scenario, precision: Precision) -> tuple[str, ...]:
        """Return the flags of a performance test on the openvino engine, long enough to be measured."""
        own = {Scenario.OFFLINE: self.offline, Scenario.SINGLE_STREAM: self.single_stream}.get(scenario, ())
        return (*self.performance(scenario), "--engine=openvino", f"--precision={precision}", *own)

    def throughput(self, flags: Sequence[str]) -> float:
        """Run Offline and return LoadGen's samples per second."""
        with product.run_harness(*flags, benchmark=self.benchmark) as ran:
            return float(ran.results["performance"]["performance"]["value"])


DIGITS = Model("digits", (), ("--min_duration=5000",), ("--min_duration=3000",), seconds=5)
RESNET50 = Model(
    "resnet50",
    ("--dataset=imagenet-synthetic", "--weights=synthetic"),
    # MLPerf's 24,576 images take a small CPU half an hour; of 32 small batches the last ones count little.
    ("--batch_size=8", "--min_duration=10000", "--min_query_count=256"),
    ("--min_duration=10000", "--min_query_count=64"),
    seconds=10,
)
MODELS = {model.benchmark: model for model in (DIGITS, RESNET50)}


def native() -> set[Precision]:
    """Return the precisions that this CPU has instructions for."""
    machine = systems.detect()
    return {precision for precision in Precision if computes_in(precision, machine)}


def precisions(model: Model) -> tuple[Precision, ...]:
    """Return the precisions to measure: fp32, int8, and bf16 where the CPU and the model have it."""
    bf16 = (Precision.BF16,) if model is RESNET50 and Precision.BF16 in native() else ()
    return (Precision.INT8, *bf16, Precision.FP32)


def chosen(names: str | None) -> tuple[Model, ...]:
    """Return the models that --benchmarks names, the digits without it. Raises RequestError for an unknown one."""
    wanted = (names or DIGITS.benchmark).split(",")
    for name in wanted:
        if name not in MODELS:
            what = f"the bench has no measurement of {name!r}"
            raise RequestError(what, where="--benchmarks", mend=did_you_mean(name, MODELS))
    return tuple(model for name, model in MODELS.items() if name in wanted)


def subjects(names: str | None) -> list[tuple[Model, Precision]]:
    """Return each model that --benchmarks names with each of its precisions."""
    return [(model, precision) for model in chosen(names) for precision in precisions(model)]
