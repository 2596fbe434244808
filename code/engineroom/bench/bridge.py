"""What the way into Python costs: a callable that does nothing, and ONNX Runtime, each beside the same without it.

The bare loop of ONNX Runtime is this file as a program, in a process of its own:
`python -m engineroom.bench.bridge HARNESS_JSON BATCH_SIZE SECONDS`.
"""

from __future__ import annotations

import json
import resource
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
# An engine of an overlay. It answers with arrays that are there already, after `sleep_s`.
NOTHING = """
import time
import numpy as np

def open_session(options, inputs, outputs):
    answers = {n: [np.zeros((n, *o["shape"]), o["dtype"]) for o in outputs] for n in range(1, 1025)}
    if "sleep_s" not in options:
        return lambda arrays: answers[len(arrays[0])]
    return lambda arrays: time.sleep(float(options["sleep_s"])) or answers[len(arrays[0])]

ENGINE = None
"""
SECONDS = 1.0
SLEEP_S = 0.01
SLEEPS = (50, 350)  # batches of a short and of a long test: starting and ending one costs the same in both
IDLE_LIMIT_MS = 50.0  # of a core in a second: a thread that is busy beside the engine takes 1000


def measure(pairs: int) -> list[Figure]:
    """Return microseconds per batch, Offline, with one instance: what LoadGen and the gathering take is in all but one.

    The bare loop of ONNX Runtime calls it with one batch that lies ready. One figure is the processor time of all that
    runs beside a Python engine that does not compute: no thread may be busy there.
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
        taken = interleaved("bridge, idle", pairs, {"engineroom": partial(_idle_ms, recipe)})
    name = f"beside a callable that sleeps {SLEEP_S * 1000:g} ms a batch"
    return [*figures, Figure(name, "core ms/s", taken["engineroom"], limit=IDLE_LIMIT_MS)]


def _idle_ms(recipe: Recipe) -> float:
    """Return the processor time, in ms for each s, that a process takes whose engine only sleeps."""
    engine = {"name": "nothing", "options": {"sleep_s": str(SLEEP_S)}}
    took_s = []
    for batches in SLEEPS:
        begin_s = _children_s()
        _batch_us(recipe, 1, {1: batches}, engine=engine)
        took_s.append(_children_s() - begin_s)
    short_s, long_s = took_s
    return 1000 * (long_s - short_s) / (SLEEP_S * (SLEEPS[1] - SLEEPS[0]))


def _children_s() -> float:
    """Return the processor time of all processes that were started here and have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


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
