"""What queue and worker cost: the engine fixed_delay takes a time that is known, LoadGen counts what passes."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product as every

from engineroom.bench.figures import Comparison, Figure, interleaved
from engineroom.bench.recipe import Recipe, prepared
from engineroom.terms import Scenario

DELAYS_US = (10, 100, 1000)
INSTANCES = (1, 2)
SECONDS = 0.5  # of work in each test
SERVER_LOAD = 0.1  # of what the workers can do: a query seldom waits for another
PEER = "the delay itself"


def measure(pairs: int) -> list[Figure]:
    """Return the time per batch of one sample: Offline from LoadGen's rate, in Server its median latency."""
    figures: list[Figure] = []
    for scenario in (Scenario.OFFLINE, Scenario.SERVER):
        with prepared("--engine=fixed_delay", f"--scenarios={scenario}", "--batch_size=1", *_SIZED[scenario]) as recipe:
            take = {
                f"{scenario}, {delay} us, {instances} instance{'s'[: instances - 1]}": _taker(recipe, delay, instances)
                for delay, instances in every(DELAYS_US, INSTANCES)
            }
            taken = interleaved(f"queues, {scenario}", pairs, take)
        for (name, values), (delay, _) in zip(taken.items(), every(DELAYS_US, INSTANCES), strict=True):
            beside = tuple(float(delay) for _ in values)
            figures.append(Figure(name, "us/batch", values, beside, PEER, Comparison.DIFFERENCE))
    return figures


# So that the run which only makes the recipe needs no probe.
_SIZED = {Scenario.OFFLINE: ("--offline_expected_qps=100",), Scenario.SERVER: ("--server_target_qps=100",)}


def _taker(recipe: Recipe, delay_us: int, instances: int) -> Callable[[], float]:
    engine = {"name": "fixed_delay", "options": {"delay_us": str(delay_us)}}
    rate = instances * 1e6 / delay_us

    def offline() -> float:
        settings = {"min_duration": 1, "min_query_count": int(SECONDS * rate), "target_qps": 1}
        log = recipe.run(settings, engine=engine, instances=instances)
        return instances * 1e6 / float(log["result_samples_per_second"])

    def server() -> float:
        settings = {"min_duration": int(SECONDS * 1000), "target_qps": SERVER_LOAD * rate, "target_latency": 1000}
        log = recipe.run(settings, engine=engine, instances=instances)
        return float(log["result_50.00_percentile_latency_ns"]) / 1000

    return offline if recipe.config.scenario is Scenario.OFFLINE else server
