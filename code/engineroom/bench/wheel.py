"""The null engine beside LoadGen's own Python wheel, whose FastSUT answers at once in Python.

The peer is this file as a program, in a process of its own: `python -m engineroom.bench.wheel SCENARIO USER_CONF DIR`.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from functools import partial

from engineroom import registry
from engineroom.bench import product, rates
from engineroom.bench.figures import Comparison, Figure, interleaved
from engineroom.bench.harness import Contest, key
from engineroom.bench.recipe import Recipe, highest_rate, prepared
from engineroom.errors import RequestError
from engineroom.paths import VENV
from engineroom.steps.harness import read_log
from engineroom.terms import Scenario

PEER = "FastSUT of the wheel"
SAMPLES = 1024
LOWEST_QPS = 10_000.0
OFFLINE_SAMPLES = 2_000_000
CONTESTS = (
    Contest(Scenario.SINGLE_STREAM, key("result_qps_with_loadgen_overhead"), "queries/s", 2.0),
    Contest(Scenario.OFFLINE, key("result_samples_per_second"), "samples/s", 4.0),
)
# LoadGen's words; milliseconds and samples/s. Offline, a fixed number of samples, whatever time they take.
SETTINGS: dict[Scenario, dict[str, float]] = {
    Scenario.SINGLE_STREAM: {"min_duration": 2000, "target_latency": 0.002},
    Scenario.OFFLINE: {"min_duration": 1, "min_query_count": OFFLINE_SAMPLES, "target_qps": 1000},
}
# How LoadGen issues queries, by its default and by ours. Coalesced, it enters Python once for many of them.
ISSUES = {"one by one": rates.ONE_BY_ONE, "coalesced": rates.COALESCED}
# Ours, the wheel's, and the ratio to reach: like for like, and each by its default. What is only to be known has none.
SERVERS = (("one by one", "one by one", 4.0), ("coalesced", "one by one", 4.0), ("coalesced", "coalesced", None))


def measure(pairs: int) -> list[Figure]:
    """Return the rate of three scenarios; in Server the highest VALID one. Raises RequestError without the wheel."""
    if registry.missing(("mlperf_loadgen",)):
        raise RequestError("needs LoadGen's wheel, not installed here", mend='make install RUN_ARGS="--extra=peers"')
    return [*(_figure(contest, pairs) for contest in CONTESTS), *_server(pairs)]


def _figure(contest: Contest, pairs: int) -> Figure:
    settings = SETTINGS[contest.scenario]

    def ours() -> float:
        return contest.rate(recipe.run(settings))

    def peer() -> float:
        return contest.rate(_wheel(recipe, settings))

    with prepared("--engine=null", f"--scenarios={contest.scenario}") as recipe:
        taken = interleaved(f"wheel, {contest.scenario}", pairs, {"engineroom": ours, PEER: peer})
    name = f"{contest.scenario}, null engine"
    return Figure(name, contest.unit, taken["engineroom"], taken[PEER], PEER, Comparison.RATIO, contest.limit)


def _server(pairs: int) -> list[Figure]:
    def peer(recipe: Recipe, coalesce_queries: int) -> float:
        def valid(rate: float) -> bool:
            settings = {**rates.SETTINGS, "target_qps": rate, "coalesce_queries": coalesce_queries}
            return bool(_wheel(recipe, settings)["result_validity"] == "VALID")

        return highest_rate(valid, LOWEST_QPS)

    with ExitStack() as recipes:
        take = {}
        for name, coalesce in ISSUES.items():
            recipe = recipes.enter_context(prepared(*rates.flags(coalesce)))
            take[f"engineroom, {name}"] = partial(rates.ours, recipe, coalesce)
            take[f"{PEER}, {name}"] = partial(peer, recipe, coalesce)
        taken = interleaved("wheel, Server", pairs, take)

    def figure(name: str, beside: str, limit: float | None) -> Figure:
        title, peers = f"Server, null engine, {name}", f"{PEER}, {beside}"
        values = taken[f"engineroom, {name}"], taken[peers]
        return Figure(title, "queries/s", *values, peers, Comparison.RATIO, limit)

    return [figure(*server) for server in SERVERS]


def _wheel(recipe: Recipe, settings: dict[str, float]) -> dict[str, object]:
    """Run LoadGen's wheel with the settings that the recipe's test would have, and return its log."""
    scenario = recipe.config.scenario
    with product.scratch() as folder:
        recipe.command(settings)  # writes user.conf
        conf = recipe.folder / "recipe" / "user.conf"
        program = [str(VENV / "bin" / "python"), "-m", "engineroom.bench.wheel"]
        product.run([*program, scenario, str(conf), str(folder)])
        return read_log(folder)


def main(scenario: str, user_conf: str, folder: str) -> None:
    """Run one test whose queries are answered at once."""
    import mlperf_loadgen as loadgen

    settings = loadgen.TestSettings()
    settings.scenario = getattr(loadgen.TestScenario, scenario)
    settings.mode = loadgen.TestMode.PerformanceOnly
    settings.FromConfig(user_conf, "null", scenario)
    logs = loadgen.LogSettings()
    logs.log_output.outdir = folder
    logs.log_output.copy_summary_to_stdout = False
    logs.enable_trace = False
    response, complete = loadgen.QuerySampleResponse, loadgen.QuerySamplesComplete

    def issue(ids: list[int], indices: list[int]) -> None:
        complete([response(id_, 0, 0) for id_ in ids])

    sut = loadgen.ConstructFastSUT(issue, lambda: None)
    library = loadgen.ConstructQSL(SAMPLES, SAMPLES, lambda samples: None, lambda samples: None)
    loadgen.StartTestWithLogSettings(sut, library, settings, logs, "")


if __name__ == "__main__":
    main(*sys.argv[1:])
