"""What the float model answers to each sample: the right answers where labels mean nothing.

Labels mean nothing to synthetic weights, nor on drawn images; whether an engine computes what the model says is then
what can be told, sample by sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Unpack

from engineroom import asking, registry
from engineroom.artifacts import Artifact, Switches
from engineroom.asking import LABELS, read
from engineroom.benchmarks import JUDGES, Benchmark, Part
from engineroom.config import RunConfig
from engineroom.engines import BuildRequest, Engine
from engineroom.terms import Precision, TensorSpec

__all__ = ["LABELS", "answers", "asked_bytes", "asked_of", "read"]


def asked_of(benchmark: Benchmark) -> Path:
    """Return the model that is asked: the float twin where there is one, else the benchmark's own."""
    return benchmark.twin.path if benchmark.made_model and benchmark.twin else benchmark.model_file()[0]


def asked_bytes(benchmark: Benchmark) -> int:
    """Return the size of that model's file; while it is not here what is known of it, 0 if nothing is."""
    asked, twin = asked_of(benchmark), benchmark.twin
    if twin is None or asked != twin.path:
        return benchmark.model_bytes
    return asked.stat().st_size if asked.is_file() else twin.bytes


def answers(
    benchmark: Benchmark, config: RunConfig, model_sha256: str, samples: Artifact, **switches: Unpack[Switches]
) -> Artifact:
    """Return the answers of `asked_of` to the preprocessed evaluation samples. `config` says how many threads."""
    model = asked_of(benchmark)
    engine: Engine = registry.get("engines", JUDGES[model.suffix].engine).load().ENGINE
    own = model == benchmark.model_file()[0]
    request = BuildRequest(
        engine=engine.name,
        model=str(model),
        model_sha256=model_sha256,
        precision=benchmark.precisions[0] if own and benchmark.came_quantized else Precision.FP32,
        batch_size=asking.BATCH_SIZE,
        inputs=benchmark.inputs if own else _as_float(benchmark.inputs),
        outputs=benchmark.outputs if own else _as_float(benchmark.outputs),
        settings=engine.settings_of(config),
    )
    count, what = benchmark.sample_count(Part.EVALUATION), f"the float model of {benchmark.name}"
    return asking.answers(benchmark, request, samples, count, what, **switches)


def _as_float(specs: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
    return tuple(replace(spec, dtype="float32") for spec in specs)
