"""The models that speed is measured on, what keeps their runs short, and the precisions this machine has.

ResNet-50's weights are synthetic and its images drawn, for speed depends on neither; so anyone can run it.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass

from engineroom import systems
from engineroom.bench.recipe import Recipe, prepared
from engineroom.engines import computes_in
from engineroom.errors import RequestError, did_you_mean
from engineroom.terms import Precision, Scenario


@dataclass(frozen=True)
class Model:
    """A benchmark and the flags of its runs: of all, and of those Offline.

    A test and its peer run for `seconds`, the test for `least` queries (Offline: samples) in any case. `quick`: one is
    answered so quickly that in Server LoadGen's own threads need a good part of a core.
    """

    benchmark: str
    flags: tuple[str, ...]
    offline: tuple[str, ...]
    seconds: int
    least: Mapping[Scenario, int]
    quick: bool = False

    def prepared(
        self, scenario: Scenario, precision: Precision, engine: str = "openvino"
    ) -> AbstractContextManager[Recipe]:
        """Yield the recipe of a performance test; what it needs is made if it is missing."""
        own = self.offline if scenario is Scenario.OFFLINE else ()
        chosen = (f"--scenarios={scenario}", f"--engine={engine}", f"--precision={precision}")
        return prepared(*self.flags, *chosen, *own, benchmark=self.benchmark)

    def settings(self, scenario: Scenario) -> dict[str, float]:
        """Return LoadGen's settings of a test that is long enough to be measured."""
        return {"min_duration": self.seconds * 1000, "min_query_count": self.least.get(scenario, 1)}

    def throughput(self, recipe: Recipe) -> float:
        """Run Offline and return LoadGen's samples per second."""
        return float(recipe.run(self.settings(Scenario.OFFLINE))["result_samples_per_second"])


DIGITS = Model("digits", (), (), seconds=4, least={}, quick=True)
RESNET50 = Model(
    "resnet50",
    ("--dataset=imagenet-synthetic", "--weights=synthetic"),
    ("--batch_size=8",),
    seconds=20,
    # MLPerf's 24,576 images take a small CPU half an hour. While the last batch of one instance is answered the others
    # have none left, which the peers, who stop at a time, do not know: of 64 small batches it counts little.
    least={Scenario.OFFLINE: 512, Scenario.SINGLE_STREAM: 64},
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


def subjects(names: str | None, wanted: str | None = None) -> list[tuple[Model, Precision]]:
    """Return each model that --benchmarks names with each precision that --precisions names, all without it.

    Raises RequestError for a name that is unknown, or where none of the models has a precision on this machine.
    """
    asked = tuple(Precision) if wanted is None else tuple(_precision(name) for name in wanted.split(","))
    taken = chosen(names)
    found = [(model, precision) for model in taken for precision in precisions(model) if precision in asked]
    if not found:
        what = f"none of {', '.join(model.benchmark for model in taken)} is measured in {wanted} on this machine"
        known = sorted({precision for model in taken for precision in precisions(model)})
        raise RequestError(what, where="--precisions", mend=f"name some of {', '.join(known)}")
    return found


def _precision(name: str) -> Precision:
    try:
        return Precision(name)
    except ValueError as error:
        what = f"there is no precision {name!r}"
        raise RequestError(what, where="--precisions", mend=did_you_mean(name, Precision)) from error
