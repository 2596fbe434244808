"""The highest VALID Server rate of the openvino engine, beside what queueing theory allows: a simulated M/D/c queue.

Queries come at random (Poisson), and c servers, one per instance, take the same time for each. That time is measured,
all instances at once, in a bare loop of OpenVINO over the same model, one sample at a time; so the queue has no
harness, no LoadGen and no thread to wake. LoadGen gets a core of its own where it needs one; c is then one less. The
engine answers one by one, too, and in the batches of the benchmark's settings, in which it answers queries that wait
together. The latency limit is ten times what one inference takes alone. A benchmark's official limit has its own rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from math import ceil
from typing import TYPE_CHECKING, Any

from engineroom import rounds
from engineroom.bench import loop, models
from engineroom.bench.figures import Comparison, Figure, interleaved
from engineroom.bench.recipe import TO, TRIES, Recipe, prepared, workers_beside_loadgen
from engineroom.bench.search import highest
from engineroom.terms import Precision, Scenario

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

LIMIT = 0.9
ONE_BY_ONE = "one by one"
PEER = "M/D/c"
TIMES_ALONE = 10  # the latency limit, in inferences
QUANTILE = 0.99  # of the latencies, that has to keep the limit: LoadGen's own
QUERIES = 200_000  # simulated
# LoadGen's words; milliseconds. Early stopping lets no query of 459 be late, and one of 662.
SETTINGS = {"min_duration": 2000, "min_query_count": 1000}
SERVICE_S = 2  # for so long an inference is timed
SEED = 1
FALL = 4  # a machine that does not reach what is asked for is searched down to this part of it


def measure(pairs: int, benchmarks: str | None = None, precisions: str | None = None) -> list[Figure]:
    """Return the rates of each model and precision."""
    loop.build()
    subjects = models.subjects(benchmarks, precisions)
    return [figure for model, precision in subjects for figure in _figures(model, precision, pairs)]


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

    return highest(keeps, 0.01 * servers / service_s, servers / service_s, 1.001) or 0.0


def _figures(model: models.Model, precision: Precision, pairs: int) -> list[Figure]:
    spare = (f"--instances={workers_beside_loadgen()}", "--threads_per_instance=1") if model.quick else ()
    flags = (*model.flags, *spare, f"--scenarios={Scenario.SERVER}", "--engine=openvino", f"--precision={precision}")
    with (
        prepared(*flags, "--batch_size=1", benchmark=model.benchmark) as single,
        prepared(*flags, benchmark=model.benchmark) as usual,
    ):
        ways = {ONE_BY_ONE: single}
        if usual.config.batch_size > 1:
            ways[f"in batches of up to {usual.config.batch_size}"] = usual
        alone_ms = loop.measure(single.harness(), "sync", 1, SERVICE_S)["p50_us"] / 1000
        limits_ms = {f"{TIMES_ALONE} p50": ceil(TIMES_ALONE * alone_ms)}  # LoadGen reads whole milliseconds
        if official_ms := _official_ms(model.benchmark):
            limits_ms["official"] = ceil(official_ms)
        return [
            figure
            for name, limit_ms in limits_ms.items()
            for figure in _at(limit_ms, f"openvino, {model.benchmark} {precision}, {name} = {limit_ms} ms", ways, pairs)
        ]


def _official_ms(benchmark: str) -> float | None:
    """Return the latency limit that the newest round has for Server."""
    model = rounds.read(rounds.names()[-1]).benchmarks.models.get(benchmark)
    return model.latency_ms.get(Scenario.SERVER) if model else None


def _at(limit_ms: int, title: str, ways: Mapping[str, Recipe], pairs: int) -> list[Figure]:
    """Return the rate of each way to answer, with one latency limit. A queue that answers one by one has it as well."""
    harness = ways[ONE_BY_ONE].harness()
    servers = harness["instances"]
    service_s = _service_s(harness)
    ideal, most = highest_rate(service_s, servers, limit_ms / 1000), servers / service_s
    if not ideal:  # one inference takes longer than that: no queue keeps the limit
        return [
            Figure(f"Server {way}, {title} (0: none)", "queries/s", (highest(valid, most / 2, most, TO) or 0.0,))
            for way, valid in ((way, partial(_valid, recipe, limit_ms)) for way, recipe in ways.items())
        ]
    take: dict[str, Callable[[], float]] = {
        # A batch takes no less time than one sample: that bounds what batches can bring.
        way: partial(_searched, partial(_valid, recipe, limit_ms), LIMIT * ideal, recipe.config.batch_size * most)
        for way, recipe in ways.items()
    }
    take[PEER] = lambda: highest_rate(_service_s(harness), servers, limit_ms / 1000)
    taken = interleaved(title, pairs, take)
    return [
        Figure(f"Server {way}, {title}", "queries/s", taken[way], taken[PEER], PEER, Comparison.RATIO, LIMIT)
        for way in ways
    ]


def _searched(valid: Callable[[float], bool], start: float, most: float) -> float:
    return highest(valid, start, most, TO) or highest(valid, start / FALL, start, TO) or 0.0


def _service_s(harness: Mapping[str, Any]) -> float:
    """Return the median time of an inference while every instance runs."""
    return loop.measure(harness, "sync", harness["instances"], SERVICE_S)["p50_us"] / 1e6


def _valid(recipe: Recipe, limit_ms: int, rate: float) -> bool:
    """Run at `rate` queries a second, and again if that is not VALID: the simulated queue never stalls."""
    settings = {**SETTINGS, "target_latency": limit_ms, "target_qps": rate}
    return any(recipe.run(settings)["result_validity"] == "VALID" for _ in range(TRIES))
