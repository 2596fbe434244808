"""Gathering batches: how fast samples in LoadGen's order are copied together, and what that adds to a busy engine."""

from __future__ import annotations

import random
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from engineroom.bench.figures import Comparison, Figure, interleaved
from engineroom.bench.recipe import Recipe, prepared

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

SHAPE = (3, 224, 224)  # of ResNet-50's samples, in float32
SAMPLES = 256  # 154 MB: more than caches hold
BATCH_SIZE = 64
ISSUED = 4096
DELAY_MS = 50
PEER = "memcpy"


def measure(pairs: int) -> list[Figure]:
    """Return GB/s of the null engine's batches, beside copying as many samples in random order in as many threads.

    Then the milliseconds per batch of two instances that take 50 ms each, beside half of that.
    """
    import numpy as np

    with prepared("--engine=null", "--scenarios=Offline", "--offline_expected_qps=1000") as recipe:
        path = recipe.folder / "images.npy"
        np.save(path, np.random.default_rng(1).random((SAMPLES, *SHAPE), np.float32))
        return [*(_speed(recipe, path, threads, pairs) for threads in (1, 2)), _overlap(recipe, path, pairs)]


def _speed(recipe: Recipe, path: Path, threads: int, pairs: int) -> Figure:
    import numpy as np

    images: npt.NDArray[np.float32] = np.load(path)
    take = {"engineroom": partial(_ours, recipe, path, threads), PEER: partial(_memcpy, images, threads)}
    taken = interleaved(f"gather, {threads} threads", pairs, take)
    name = f"gather, {threads} instance{'s'[: threads - 1]}"
    return Figure(name, "GB/s", taken["engineroom"], taken[PEER], PEER, Comparison.RATIO)


def _ours(recipe: Recipe, path: Path, instances: int) -> float:
    return _rate(recipe, path, instances) * images_bytes() / 1e9


def images_bytes() -> int:
    """Return the size of a sample."""
    return 4 * SHAPE[0] * SHAPE[1] * SHAPE[2]


def _memcpy(images: npt.NDArray[np.float32], threads: int) -> float:
    """Copy samples into batches, in each thread its own; NumPy lets go of the interpreter meanwhile."""
    import numpy as np

    order = random.Random(1).choices(range(SAMPLES), k=ISSUED)

    def copy(mine: list[int], batch: npt.NDArray[np.float32]) -> None:
        for place, index in enumerate(mine):
            np.copyto(batch[place % BATCH_SIZE], images[index])

    batches = [np.zeros((BATCH_SIZE, *SHAPE), np.float32) for _ in range(threads)]
    with ThreadPoolExecutor(threads) as pool:
        begin = time.perf_counter()
        list(pool.map(copy, [order[first::threads] for first in range(threads)], batches))
        return ISSUED * images_bytes() / 1e9 / (time.perf_counter() - begin)


def _overlap(recipe: Recipe, path: Path, pairs: int) -> Figure:
    engine = {"name": "fixed_delay", "options": {"delay_us": str(DELAY_MS * 1000)}}

    def batch_ms() -> float:
        return BATCH_SIZE * 1e3 / _rate(recipe, path, 2, engine=engine)

    taken = interleaved("gather beside inference", pairs, {"engineroom": batch_ms})
    half = tuple(DELAY_MS / 2 for _ in taken["engineroom"])
    name = f"2 instances of {DELAY_MS} ms, with gathering"
    return Figure(name, "ms/batch", taken["engineroom"], half, "without", Comparison.DIFFERENCE)


def _rate(recipe: Recipe, path: Path, instances: int, **changes: object) -> float:
    """Return LoadGen's samples per second."""
    inputs = [{"name": "image", "dtype": "float32", "shape": list(SHAPE), "path": str(path)}]
    counts = {"total_sample_count": SAMPLES, "performance_sample_count": SAMPLES}
    settings = {"min_duration": 1, "min_query_count": ISSUED, "target_qps": 1}
    log = recipe.run(settings, inputs=inputs, instances=instances, batch_size=BATCH_SIZE, **counts, **changes)
    return float(log["result_samples_per_second"])
