"""What a run costs outside LoadGen: the wall time of one scenario, less LoadGen's own time in its two tests."""

from __future__ import annotations

from functools import partial

from engineroom.bench import product
from engineroom.bench.figures import Comparison, Figure, interleaved
from engineroom.terms import Scenario

LIMIT_S = 5.0


def measure(pairs: int) -> list[Figure]:
    """Return, for each scenario, the wall time of performance and accuracy, with engines and data made before."""
    for scenario in Scenario:
        _seconds(scenario)
    taken = interleaved("overhead", pairs, {scenario.value: partial(_seconds, scenario) for scenario in Scenario})
    return [
        Figure(
            f"run of {scenario}, both tests",
            "s",
            tuple(wall_s for wall_s, _ in values),
            tuple(loadgen_s for _, loadgen_s in values),
            "LoadGen's own time",
            Comparison.DIFFERENCE,
            LIMIT_S,
        )
        for scenario, values in taken.items()
    ]


def _seconds(scenario: Scenario) -> tuple[float, float]:
    """Return the seconds from start to end, and those that LoadGen says it ran."""
    with product.run_harness(f"--scenarios={scenario}", "--engine=openvino") as ran:
        return ran.wall_s, sum(product.loadgen_seconds(folder) for folder in ran.folders.values())
