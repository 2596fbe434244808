"""How rate and memory grow: with batch size, instances and samples pending, and with how long a test lasts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from engineroom.bench import product
from engineroom.bench.figures import Comparison, Figure, interleaved
from engineroom.bench.recipe import Recipe, prepared
from engineroom.steps import native
from engineroom.steps.harness import read_log
from engineroom.terms import Scenario

PEER = "bare null SUT"
BATCH_SIZES = (1, 8, 64, 512)
INSTANCES = (1, 2, 4)
PENDING = (1_000, 10_000, 100_000, 1_000_000, 5_000_000)
SAMPLES = 1_000_000
LENGTHS_S = (2, 8, 32)
DELAY_US = 100
FLAT_MB = 20.0  # that a long test may take beyond a short one and what LoadGen itself takes: noise, nothing per sample
MB = 1e6
# As a recipe's run.sh asks malloc for them: the blocks that LoadGen takes are then as large on both sides.
HUGE_PAGES = ("/usr/bin/env", "GLIBC_TUNABLES=glibc.malloc.hugetlb=1")
RATES = {
    Scenario.OFFLINE: "result_samples_per_second",
    Scenario.SINGLE_STREAM: "result_qps_with_loadgen_overhead",
}


def measure(pairs: int) -> list[Figure]:
    """Return Offline rates and peak memories of the null engine beside the bare SUT's, then both by run length.

    Offline, a longer test is one with more samples pending.
    """
    native.build_program("bare_null_sut")
    with prepared("--engine=null", "--scenarios=Offline", "--offline_expected_qps=1000") as recipe:
        offline = [
            *(_offline(recipe, f"batch {size}", size, 2, SAMPLES, pairs) for size in BATCH_SIZES),
            *(_offline(recipe, f"{count} instances", 64, count, SAMPLES, pairs) for count in INSTANCES),
        ]
        pending = [_offline(recipe, f"{count:,} pending", 64, 2, count, pairs) for count in PENDING]
    with prepared(
        "--engine=fixed_delay",
        f"--fixed_delay_us={DELAY_US}",
        "--scenarios=SingleStream",
        f"--single_stream_expected_latency_ns={DELAY_US * 1000}",
    ) as recipe:
        lasting = [_lasting(recipe, seconds, pairs) for seconds in LENGTHS_S]
    rates, memories = zip(*offline, *pending, *lasting, strict=True)
    return [*rates, *memories, *(_growth([memory for _, memory in series]) for series in (pending, lasting))]


class Taken(NamedTuple):
    """What one test came to: samples or queries per second, and the most memory that its process had, in MB."""

    rate: float
    peak_mb: float


def _offline(
    recipe: Recipe, title: str, batch_size: int, instances: int, samples: int, pairs: int
) -> tuple[Figure, Figure]:
    """Return rate and peak memory of an Offline test with so many samples, whatever time they take."""
    settings = {"min_duration": 1, "min_query_count": samples, "target_qps": 1}
    with product.scratch() as folder:
        take = {
            "engineroom": partial(_ours, recipe, settings, batch_size=batch_size, instances=instances),
            PEER: partial(_peer, recipe, settings, folder, str(batch_size), str(instances)),
        }
        taken = interleaved(f"Offline, {title}", pairs, take)
    ours, peer = (tuple(each.rate for each in taken[who]) for who in take)
    rate = Figure(f"rate, Offline, {title}", "samples/s", ours, peer, PEER, Comparison.RATIO)
    return rate, _memory(f"Offline, {title}", taken)


def _lasting(recipe: Recipe, seconds: float, pairs: int) -> tuple[Figure, Figure]:
    """Return rate and peak memory of a SingleStream test of that length; the rate is beside what the delay allows."""
    settings, title = {"min_duration": seconds * 1000}, f"SingleStream, {seconds} s"
    with product.scratch() as folder:
        take = {"engineroom": partial(_ours, recipe, settings), PEER: partial(_peer, recipe, settings, folder)}
        taken = interleaved(title, pairs, take)
    ours = tuple(each.rate for each in taken["engineroom"])
    allowed = tuple(1e6 / DELAY_US for _ in ours)
    rate = Figure(f"rate, {title}", "queries/s", ours, allowed, "the delay itself", Comparison.RATIO)
    return rate, _memory(title, taken)


def _memory(title: str, taken: Mapping[str, Sequence[Taken]]) -> Figure:
    ours, peer = (tuple(each.peak_mb for each in taken[who]) for who in ("engineroom", PEER))
    return Figure(f"peak memory, {title}", "MB", ours, peer, PEER, Comparison.DIFFERENCE)


def _ours(recipe: Recipe, settings: Mapping[str, float], **changes: int) -> Taken:
    return _taken(recipe.command(settings, **changes), recipe.folder / "test", recipe.config.scenario)


def _peer(recipe: Recipe, settings: Mapping[str, float], folder: Path, *batches: str) -> Taken:
    """Run the bare SUT; `batches` says how large they are Offline and in how many threads, if not as in the recipe."""
    command = product.bare_null_sut(recipe.config, folder, **settings)
    command = [*HUGE_PAGES, *command[: len(command) - len(batches)], *batches]
    return _taken(command, folder, recipe.config.scenario)


def _taken(command: Sequence[str], logs: Path, scenario: Scenario) -> Taken:
    peak_mb = product.peak_rss_bytes(command) / MB
    return Taken(float(read_log(logs)[RATES[scenario]]), peak_mb)


def _growth(figures: Sequence[Figure]) -> Figure:
    """Return what the longest test takes more than the shortest, ours beside the peer's."""
    short, long = figures[0], figures[-1]
    ours, peer = (
        tuple(after - before for before, after in zip(*values, strict=True))
        for values in ((short.ours, long.ours), (short.peer, long.peer))
    )
    name = f"{long.name}, less that of {short.name.rpartition(', ')[2]}"
    return Figure(name, "MB", ours, peer, PEER, Comparison.DIFFERENCE, FLAT_MB)
