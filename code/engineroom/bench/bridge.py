"""What the way into Python costs: a callable that does nothing, and ONNX Runtime, each beside the same without it.

The bare loop of ONNX Runtime is this file as a program, in a process of its own:
`python -m engineroom.bench.bridge HARNESS_JSON BATCH_SIZE SECONDS`.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from engineroom import runs
from engineroom.bench import product
from engineroom.bench.figures import Comparison, Figure, interleaved
from engineroom.bench.recipe import Recipe, prepared
from engineroom.paths import VENV

BATCH_SIZES = (1, 64, 1024)
# Batches of one test, which then takes about a second.
BATCHES_OF_NOTHING = {1: 100_000, 64: 20_000, 1024: 3000}
BATCHES = {1: 3000, 64: 150, 1024: 10}
LIMIT_US = 30.0
# An engine of an overlay. It answers with arrays that are there already.
NOTHING = """
import numpy as np

def open_session(options, inputs, outputs):
    answers = {n: [np.zeros((n, *o["shape"]), o["dtype"]) for o in outputs] for n in range(1, 1025)}
    return lambda arrays: answers[len(arrays[0])]

ENGINE = None
"""
SECONDS = 1.0


def measure(pairs: int) -> list[Figure]:
    """Return microseconds per batch, Offline, with one instance: what LoadGen and the gathering take is in all but one.

    The bare loop of ONNX Runtime calls it with one batch that lies ready.
    """
    return [*_nothing(pairs), *_onnxruntime(pairs)]


def _nothing(pairs: int) -> list[Figure]:
    with prepared("--engine=null", *_FLAGS) as recipe:
        (recipe.folder / "engines").mkdir()
        (recipe.folder / "engines" / "nothing.py").write_text(NOTHING, encoding="utf-8")
        figures = []
        for size in BATCH_SIZES:
            names = ("nothing", "null")
            take = {
                name: partial(_batch_us, recipe, size, BATCHES_OF_NOTHING, engine={"name": name, "options": {}})
                for name in names
            }
            taken = interleaved(f"bridge, batch {size}", pairs, take)
            title = f"a callable that does nothing, batch {size}"
            figures.append(_figure(title, taken["nothing"], taken["null"], "null engine", LIMIT_US))
    return figures


def _onnxruntime(pairs: int) -> list[Figure]:
    with prepared("--engine=onnxruntime", "--precision=fp32", "--threads_per_instance=1", *_FLAGS) as recipe:
        figures = []
        for size in BATCH_SIZES:
            take = {"engineroom": partial(_batch_us, recipe, size, BATCHES), "loop": partial(_loop_us, recipe, size)}
            taken = interleaved(f"onnxruntime, batch {size}", pairs, take)
            name = f"onnxruntime, digits fp32, batch {size}"
            figures.append(_figure(name, taken["engineroom"], taken["loop"], "bare loop", None))
    return figures


# So that the run which only makes the recipe needs no probe.
_FLAGS = ("--scenarios=Offline", "--offline_expected_qps=1000")


def _figure(name: str, ours: tuple[float, ...], peer: tuple[float, ...], beside: str, limit: float | None) -> Figure:
    return Figure(name, "us/batch", ours, peer, beside, Comparison.DIFFERENCE, limit)


def _batch_us(recipe: Recipe, batch_size: int, batches: Mapping[int, int], **changes: Any) -> float:
    samples = batches[batch_size] * batch_size
    settings = {"min_duration": 1, "min_query_count": samples, "target_qps": 1}
    log = recipe.run(settings, batch_size=batch_size, instances=1, **changes)
    return batch_size * 1e6 / float(log["result_samples_per_second"])


def _loop_us(recipe: Recipe, batch_size: int) -> float:
    recipe.command({})
    harness = recipe.folder / runs.RECIPE / "harness.json"
    command = [str(VENV / "bin" / "python"), "-m", "engineroom.bench.bridge", str(harness), str(batch_size)]
    return float(product.run([*command, str(SECONDS)]).splitlines()[-1])


def main(harness: str, batch_size: str, seconds: str) -> None:
    """Print the microseconds that ONNX Runtime takes for a batch of the recipe's first samples."""
    import numpy as np
    import onnxruntime

    recipe = json.loads(Path(harness).read_text(encoding="utf-8"))
    options, (tensor,) = recipe["engine"]["options"], recipe["inputs"]
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = int(options["intra_op_num_threads"])
    settings.inter_op_num_threads = int(options["inter_op_num_threads"])
    session = onnxruntime.InferenceSession(options["model"], settings, providers=["CPUExecutionProvider"])
    samples = np.load(tensor["path"], mmap_mode="r")
    batch = {tensor["name"]: samples[np.arange(int(batch_size)) % len(samples)]}
    outputs = [output["name"] for output in recipe["outputs"]]
    for _ in range(5):
        session.run(outputs, batch)
    count, begin = 0, time.perf_counter()
    while (passed := time.perf_counter() - begin) < float(seconds):
        session.run(outputs, batch)
        count += 1
    print(passed * 1e6 / count)


if __name__ == "__main__":
    main(*sys.argv[1:])
