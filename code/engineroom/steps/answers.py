"""What the float model answers to each sample: the right answers where labels mean nothing.

Labels mean nothing to synthetic weights, nor on drawn images; whether an engine computes what the model says is then
what can be told, sample by sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Unpack

from engineroom import registry, terminal, versions
from engineroom.artifacts import Artifact, Switches, obtain
from engineroom.benchmarks import Benchmark
from engineroom.config import RunConfig
from engineroom.engines import BuildRequest, Engine, placed
from engineroom.paths import PREPROCESSED_DATA, sha256_file
from engineroom.terms import Precision

LABELS = "labels.txt"  # one class a line, in the order of the samples
ENGINES = {".onnx": "onnxruntime", ".tflite": "litert", ".pt2": "torch", ".pt": "torch"}
BATCH_SIZE = 32


def asked_of(benchmark: Benchmark) -> Path:
    """Return the model that is asked: the float twin where there is one, else the benchmark's own."""
    return benchmark.twin.path if benchmark.made_model and benchmark.twin else benchmark.model_file()[0]


def answers(
    benchmark: Benchmark, config: RunConfig, model_sha256: str, samples: Artifact, **switches: Unpack[Switches]
) -> Artifact:
    """Return the answers of `asked_of` to the preprocessed evaluation samples. `config` says how many threads."""
    plugin = registry.get("engines", ENGINES[asked_of(benchmark).suffix])
    engine: Engine = plugin.load().ENGINE
    engine.check_installed()
    inputs = {
        "model": model_sha256,
        "samples": samples.key,
        **versions.of_distributions(engine.distributions),
        "code": sha256_file(plugin.path),
    }
    return obtain(
        PREPROCESSED_DATA / benchmark.dataset / benchmark.name / "answers",
        inputs,
        lambda folder: _make(benchmark, config, plugin.load(), samples, folder),
        what=f"the answers of the float model of {benchmark.name}",
        **switches,
    )


def read(path: Path) -> list[int]:
    """Return the answers of a file that `answers` made."""
    return [int(line) for line in path.read_text(encoding="ascii").split()]


def _make(benchmark: Benchmark, config: RunConfig, module: Any, samples: Artifact, folder: Path) -> dict[str, Any]:
    import numpy as np

    model = asked_of(benchmark)
    inputs, outputs = benchmark.inputs, benchmark.outputs
    if model != benchmark.model_file()[0]:
        inputs = tuple(replace(spec, dtype="float32") for spec in inputs)
        outputs = tuple(replace(spec, dtype="float32") for spec in outputs)
    arrays = [np.load(samples.file(f"{spec.name}.npy"), mmap_mode="r") for spec in inputs]
    given = [spec.dtype for spec in benchmark.inputs]
    precision = Precision.INT8 if benchmark.came_quantized and inputs == benchmark.inputs else Precision.FP32
    labels: list[int] = []
    with TemporaryDirectory(prefix="engineroom-answers-") as scratch:
        settings = module.ENGINE.settings_of(config)
        request = BuildRequest(
            module.ENGINE.name, str(model), "", precision, BATCH_SIZE, tuple(inputs), tuple(outputs), settings
        )
        options = placed(module.ENGINE.build(request, Path(scratch)), Path(scratch))
        infer = module.open_session(options, _plain(inputs), _plain(outputs))
        with terminal.progress(f"float answers of {benchmark.name}", 1) as update:
            count = terminal.counting(update)
            for first in range(0, len(arrays[0]), BATCH_SIZE):
                batch = [np.ascontiguousarray(array[first : first + BATCH_SIZE]) for array in arrays]
                floats = tuple(
                    benchmark.float_input(array) if dtype != spec.dtype else array
                    for array, dtype, spec in zip(batch, given, inputs, strict=True)
                )
                labels += benchmark.classes_of(infer(floats)[0])
                count(len(labels), len(arrays[0]))
    (folder / LABELS).write_text("".join(f"{label}\n" for label in labels), encoding="ascii")
    return {"samples": len(labels)}


def _plain(specs: Sequence[Any]) -> list[dict[str, Any]]:
    return [{"name": spec.name, "dtype": spec.dtype, "shape": list(spec.shape)} for spec in specs]
