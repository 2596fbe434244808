"""The highest VALID Server rate of the openvino engine, beside what queueing theory allows: a simulated M/D/c queue.

Queries come at random (Poisson), and c servers, one per instance, take the same time for each. That time is measured,
all instances at once, in a bare loop of OpenVINO over the same model, one sample at a time; so the queue has no
harness, no LoadGen and no thread to wake. The engine may answer queries that wait together in one batch. The latency
limit is ten times what one inference takes alone. ResNet-50's official limit of 15 ms has a row of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import ceil
from typing import TYPE_CHECKING, Any

from engineroom.bench import loop, models, product
from engineroom.bench.figures import Comparison, Figure, interleaved
from engineroom.bench.search import highest
from engineroom.terms import Precision, Scenario

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

LIMIT = 0.9
PEER = "M/D/c"
TIMES_ALONE = 10  # the latency limit, in inferences
OFFICIAL_MS = {"resnet50": 15}  # MLPerf Inference rules, "Datacenter": the latency limit of Server
QUANTILE = 0.99  # of the latencies, that has to keep the limit: LoadGen's own
QUERIES = 200_000  # simulated
LENGTH = "--min_duration=3000"  # ms
ENOUGH = "--min_query_count=1000"  # early stopping needs 662 for a p99, and then lets none be late
SEED = 1
STEPS = 2  # of a search between what is asked for and what the instances could do without a pause: to 5 hundredths
FALL = 4  # a machine that does not reach what is asked for is searched down to this part of it


def measure(pairs: int, benchmarks: str | None = None) -> list[Figure]:
    """Return the rates of each model and precision."""
    loop.build()
    return [figure for model, precision in models.subjects(benchmarks) for figure in _figures(model, precision, pairs)]


def arrivals(rate: float, queries: int) -> npt.NDArray[np.float64]:
    """Return the times at which `queries` queries come, in s, at random with `rate` a second; always the same draw."""
    import numpy as np

    return np.cumsum(np.random.default_rng(SEED).exponential(1 / rate, queries))


def latencies(arrived: npt.NDArray[np.float64], service_s: float, servers: int) -> npt.NDArray[np.float64]:
    """Return how long each query is in the queue and in service, first come first served, all served equally long.

    Then queries also leave in the order in which they came: each waits for the one that came `servers` before it, so
    departure n is max(arrival n, departure n - c) + s, which a running maximum of arrival n - (n / c) s sums up.
    """
    import numpy as np

    departed = np.empty_like(arrived)
    for first in range(servers):
        came = arrived[first::servers]
        served_s = service_s * np.arange(len(came))
        departed[first::servers] = np.maximum.accumulate(came - served_s) + served_s + service_s
    return departed - arrived


def highest_rate(service_s: float, servers: int, limit_s: float) -> float:
    """Return the highest rate, in queries/s, at which the queue's 99th percentile keeps `limit_s`; 0 if none does."""
    import numpy as np

    def keeps(rate: float) -> bool:
        return float(np.quantile(latencies(arrivals(rate, QUERIES), service_s, servers), QUANTILE)) <= limit_s

    return highest(keeps, 0.01 * servers / service_s, servers / service_s, steps=12) or 0.0


def _figures(model: models.Model, precision: Precision, pairs: int) -> list[Figure]:
    flags = model.openvino(Scenario.SERVER, precision)
    title = f"Server, openvino, {model.benchmark} {precision}"
    one_by_one = (*flags, LENGTH, "--batch_size=1")
    with product.run_harness(*one_by_one, benchmark=model.benchmark, expect_valid=False) as ran:
        recipe = loop.recipe(ran.folders["performance"])
    alone_ms = loop.measure(recipe, "sync", 1, model.seconds)["p50_us"] / 1000
    limits_ms = {f"{TIMES_ALONE} p50": ceil(TIMES_ALONE * alone_ms)}  # LoadGen reads whole milliseconds
    if model.benchmark in OFFICIAL_MS:
        limits_ms["official"] = OFFICIAL_MS[model.benchmark]
    return [
        _figure(f"{title}, {name} = {limit_ms} ms", model, flags, recipe, limit_ms, pairs)
        for name, limit_ms in limits_ms.items()
    ]


def _figure(
    title: str, model: models.Model, flags: Sequence[str], recipe: Mapping[str, Any], limit_ms: int, pairs: int
) -> Figure:
    def ideal() -> float:
        return highest_rate(_service_s(recipe, model.seconds), recipe["instances"], limit_ms / 1000)

    valid = partial(_valid, model, (*flags, f"--server_target_latency_ns={limit_ms} ms"))
    most = recipe["instances"] / _service_s(recipe, model.seconds)
    start = ideal()
    if not start:  # one inference takes longer than that: no queue keeps the limit
        return Figure(f"{title} (0: none)", "queries/s", (highest(valid, most / 2, most, STEPS) or 0.0,))
    take: dict[str, Callable[[], float]] = {"engineroom": partial(_searched, valid, LIMIT * start, most), PEER: ideal}
    taken = interleaved(title, pairs, take)
    return Figure(title, "queries/s", taken["engineroom"], taken[PEER], PEER, Comparison.RATIO, LIMIT)


def _searched(valid: Callable[[float], bool], start: float, most: float) -> float:
    return highest(valid, start, most, STEPS) or highest(valid, start / FALL, start, STEPS) or 0.0


def _service_s(recipe: Mapping[str, Any], seconds: float) -> float:
    """Return the median time of an inference while every instance runs."""
    return loop.measure(recipe, "sync", recipe["instances"], seconds)["p50_us"] / 1e6


def _valid(model: models.Model, flags: Sequence[str], rate: float) -> bool:
    """Run at `rate` queries a second and return LoadGen's word."""
    words = (*flags, LENGTH, ENOUGH, f"--server_target_qps={rate:.6g}")
    with product.run_harness(*words, benchmark=model.benchmark, expect_valid=False) as ran:
        return bool(ran.results["performance"]["performance"]["valid"])
