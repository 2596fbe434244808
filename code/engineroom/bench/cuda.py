"""What the harness costs on a GPU: the cuda_null engine under LoadGen, beside a bare loop of the same CUDA calls."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from engineroom import systems
from engineroom.bench import product
from engineroom.bench.figures import Comparison, Figure, interleaved
from engineroom.bench.recipe import Recipe, prepared
from engineroom.errors import EngineError
from engineroom.paths import NATIVE
from engineroom.steps import native
from engineroom.terms import Scenario

if TYPE_CHECKING:
    from collections.abc import Mapping

PROGRAM = "cuda_loop"
PEER = "bare CUDA"
SECONDS = 1.0
SHAPE = (3, 224, 224)  # of ResNet-50's samples
IMAGES = 512
COPIED = ((64, "float32"), (256, "uint8"))  # batch sizes and types: 38.5 MB each
SMALL_BATCHES = (1, 8, 64)
OUT_BYTES = 40  # digits answers with 10 floats
GRAPHS = (1, 2, 4, 8, 16, 32, 64)
SERVER_QPS = 20_000
OVERHEAD_US = 15.0
COPY_RATIO = 0.9


def measure(pairs: int) -> list[Figure]:
    """Return GB/s of large batches, microseconds per small batch, and Server's latency with graphs.

    Raises EngineError where there is no GPU.
    """
    if not (machine := systems.detect()).cuda_gpus:
        raise EngineError(f"cannot be measured without an NVIDIA GPU: {machine.gpu_trouble or 'none is here'}")
    native.build_program(PROGRAM)
    with prepared("--engine=null", "--scenarios=Offline", "--offline_expected_qps=1000") as recipe:
        figures = [_copies(recipe, size, dtype, pairs) for size, dtype in COPIED]
        figures += [_batches(recipe, size, pairs) for size in SMALL_BATCHES]
    with prepared("--engine=null", "--scenarios=Server", f"--server_target_qps={SERVER_QPS}") as recipe:
        return [*figures, _server(recipe, pairs)]


def engine(**options: object) -> dict[str, object]:
    """Return the engine of a recipe: cuda_null on the first GPU."""
    return {"name": "cuda_null", "options": {name: str(value) for name, value in options.items()}}


def _copies(recipe: Recipe, batch_size: int, dtype: str, pairs: int) -> Figure:
    import numpy as np

    path = recipe.folder / f"images-{dtype}.npy"
    np.save(path, np.ones((IMAGES, *SHAPE), dtype))
    sample_bytes = np.dtype(dtype).itemsize * SHAPE[0] * SHAPE[1] * SHAPE[2]
    take = {
        "engineroom": partial(_ours_gbps, recipe, path, batch_size, dtype, sample_bytes),
        PEER: partial(_loop, "copy", batch_size * sample_bytes),
    }
    taken = interleaved(f"copies, {dtype}", pairs, take)
    name = f"cuda_null, to the GPU, batches of {batch_size} {dtype} images"
    return Figure(name, "GB/s", taken["engineroom"], taken[PEER], PEER, Comparison.RATIO, COPY_RATIO)


def _ours_gbps(recipe: Recipe, path: Path, batch_size: int, dtype: str, sample_bytes: int) -> float:
    inputs = [{"name": "image", "dtype": dtype, "shape": list(SHAPE), "path": str(path)}]
    samples = 400 * batch_size  # some 15 GB
    log = recipe.run(
        {"min_duration": 1, "min_query_count": samples, "target_qps": 1},
        inputs=inputs,
        engine=engine(copy_streams=3),
        instances=1,
        batch_size=batch_size,
        total_sample_count=IMAGES,
        performance_sample_count=IMAGES,
    )
    return float(log["result_samples_per_second"]) * sample_bytes / 1e9


def _batches(recipe: Recipe, batch_size: int, pairs: int) -> Figure:
    (tensor,) = recipe.harness()["inputs"]
    in_bytes = 4 * tensor["shape"][0] * (tensor["shape"][1] if len(tensor["shape"]) > 1 else 1)
    take = {
        "engineroom": partial(_ours_us, recipe, batch_size),
        PEER: partial(_loop, "batch", batch_size, in_bytes, OUT_BYTES),
    }
    taken = interleaved(f"batches of {batch_size}", pairs, take)
    name = f"cuda_null, batch {batch_size}, one in flight"
    return Figure(name, "us/batch", taken["engineroom"], taken[PEER], PEER, Comparison.DIFFERENCE, OVERHEAD_US)


def _ours_us(recipe: Recipe, batch_size: int) -> float:
    settings = {"min_duration": 1, "min_query_count": 20_000 * batch_size, "target_qps": 1}
    options = engine(copy_streams=1, wait="spin", graph_batch_sizes=batch_size)
    log = recipe.run(settings, engine=options, instances=1, batch_size=batch_size)
    return batch_size * 1e6 / float(log["result_samples_per_second"])


def _server(recipe: Recipe, pairs: int) -> Figure:
    taken = interleaved("Server with graphs", pairs, {"engineroom": partial(server_latency_us, recipe, SERVER_QPS)})
    return Figure(f"cuda_null, Server at {SERVER_QPS:,} queries/s, graphs, p99", "us", taken["engineroom"])


def server_latency_us(recipe: Recipe, qps: float) -> float:
    """Return the latency of the 99th percentile with graphs of batches of 1 to 64. Raises EngineError if not VALID."""
    settings = {"min_duration": 1000, "target_qps": qps, "target_latency": 100}
    options = engine(copy_streams=2, graph_batch_sizes=",".join(map(str, GRAPHS)))
    log: Mapping[str, object] = recipe.run(settings, engine=options, instances=1, batch_size=GRAPHS[-1])
    if log["result_validity"] != "VALID":
        raise EngineError(f"{Scenario.SERVER} at {qps:,.0f} queries/s is not VALID")
    return float(str(log["result_99.00_percentile_latency_ns"])) / 1000


def _loop(*words: object) -> float:
    return float(product.run([str(NATIVE / PROGRAM), *map(str, words), str(SECONDS)]))
