"""How rate and memory grow: with batch size, instances and samples pending, and with how long a test lasts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from engineroom.bench import product
from engineroom.bench.figures import Comparison, Figure, interleaved
from engineroom.bench.recipe import Recipe, prepared
from engineroom.steps import native
from engineroom.steps.harness import read_log

PEER = "bare null SUT"
BATCH_SIZES = (1, 8, 64, 512)
INSTANCES = (1, 2, 4)
PENDING = (1_000, 10_000, 100_000, 1_000_000, 5_000_000)
SAMPLES = 1_000_000
LENGTHS_S = (2, 8, 32)
DELAY_US = 100
FLAT_MB = 20.0  # that a long test may take beyond a short one and what LoadGen itself takes: noise, nothing per sample
MB = 1e6


def measure(pairs: int) -> list[Figure]:
    """Return Offline rates and peak memories of the null engine beside the bare SUT's, then memory by run length.

    Offline, a longer test is one with more samples pending.
    """
    native.build_program("bare_null_sut")
    with prepared("--engine=null", "--scenarios=Offline", "--offline_expected_qps=1000") as recipe:
        figures = [
            *(_rate(recipe, f"batch {size}", size, 2, SAMPLES, pairs) for size in BATCH_SIZES),
            *(_rate(recipe, f"{count} instances", 64, count, SAMPLES, pairs) for count in INSTANCES),
            *(_rate(recipe, f"{count:,} pending", 64, 2, count, pairs) for count in PENDING),
        ]
        pending = [_memory(recipe, f"{count:,} pending", _pending(count), pairs) for count in PENDING]
    with prepared(
        "--engine=fixed_delay",
        f"--fixed_delay_us={DELAY_US}",
        "--scenarios=SingleStream",
        f"--single_stream_expected_latency_ns={DELAY_US * 1000}",
    ) as recipe:
        lasting = [_memory(recipe, f"{seconds} s", {"min_duration": seconds * 1000}, pairs) for seconds in LENGTHS_S]
    return [*figures, *pending, _growth(pending), *lasting, _growth(lasting)]


def _pending(samples: int) -> dict[str, float]:
    """Return LoadGen's settings of an Offline test with so many samples, whatever time they take."""
    return {"min_duration": 1, "min_query_count": samples, "target_qps": 1}


def _rate(recipe: Recipe, title: str, batch_size: int, instances: int, samples: int, pairs: int) -> Figure:
    settings = _pending(samples)

    def ours() -> float:
        log = recipe.run(settings, batch_size=batch_size, instances=instances)
        return float(log["result_samples_per_second"])

    def peer() -> float:
        with product.scratch() as folder:
            product.run(
                [*product.bare_null_sut(recipe.config, folder, **settings)[:-2], str(batch_size), str(instances)]
            )
            return float(read_log(folder)["result_samples_per_second"])

    taken = interleaved(title, pairs, {"engineroom": ours, PEER: peer})
    return Figure(f"rate, Offline, {title}", "samples/s", taken["engineroom"], taken[PEER], PEER, Comparison.RATIO)


def _memory(recipe: Recipe, title: str, settings: dict[str, float], pairs: int) -> Figure:
    def peak_mb(command: Callable[[], list[str]]) -> float:
        return product.peak_rss_bytes(command()) / MB

    with product.scratch() as folder:
        take = {
            "engineroom": partial(peak_mb, partial(recipe.command, settings)),
            PEER: partial(peak_mb, partial(product.bare_null_sut, recipe.config, folder, **settings)),
        }
        taken = interleaved(f"memory, {title}", pairs, take)
    name = f"peak memory, {recipe.config.scenario}, {title}"
    return Figure(name, "MB", taken["engineroom"], taken[PEER], PEER, Comparison.DIFFERENCE)


def _growth(figures: Sequence[Figure]) -> Figure:
    """Return what the longest test takes more than the shortest, ours beside the peer's."""
    short, long = figures[0], figures[-1]
    ours, peer = (
        tuple(after - before for before, after in zip(*values, strict=True))
        for values in ((short.ours, long.ours), (short.peer, long.peer))
    )
    name = f"{long.name}, less that of {short.name.rpartition(', ')[2]}"
    return Figure(name, "MB", ours, peer, PEER, Comparison.DIFFERENCE, FLAT_MB)
