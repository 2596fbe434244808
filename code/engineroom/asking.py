"""Asks a model for its answers to a benchmark's samples, without LoadGen, and keeps them: each is asked once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Unpack

import msgspec

from engineroom import registry, terminal, versions
from engineroom.artifacts import Artifact, Switches, obtain
from engineroom.benchmarks import JUDGES, Benchmark
from engineroom.engines import BuildRequest, Engine, placed
from engineroom.errors import EngineError
from engineroom.paths import PREPROCESSED_DATA, display, sha256_files
from engineroom.terms import Precision, TensorSpec

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

LABELS = "labels.txt"  # one class a line, in the order of the samples
BATCH_SIZE = 32


def answers(
    benchmark: Benchmark, request: BuildRequest, samples: Artifact, count: int, what: str, **switches: Unpack[Switches]
) -> Artifact:
    """Return what the model of `request`, called `what`, answers to the first `count` of the evaluation samples.

    A model whose input is float where the benchmark's is not gets the values that the samples stand for.
    """
    plugin = registry.get("engines", request.engine)
    engine: Engine = plugin.load().ENGINE
    engine.check_installed()
    inputs = {
        "model": request.model_sha256,
        "samples": samples.key,
        "count": str(count),
        **versions.of_distributions(engine.distributions),
        "code": sha256_files((plugin.path, *engine.sources, Path(__file__))),
    }
    return obtain(
        PREPROCESSED_DATA / benchmark.dataset / benchmark.name / "answers",
        inputs,
        lambda folder: _make(benchmark, request, samples, count, what, folder),
        what=f"the answers of {what}",
        **switches,
    )


def asked_of(benchmark: Benchmark) -> Path:
    """Return the model that is asked: the float twin where there is one, else the benchmark's own."""
    return benchmark.twin.path if benchmark.made_model and benchmark.twin else benchmark.model_file()[0]


def float_request(benchmark: Benchmark, model_sha256: str = "") -> BuildRequest:
    """Return what the engine that can run the model of `asked_of` is to build; its settings are still empty."""
    model = asked_of(benchmark)
    own = model == benchmark.model_file()[0]
    return BuildRequest(
        engine=JUDGES[model.suffix].engine,
        model=str(model),
        model_sha256=model_sha256,
        precision=benchmark.precisions[0] if own and benchmark.came_quantized else Precision.FP32,
        batch_size=BATCH_SIZE,
        inputs=benchmark.inputs if own else _as_float(benchmark.inputs),
        outputs=benchmark.outputs if own else _as_float(benchmark.outputs),
        settings={},
    )


def _as_float(specs: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
    return tuple(replace(spec, dtype="float32") for spec in specs)


def read(path: Path) -> list[int]:
    """Return the answers of a file LABELS."""
    return [int(line) for line in path.read_text(encoding="ascii").split()]


def _make(
    benchmark: Benchmark, request: BuildRequest, samples: Artifact, count: int, what: str, folder: Path
) -> dict[str, Any]:
    import numpy as np

    module = registry.get("engines", request.engine).load()
    arrays = [np.load(samples.file(f"{spec.name}.npy"), mmap_mode="r")[:count] for spec in benchmark.inputs]
    wanted = [spec.dtype for spec in request.inputs]
    labels: list[int] = []
    with TemporaryDirectory(prefix="engineroom-answers-") as scratch, terminal.progress(f"ask {what}", 1) as update:
        options = placed(module.ENGINE.build(request, Path(scratch)), Path(scratch))
        infer = module.open_session(options, msgspec.to_builtins(request.inputs), msgspec.to_builtins(request.outputs))
        show = terminal.counting(update)
        for first in range(0, count, BATCH_SIZE):
            batch = (np.ascontiguousarray(array[first : first + BATCH_SIZE]) for array in arrays)
            given = tuple(_as(benchmark, array, dtype) for array, dtype in zip(batch, wanted, strict=True))
            try:
                labels += benchmark.classes_of(infer(given)[0])
            except ValueError as error:
                where = f"{display(Path(request.model))}, samples {first} to {first + len(given[0]) - 1}"
                raise EngineError(f"an answer of {what} {error}", where=where) from None
            show(len(labels), count)
    (folder / LABELS).write_text("".join(f"{label}\n" for label in labels), encoding="ascii")
    return {"samples": len(labels)}


def _as(benchmark: Benchmark, array: npt.NDArray[np.generic], dtype: str) -> npt.NDArray[np.generic]:
    return array if array.dtype == dtype else benchmark.float_input(array)
