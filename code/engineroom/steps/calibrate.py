"""Writes ONE explicitly quantized (Q/DQ) ONNX model of a benchmark, with the ranges it saw and how it was done."""

from __future__ import annotations

import json
import shlex
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

from engineroom import qdq, registry, terminal, versions
from engineroom.artifacts import Artifact, Switches, obtain
from engineroom.benchmarks import CALIBRATION_LISTS, Benchmark, Part
from engineroom.calibrators import Calibrator, Settings
from engineroom.datasets import Dataset
from engineroom.errors import RequestError
from engineroom.networks import layout
from engineroom.paths import CALIBRATION, TEMPLATES, display, sha256_file, sha256_files
from engineroom.terms import Observer

MODEL = "model.qdq.onnx"
RANGES = "ranges.json"
ACCOUNT = "calibration.md"
TEMPLATE = TEMPLATES / "calibration.md.j2"
OBSERVERS = {
    Observer.MINMAX: "all values that were seen (minmax)",
    Observer.ENTROPY: "the range that loses the least information, by Kullback-Leibler divergence (entropy)",
    Observer.PERCENTILE: "{percentile}% of the magnitudes, the others are clipped (percentile)",
}


@dataclass(frozen=True)
class _Job:
    """One calibration. `samples` are the preprocessed calibration part, the only data it may see."""

    benchmark: Benchmark
    calibrator: Calibrator
    samples: Artifact
    settings: Settings

    @property
    def part(self) -> Part:
        """The part of the data set that the samples are."""
        return Part(self.samples.inputs["part"])


def calibrate(
    benchmark: Benchmark,
    calibrator_name: str,
    model_sha256: str,
    samples: Artifact,
    settings: Settings = Settings(),  # noqa: B008  (frozen)
    **switches: Unpack[Switches],
) -> Artifact:
    """Return the quantized model. `samples` is the preprocessed calibration part, the only data it may see.

    Raises RequestError for a calibrator that is not installed, or does not have the observer.
    """
    plugin = registry.get("calibrators", calibrator_name, where="calibrator")
    calibrator: Calibrator = plugin.load().CALIBRATOR
    _check(calibrator, settings)
    job = _Job(benchmark, calibrator, samples, settings)
    inputs = {
        "model": model_sha256,
        "list": job.part.value,
        "samples": samples.key,
        "calibrator": calibrator.name,
        **settings.inputs(),
        "code": sha256_files((plugin.path, *calibrator.sources, TEMPLATE, Path(__file__))),
        **versions.of_distributions(calibrator.distributions),
    }
    return obtain(
        CALIBRATION / benchmark.name,
        inputs,
        lambda folder: _make(job, folder),
        what=f"the calibration of {benchmark.name}",
        **switches,
    )


def install(calibrator: Calibrator) -> str | None:
    """Return the command that installs what a calibrator needs, where an extra brings it."""
    return f'make install RUN_ARGS="--extra={calibrator.extra}"' if calibrator.extra else None


def _check(calibrator: Calibrator, settings: Settings) -> None:
    if absent := registry.missing(calibrator.modules):
        raise RequestError(
            f"the calibrator {calibrator.name} needs {', '.join(absent)}, not installed here",
            where="calibrator",
            mend=install(calibrator),
        )
    if settings.observer not in calibrator.observers:
        raise RequestError(
            f"the calibrator {calibrator.name} has no observer {settings.observer}",
            where="observer",
            mend=f"it has {', '.join(calibrator.observers)}",
        )


def _make(job: _Job, folder: Path) -> dict[str, Any]:
    import numpy as np

    benchmark = job.benchmark
    arrays = {spec.name: np.load(job.samples.file(f"{spec.name}.npy"), mmap_mode="r") for spec in benchmark.inputs}
    with terminal.progress(f"calibrate {benchmark.name}, {job.calibrator.name}, {job.settings.observer}", 1) as update:
        model, count, begin = benchmark.model_file()[0], terminal.counting(update), time.perf_counter()
        ranges = job.calibrator.calibrate(model, arrays, folder / MODEL, count, job.settings)
    seconds = round(time.perf_counter() - begin, 1)
    text = json.dumps({name: [low, high] for name, (low, high) in sorted(ranges.items())}, indent=1)
    (folder / RANGES).write_text(text + "\n", encoding="utf-8")
    values = {**_asked(job), **_done(folder / MODEL, ranges), "samples": _data(job)}
    (folder / ACCOUNT).write_text(_render(values), encoding="utf-8")
    layers = values["layers"]
    return {
        "tensors": len(ranges),
        "samples": values["samples"]["count"],
        "layers_int8": len(layers["int8"]),
        "layers_float": layers["float"],
        "command": values["command"],
        "seconds": seconds,
    }


def _asked(job: _Job) -> dict[str, Any]:
    """Return what the account says of the request."""
    benchmark, model = job.benchmark, job.benchmark.model_file()[0]
    found = versions.of_distributions(job.calibrator.distributions).items()
    there = [f"{name} {version}" for name, version in found if version != versions.NOT_INSTALLED]
    return {
        "benchmark": benchmark.name,
        "notes": benchmark.notes,
        "model": model.name,
        "model_files": [
            {"path": display(file), "sha256": sha256_file(file)} for file in (model, *layout.external_files(model))
        ],
        "calibrator": job.calibrator.name,
        "versions": ", ".join(there),
        "observer": OBSERVERS[job.settings.observer].format(percentile=job.settings.percentile),
        "asked": " ".join(job.settings.float_layers),
        "revision": versions.git_revision(),
        "command": _command(job),
    }


def _command(job: _Job) -> str:
    """Return the line to type that makes the same again, whatever the settings of the machine are by then."""
    benchmark, settings = job.benchmark, job.settings
    flags = {
        "benchmarks": benchmark.name,
        "dataset": benchmark.dataset,
        "weights": None if benchmark.own_model else benchmark.weights.value,
        "model_path": benchmark.own_model and str(benchmark.own_model),
        "calibrator": job.calibrator.name,
        "calibration_list": next((str(number) for number, part in CALIBRATION_LISTS.items() if part is job.part)),
        "observer": settings.observer.value,
        "observer_percentile": str(settings.percentile) if settings.observer is Observer.PERCENTILE else None,
        "float_layers": ",".join(settings.float_layers) or None,
    }
    words = shlex.join(f"--{name}={value}" for name, value in flags.items() if value)
    return f"make calibrate RUN_ARGS={shlex.quote(words)}"


def _data(job: _Job) -> dict[str, Any]:
    """Return what the account says of the samples."""
    dataset = Dataset(job.benchmark.for_calibration().dataset)
    part, parts = dataset.part(job.part), dataset.manifest.parts
    several = [number for number, each in CALIBRATION_LISTS.items() if each in parts]
    path = dataset.folder / part.map
    return {
        "count": job.samples.facts["samples"],
        "dataset": dataset.name,
        "list": display(path),
        "list_sha256": sha256_file(path),
        "about": part.about,
        "number": next((n for n in several if CALIBRATION_LISTS[n] is job.part), None) if len(several) > 1 else None,
        "files": {name: fact["sha256"] for name, fact in job.samples.files.items()},
    }


def _done(path: Path, ranges: dict[str, tuple[float, float]]) -> dict[str, Any]:
    """Return what the account says of the quantized model, read from its file."""
    graph = qdq.Graph(qdq.read_model(path))
    layers = [node for node in graph.nodes if graph.is_layer(node)]
    in_float = [node.name for node in layers if graph.made_by(node.input[1], qdq.DEQUANTIZE) is None]
    in_int8 = [node.name for node in layers if node.name not in in_float]
    return {
        "quantized": {"name": path.name, "sha256": sha256_file(path)},
        "layers": {"int8": in_int8, "float": in_float},
        "ranges_file": RANGES,
        "ranges": [
            {"name": name, "low": ranges[name][0], "high": ranges[name][1], "scale": scale}
            for name, scale in graph.activation_scales().items()
        ],
    }


def _render(values: dict[str, Any]) -> str:
    import jinja2

    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, keep_trailing_newline=True, trim_blocks=True, autoescape=False
    )
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(values)
