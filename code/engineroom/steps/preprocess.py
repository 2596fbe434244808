"""Writes the samples of a benchmark as memory-mappable .npy files, one per input, keyed by what they were made from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Unpack

from engineroom import datasets, registry, terminal
from engineroom.artifacts import Artifact, Switches, obtain
from engineroom.benchmarks import Benchmark, Part
from engineroom.errors import EngineError
from engineroom.paths import PREPROCESSED_DATA, sha256_files, sha256_text


def preprocess(benchmark: Benchmark, part: Part, data: Mapping[Path, str], **switches: Unpack[Switches]) -> Artifact:
    """Return the samples of `part`: `<input>.npy` of [samples, *shape]. `data` are the checked raw files."""
    return obtain(
        PREPROCESSED_DATA / benchmark.dataset / benchmark.name / part.value,
        inputs_of(benchmark, part, data),
        lambda folder: _make(benchmark, part, folder),
        what=f"the preprocessed {part} data of {benchmark.name}",
        **switches,
    )


def inputs_of(benchmark: Benchmark, part: Part, data: Mapping[Path, str]) -> dict[str, str]:
    """Return everything the samples of `part`, and their labels and score, depend on."""
    return {
        "data": sha256_text(" ".join(data.values())),
        "maps": sha256_files(sorted(datasets.folder_of(benchmark.dataset).glob("*.txt"))),
        "code": sha256_files((registry.get("benchmarks", benchmark.name).path, Path(datasets.__file__))),
        "part": part.value,
    }


def _make(benchmark: Benchmark, part: Part, folder: Path) -> dict[str, Any]:
    import numpy as np

    with terminal.progress(f"preprocess {benchmark.dataset}, {part}", 1) as update:
        arrays = benchmark.preprocess(part, terminal.counting(update))
    count = benchmark.sample_count(part)
    for spec in benchmark.inputs:
        if spec.name not in arrays:
            raise EngineError(f"input {spec.name} was not made", where=f"benchmark {benchmark.name}")
        array = np.ascontiguousarray(arrays[spec.name])
        if array.shape != (count, *spec.shape) or array.dtype.name != spec.dtype:
            raise EngineError(
                f"input {spec.name} came out as {array.dtype.name} {array.shape}, "
                f"must be {spec.dtype} {(count, *spec.shape)}",
                where=f"benchmark {benchmark.name}",
            )
        np.save(folder / f"{spec.name}.npy", array, allow_pickle=False)
    return {"samples": count}
