"""Measurements that are taken only when asked for, with one pair and as short as they go: each figure makes sense."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from engineroom import registry
from engineroom.bench import bridge, gather, loop, models, queues, rates, scaling, server, wheel
from engineroom.bench.figures import Figure
from engineroom.bench.recipe import Recipe
from engineroom.steps.harness import Counters
from engineroom.terms import Precision, Scenario


def by_name(figures: list[Figure], pairs: int = 1) -> dict[str, Figure]:
    """Return the figures by name. Each has so many pairs of values, and no name occurs twice."""
    found = {f"{figure.name}, beside {figure.beside}": figure for figure in figures}
    assert len(found) == len(figures)
    assert all(len(figure.ours) == len(figure.peer) == pairs for figure in figures)
    return found


def test_the_peer_of_gather_copies_from_all_over_the_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gather, "SHAPE", (3, 2, 2))
    read: list[int] = []

    class Images:
        def __getitem__(self, index: int) -> npt.NDArray[np.float32]:
            read.append(index)
            return np.zeros(gather.SHAPE, np.float32)

    assert gather._memcpy(Images(), 2) > 0  # type: ignore[arg-type]
    assert len(read) == gather.ISSUED
    assert set(read) == set(range(gather.SAMPLES)), "what is read again and again would come from a cache"


@pytest.mark.heavy
def test_gather(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"SAMPLES": 16, "ISSUED": 128, "BATCH_SIZE": 8, "DELAY_MS": 20}.items():
        monkeypatch.setattr(gather, name, value)
    *speeds, overlap = gather.measure(pairs=1)
    assert len(speeds) == 2
    for speed in speeds:  # GB/s: no memory is slower, and no cache faster
        assert 0.05 < speed.ours[0] < 1000 and 0.05 < speed.peer[0] < 1000
    assert overlap.ours[0] >= 10 == overlap.peer[0], "two instances of 20 ms cannot be faster"


@pytest.mark.heavy
def test_bridge(monkeypatch: pytest.MonkeyPatch) -> None:
    short = {
        "BATCH_SIZES": (64,),
        "BATCHES_OF_NOTHING": {64: 500},
        "BATCHES": {64: 5},
        "SECONDS": 0.05,
        "SLEEPS": (5, 55),
    }
    for name, value in short.items():
        monkeypatch.setattr(bridge, name, value)
    nothing, idle, onnxruntime = bridge.measure(pairs=5)
    assert idle.limit == 50 and median(idle.ours) < 500, "a thread that is busy takes 1000 ms of a second"
    # Of tests of some ms each, the quickest of five: a stall of the machine decides a single one.
    assert nothing.limit == 30 and min(nothing.ours) > min(nothing.peer) > 0
    assert min(onnxruntime.ours + onnxruntime.peer) > 1, "no inference of 64 samples takes less than 1 us"


@pytest.mark.heavy
def test_queues(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"DELAYS_US": (100,), "SECONDS": 0.05}.items():
        monkeypatch.setattr(queues, name, value)
    figures = queues.measure(pairs=1)
    assert len(by_name(figures)) == 4
    assert all(figure.peer == (100,) and figure.ours[0] >= 100 for figure in figures)


@pytest.mark.heavy
def test_scaling(monkeypatch: pytest.MonkeyPatch) -> None:
    """The difference of two peaks is what LoadGen generates ahead, 100 bytes a sample or more, for us and for it."""
    short = {"BATCH_SIZES": (8,), "INSTANCES": (2,), "PENDING": (1000, 500_000), "SAMPLES": 10_000}
    for name, value in {**short, "LENGTHS_S": (0.2, 0.4)}.items():
        monkeypatch.setattr(scaling, name, value)
    # How far LoadGen's log thread lags behind, and so what it holds, differs from test to test by a tenth.
    figures = by_name(scaling.measure(pairs=3), pairs=3)
    growth = [figure for name, figure in figures.items() if "less that of" in name]
    assert [figure.limit for figure in figures.values() if figure not in growth] == [None] * 12
    offline, stream = growth
    assert "Offline, 500,000 pending, less that of 1,000" in offline.name and "SingleStream" in stream.name
    assert 40 < median(offline.peer) < 200
    assert offline.met and stream.met


@pytest.mark.heavy
def test_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to answer are held to the rate of one queue, which serves one by one; LoadGen keeps a core."""
    for name, value in {"SETTINGS": {"min_duration": 200}, "SERVICE_S": 0.1, "TO": 4.0}.items():
        monkeypatch.setattr(server, name, value)
    sizes: set[tuple[int, int]] = set()

    def run(recipe: Recipe, settings: Mapping[str, float]) -> dict[str, Any]:
        log = test(recipe, settings)
        with Counters(recipe.folder / "test" / "counters.bin") as counters:
            sizes.add((recipe.config.batch_size, len(counters.all()["batch_size_histogram"]) - 1))
        return log

    test = Recipe.run
    monkeypatch.setattr(Recipe, "run", run)
    loop.build()
    single, batched = server._figures(models.DIGITS, Precision.FP32, pairs=1)
    assert ("one by one" in single.name, single.limit) == (True, 0.9)
    assert ("in batches of up to 4" in batched.name, batched.limit) == (True, 0.9)
    assert single.peer == batched.peer and single.peer[0] > 100
    assert {largest for asked, largest in sizes if asked == 1} == {1}
    assert {asked for asked, _ in sizes} == {1, 4}


@pytest.mark.heavy
@pytest.mark.skipif(bool(registry.missing(("mlperf_loadgen",))), reason="needs the extra `peers`")
def test_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    """One test in Server where else a rate is searched, at a rate that both can answer."""
    settings = {scenario: {**each} for scenario, each in wheel.SETTINGS.items()}
    settings[Scenario.SINGLE_STREAM]["min_duration"] = 200
    settings[Scenario.OFFLINE]["min_query_count"] = 20_000
    monkeypatch.setattr(wheel, "SETTINGS", settings)
    for module in (rates, wheel):
        monkeypatch.setattr(module, "highest_rate", lambda valid, low: low if valid(1000) else 0)
    figures = by_name(wheel.measure(pairs=1))
    assert [figure.limit for figure in figures.values()] == [2, 4, 4, None, None]
    assert all(figure.ours[0] > 0 and figure.peer[0] > 0 for figure in figures.values())
    one_by_one = "Server, null engine, one by one, beside FastSUT of the wheel, one by one"
    assert figures[one_by_one].limit == 4, "like for like"
