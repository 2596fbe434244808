"""What the float model answers to each sample: the right answers where labels mean nothing.

Labels mean nothing to synthetic weights, nor on drawn images; whether an engine computes what the model says is then
what can be told, sample by sample.
"""

from __future__ import annotations

from typing import Unpack

import msgspec

from engineroom import asking, registry
from engineroom.artifacts import Artifact, Switches
from engineroom.asking import LABELS, asked_of, read
from engineroom.benchmarks import Benchmark, Part
from engineroom.config import RunConfig
from engineroom.engines import Engine

__all__ = ["LABELS", "answers", "asked_bytes", "asked_of", "read"]


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
    request = asking.float_request(benchmark, model_sha256)
    engine: Engine = registry.get("engines", request.engine).load().ENGINE
    request = msgspec.structs.replace(request, settings=engine.settings_of(config))
    count, what = benchmark.sample_count(Part.EVALUATION), f"the float model of {benchmark.name}"
    return asking.answers(benchmark, request, samples, count, what, **switches)
