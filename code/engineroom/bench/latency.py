"""SingleStream latency of the openvino engine, as LoadGen logs it, beside a bare synchronous loop of OpenVINO.

The limit is 1.02 times the loop's percentile and 3 us: what LoadGen and the harness may add to an inference.
"""

from __future__ import annotations

from functools import partial
from statistics import median

from engineroom.bench import loop, models
from engineroom.bench.figures import Comparison, Figure, interleaved
from engineroom.bench.recipe import Recipe
from engineroom.terms import Precision, Scenario

PERCENTILES = {"p50": "result_50.00_percentile_latency_ns", "p90": "result_90.00_percentile_latency_ns"}
SHARE, ADDED_US = 0.02, 3.0
PEER = "bare loop"


def measure(pairs: int, benchmarks: str | None = None, precisions: str | None = None) -> list[Figure]:
    """Return the percentiles of each precision."""
    loop.build()
    subjects = models.subjects(benchmarks, precisions)
    return [figure for model, precision in subjects for figure in figures(model, precision, pairs)]


def figures(model: models.Model, precision: Precision, pairs: int) -> list[Figure]:
    """Return p50 and p90 of one model and precision."""
    with model.prepared(Scenario.SINGLE_STREAM, precision) as recipe:
        peer = partial(loop.measure, recipe.harness(), "sync", 1, model.seconds)
        take = {"engineroom": partial(_ours, model, recipe), PEER: peer}
        taken = interleaved(f"SingleStream, {model.benchmark} {precision}", pairs, take)
    return [
        _figure(f"SingleStream {name}, openvino, {model.benchmark} {precision}", name, taken) for name in PERCENTILES
    ]


def _figure(title: str, name: str, taken: dict[str, tuple[dict[str, float], ...]]) -> Figure:
    ours, bare = (tuple(each[f"{name}_us"] for each in taken[who]) for who in ("engineroom", PEER))
    limit = SHARE * median(bare) + ADDED_US
    return Figure(title, "us", ours, bare, PEER, Comparison.DIFFERENCE, round(limit, 3))


def _ours(model: models.Model, recipe: Recipe) -> dict[str, float]:
    log = recipe.run(model.settings(Scenario.SINGLE_STREAM))
    return {f"{name}_us": float(log[key]) / 1000 for name, key in PERCENTILES.items()}
