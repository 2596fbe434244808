"""ResNet-50 Offline beside MLCommons' reference application: the same float model, images, LoadGen settings and CPU.

The application is `vision/classification_and_detection/python/main.py` of a checkout of mlcommons/inference, as it is,
with its profile resnet50-onnxruntime: ONNX Runtime, batches of 32, a Python thread per core. It prepares the images
itself, before LoadGen's clock starts.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from engineroom import registry
from engineroom.bench import product
from engineroom.bench.figures import Comparison, Figure, interleaved
from engineroom.bench.models import RESNET50
from engineroom.benchmarks import Part
from engineroom.benchmarks.resnet50 import BENCHMARK
from engineroom.config import RunConfig
from engineroom.datasets import Dataset
from engineroom.errors import RequestError
from engineroom.paths import VENV
from engineroom.steps.harness import read_log
from engineroom.terms import Precision, Scenario

APPLICATION = Path("vision/classification_and_detection/python/main.py")
PEER = "reference application"
NEEDED = ("mlperf_loadgen", "cv2", "pycocotools")  # what it imports, whatever the benchmark
LIMITS = {Precision.FP32: 1.0, Precision.INT8: 5.0}


def measure(pairs: int, reference: str | None = None) -> list[Figure]:
    """Return our throughput in fp32 and int8, each beside the application's in fp32. Raises RequestError."""
    application = _application(reference)
    with ExitStack() as stack:
        folder = stack.enter_context(product.scratch())
        recipes = {each: stack.enter_context(RESNET50.prepared(Scenario.OFFLINE, each)) for each in LIMITS}
        take = {precision.value: partial(RESNET50.throughput, recipe) for precision, recipe in recipes.items()}
        take[PEER] = partial(_peer, application, recipes[Precision.FP32].config, folder)
        taken = interleaved(PEER, pairs, take)
    return [_figure(precision, taken[precision], taken[PEER]) for precision in LIMITS]


def _figure(precision: Precision, ours: tuple[float, ...], peer: tuple[float, ...]) -> Figure:
    name = f"Offline, openvino, resnet50 {precision}"
    return Figure(name, "samples/s", ours, peer, PEER, Comparison.RATIO, LIMITS[precision])


def _application(reference: str | None) -> Path:
    if reference is None:
        mend = "git clone --depth=1 https://github.com/mlcommons/inference ../inference, then --reference=../inference"
        raise RequestError("needs a checkout of mlcommons/inference", where="--reference", mend=mend)
    path = (Path(reference) / APPLICATION).resolve()
    if not path.is_file():
        raise RequestError(f"no {APPLICATION} there", where=f"--reference={reference}")
    if registry.missing(NEEDED):
        what = f"needs {', '.join(registry.missing(NEEDED))}, not installed here"
        raise RequestError(what, where="--reference", mend='make install RUN_ARGS="--extra=peers"')
    return path


def _peer(application: Path, config: RunConfig, folder: Path) -> float:
    """Return the application's samples per second. Images that it has prepared stay in `folder` for the next time."""
    user_conf, output = folder / "user.conf", folder / "output"
    # By name: else LoadGen's own settings of the model count.
    product.write_user_conf(user_conf, config, RESNET50.settings(config.scenario), model=RESNET50.benchmark)
    data = Dataset(config.dataset)
    product.run(
        [
            *("env", "USE_GPU=no", str(VENV / "bin" / "python"), str(application)),
            *("--profile=resnet50-onnxruntime", "--scenario=Offline", f"--threads={len(os.sched_getaffinity(0))}"),
            *(f"--model={BENCHMARK.synthetic.path}", f"--dataset-path={data.sample_folder}"),
            *(f"--dataset-list={data.map_of(Part.EVALUATION)}", f"--cache_dir={folder}"),
            *(f"--user_conf={user_conf}", f"--audit_conf={folder / 'none'}"),
            f"--output={output}",
        ]
    )
    return float(read_log(output)["result_samples_per_second"])
