"""The harness itself: the null engine, which takes the way of every engine, beside LoadGen with a bare null SUT."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from engineroom.bench import product
from engineroom.bench.figures import Comparison, Figure, interleaved
from engineroom.bench.recipe import Recipe, prepared
from engineroom.config import fields
from engineroom.errors import EngineError
from engineroom.steps import native
from engineroom.steps.harness import read_log
from engineroom.terms import Scenario

PEER = "bare null SUT"
SETTINGS: dict[str, float] = {"min_duration": 1000}  # LoadGen's word; milliseconds
# What LoadGen generates ahead, the same for both in every round: more than any machine answers in a second; Offline, as
# many samples as the rate says, whatever time they take.
EXPECTED = {Scenario.SINGLE_STREAM: 1000, Scenario.MULTI_STREAM: 2000, Scenario.OFFLINE: 5_000_000}


def key(name: str) -> Callable[[dict[str, Any]], float]:
    """Return what reads a key of LoadGen's detail log."""
    return lambda log: float(log[name])


def queries_per_second(log: dict[str, Any]) -> float:
    """Return the queries that LoadGen issued, over the duration after which it stops: it gives MultiStream no rate."""
    if not log["result_min_duration_met"]:
        raise EngineError("LoadGen ran out of queries before the test's duration was over")
    return float(log["result_query_count"]) / float(log["effective_min_duration_ms"]) * 1000


class Contest(NamedTuple):
    """A scenario, its rate in LoadGen's detail log, its unit, and the ratio to reach."""

    scenario: Scenario
    rate: Callable[[dict[str, Any]], float]
    unit: str
    limit: float


CONTESTS = (
    Contest(Scenario.SINGLE_STREAM, key("result_qps_with_loadgen_overhead"), "queries/s", 0.95),
    Contest(Scenario.MULTI_STREAM, queries_per_second, "queries/s", 0.95),
    Contest(Scenario.OFFLINE, key("result_samples_per_second"), "samples/s", 0.9),
)


def measure(pairs: int) -> list[Figure]:
    """Return the rate of each scenario. Offline, the bare SUT completes the same batches from as many threads."""
    native.build_program("bare_null_sut")
    return [_figure(contest, pairs) for contest in CONTESTS]


def _figure(contest: Contest, pairs: int) -> Figure:
    expected = f"--{fields.EXPECTED[contest.scenario]}={EXPECTED[contest.scenario]}"
    with (
        prepared("--engine=null", f"--scenarios={contest.scenario}", expected) as recipe,
        product.scratch() as folder,
    ):
        take = {"engineroom": partial(_ours, contest, recipe), PEER: partial(_peer, contest, recipe, folder)}
        taken = interleaved(f"null engine, {contest.scenario}", pairs, take)
    name = f"{contest.scenario}, null engine"
    return Figure(name, contest.unit, taken["engineroom"], taken[PEER], PEER, Comparison.RATIO, contest.limit)


def _ours(contest: Contest, recipe: Recipe) -> float:
    return contest.rate(recipe.run(SETTINGS))


def _peer(contest: Contest, recipe: Recipe, folder: Path) -> float:
    product.run(product.bare_null_sut(recipe.config, folder, **SETTINGS))
    return contest.rate(read_log(folder))
