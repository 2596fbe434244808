"""The torch engine under LoadGen beside a bare loop of PyTorch: the same ResNet-50, batch, threads and precision.

The loop copies one batch, prepared before the clock starts, to the device, runs the model and fetches the classes, in
as many threads as the engine has instances. LoadGen asks for samples in random order and counts each one's completion.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from engineroom import registry, systems
from engineroom.bench import product
from engineroom.bench.figures import Comparison, Figure, interleaved
from engineroom.bench.models import RESNET50
from engineroom.bench.recipe import Recipe
from engineroom.errors import RequestError
from engineroom.paths import VENV
from engineroom.terms import Precision, Scenario

ON_CPU = (Precision.FP32, (1, 4, 16, 64))
ON_GPU = (Precision.FP16, (1, 4, 16, 64, 256, 1024))
TYPES = {"fp32": "float32", "fp16": "float16"}
LIMIT = 0.97
PEER = "bare loop"
WARM_UP = 5  # batches
BATCHES = 8  # of each instance at least: with few, those that end last count too much


def measure(pairs: int) -> list[Figure]:
    """Return the throughput at each batch size. Raises RequestError without the extra torch."""
    if registry.missing(("torch",)):
        raise RequestError("needs torch, not installed here", mend='make install RUN_ARGS="--engine=torch"')
    precision, sizes = ON_GPU if systems.detect().gpus else ON_CPU
    return [_figure(precision, size, pairs) for size in sizes]


def _figure(precision: Precision, batch_size: int, pairs: int) -> Figure:
    model = replace(RESNET50, offline=(f"--batch_size={batch_size}",))
    with model.prepared(Scenario.OFFLINE, precision, engine="torch") as recipe:
        samples = BATCHES * batch_size * recipe.config.instances
        take = {
            "engineroom": partial(replace(model, least={Scenario.OFFLINE: samples}).throughput, recipe),
            PEER: partial(_peer, recipe),
        }
        taken = interleaved(f"torch in batches of {batch_size}", pairs, take)
    name = f"Offline, torch, resnet50 {precision}, batch {batch_size}"
    return Figure(name, "samples/s", taken["engineroom"], taken[PEER], PEER, Comparison.RATIO, LIMIT)


def _peer(recipe: Recipe) -> float:
    """Return the loop's samples per second, in a process of its own."""
    harness = recipe.folder / "made" / "harness.json"
    command = [str(VENV / "bin" / "python"), "-m", "engineroom.bench.torch_loop", str(harness)]
    return float(product.run(command).splitlines()[-1])


def main(recipe: dict[str, Any]) -> None:
    """Run the loop that the recipe of a run asks for, and print its samples per second."""
    import numpy as np
    import torch

    options, batch_size, count = recipe["engine"]["options"], recipe["batch_size"], recipe["instances"]
    torch.set_num_threads(int(options["threads"]))
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    devices = [f"cuda:{device}" for device in range(torch.cuda.device_count())] or ["cpu"]
    typed = {"dtype": getattr(torch, TYPES[options["precision"]]), "memory_format": torch.channels_last}
    modules = [torch.export.load(options["model"]).module().to(device=device, **typed) for device in devices]
    samples = np.load(recipe["inputs"][0]["path"], mmap_mode="r")
    batch = torch.from_numpy(samples[np.arange(batch_size) % len(samples)])
    batch = batch if devices == ["cpu"] else batch.pin_memory()
    batches = [0] * count
    start, stop = threading.Barrier(count + 1), threading.Event()

    def loop(number: int) -> None:
        device, module = devices[number % len(devices)], modules[number % len(devices)]
        stream = None if device == "cpu" else torch.cuda.Stream(device)

        def infer() -> None:
            for result in module(batch.to(device, non_blocking=True).to(**typed)):
                result.cpu()

        with torch.inference_mode(), torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                infer()
            start.wait()
            while not stop.is_set() or batches[number] < BATCHES:
                infer()
                batches[number] += 1

    threads = [threading.Thread(target=loop, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    start.wait()
    begin = time.perf_counter()
    time.sleep(RESNET50.seconds)
    stop.set()
    for thread in threads:
        thread.join()
    print(batch_size * sum(batches) / (time.perf_counter() - begin))


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_bytes()))
