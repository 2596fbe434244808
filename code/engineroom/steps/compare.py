"""Holds an engine's outputs against those of the float model, sample by sample, apart from the harness and LoadGen."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import msgspec

from engineroom import asking, registry, terminal
from engineroom.artifacts import Artifact
from engineroom.benchmarks import JUDGES, Benchmark
from engineroom.config import RunConfig
from engineroom.engines import Engine, placed
from engineroom.errors import RequestError
from engineroom.paths import BUILD, write_text
from engineroom.terms import ExecutionProvider, TensorSpec

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Arrays = Sequence[npt.NDArray[np.generic]]

REPORT = BUILD / "report"
WORST = 5  # samples that are named


class Sample(msgspec.Struct, frozen=True):
    """How one sample's outputs differ. `relative_error`: to the largest magnitude of the float model's output.

    The errors are None where an output is no float. The answers are classes; -1 for an output that names none.
    """

    index: int
    answer: int
    float_answer: int
    max_error: float | None
    relative_error: float | None

    @property
    def agrees(self) -> bool:
        """Whether both name the same class."""
        return self.answer == self.float_answer >= 0


class Comparison(msgspec.Struct, frozen=True):
    """An engine beside the float model. `reference` is what ran that. The worst samples come first."""

    benchmark: str
    dataset: str
    scenario: str
    engine: str
    precision: str
    batch_size: int
    reference: str
    samples: int
    agreement: float  # in %
    max_error: float | None
    relative_error: float | None
    worst: tuple[Sample, ...]
    engine_folder: str

    @property
    def kept_at(self) -> Path:
        """Where the last one of this kind is kept."""
        return REPORT / f"compare-{self.benchmark}-{self.scenario}-{self.engine}-{self.precision}.json"


def compare(
    benchmark: Benchmark,
    config: RunConfig,
    engine: Artifact,
    options: dict[str, str],
    samples: Artifact,
    indices: Sequence[int],
) -> Comparison:
    """Return how the engine, which has these options, answers the samples of these indices; keep it.

    Raises RequestError for an engine that does not run the model, EngineError if one of the two fails.
    """
    import numpy as np

    plugin: Engine = registry.get("engines", config.engine).load().ENGINE
    if not plugin.measures_model:
        raise RequestError(f"the engine {plugin.name} answers without running the model", where="engine")
    arrays = [np.load(samples.file(f"{spec.name}.npy"), mmap_mode="r")[list(indices)] for spec in benchmark.inputs]
    title = f"compare {benchmark.name} {config.scenario}, {config.engine} {config.precision}"
    with terminal.progress(title, 1), TemporaryDirectory(prefix="engineroom-compare-") as scratch:
        wanted = _reference(benchmark, config, Path(scratch))(arrays)
        infer = plugin.session(options, _plain(benchmark.inputs), _plain(benchmark.outputs))
        found = _in_batches(infer, arrays, config.batch_size)
    told = sorted(_samples(benchmark, indices, found, wanted), key=_badness, reverse=True)
    comparison = Comparison(
        benchmark=benchmark.name,
        dataset=benchmark.dataset,
        scenario=config.scenario,
        engine=config.engine,
        precision=config.precision,
        batch_size=config.batch_size,
        reference=f"{JUDGES[asking.asked_of(benchmark).suffix].title} fp32",
        samples=len(told),
        agreement=100 * sum(each.agrees for each in told) / len(told),
        max_error=max((each.max_error for each in told if each.max_error is not None), default=None),
        relative_error=max((each.relative_error for each in told if each.relative_error is not None), default=None),
        worst=tuple(told[:WORST]),
        engine_folder=str(engine.folder),
    )
    write_text(comparison.kept_at, msgspec.json.format(msgspec.json.encode(comparison), indent=1).decode() + "\n")
    return comparison


def _reference(benchmark: Benchmark, config: RunConfig, folder: Path) -> Callable[[Arrays], Arrays]:
    """Return what runs the float model on the CPU, on samples as the benchmark has them."""
    asked = asking.float_request(benchmark)
    plugin: Engine = registry.get("engines", asked.engine).load().ENGINE
    plugin.check_installed()
    alone = {"execution_provider": ExecutionProvider.CPU, "torch_compile": False}
    settings = plugin.settings_of(msgspec.structs.replace(config, **alone))
    options = placed(plugin.build(msgspec.structs.replace(asked, settings=settings), folder), folder)
    infer = plugin.session(options, _plain(asked.inputs), _plain(asked.outputs))

    def answers(arrays: Arrays) -> Arrays:
        given = [
            array if array.dtype == spec.dtype else benchmark.float_input(array)
            for array, spec in zip(arrays, asked.inputs, strict=True)
        ]
        return _in_batches(infer, given, 32)

    return answers


def _in_batches(infer: Callable[[Any], Any], arrays: Arrays, batch_size: int) -> Arrays:
    import numpy as np

    starts = range(0, len(arrays[0]), batch_size)
    batches = (tuple(np.ascontiguousarray(array[start : start + batch_size]) for array in arrays) for start in starts)
    results = [infer(batch) for batch in batches]
    return [np.concatenate(parts) for parts in zip(*results, strict=True)]


def _samples(benchmark: Benchmark, indices: Sequence[int], found: Arrays, wanted: Arrays) -> Iterator[Sample]:
    for place, index in enumerate(indices):
        errors = [_errors(ours[place], theirs[place]) for ours, theirs in zip(found, wanted, strict=True)]
        known = [each for each in errors if each is not None]
        yield Sample(
            index=index,
            answer=_answer(benchmark, found[0][place : place + 1]),
            float_answer=_answer(benchmark, wanted[0][place : place + 1]),
            max_error=max((largest for largest, _ in known), default=None),
            relative_error=max((relative for _, relative in known), default=None),
        )


def _errors(ours: npt.NDArray[np.generic], theirs: npt.NDArray[np.generic]) -> tuple[float, float] | None:
    """Return the largest difference, and that in terms of the largest magnitude; None for what is no float."""
    import numpy as np

    if ours.dtype.kind != "f" or theirs.dtype.kind != "f":
        return None
    difference = np.abs(ours.astype(np.float64) - theirs.astype(np.float64))
    largest = float(np.nan_to_num(difference, nan=np.inf).max(initial=0.0))
    scale = float(np.abs(theirs.astype(np.float64)).max(initial=0.0))
    return largest, largest / scale if scale else (0.0 if not largest else float("inf"))


def _answer(benchmark: Benchmark, output: npt.NDArray[np.generic]) -> int:
    try:
        return benchmark.classes_of(output)[0]
    except ValueError:  # it is not finite, or names a class that there is not
        return -1


def _badness(sample: Sample) -> tuple[bool, float]:
    return not sample.agrees, sample.relative_error or 0.0


def _plain(specs: Sequence[TensorSpec]) -> Any:
    return msgspec.to_builtins(specs)
