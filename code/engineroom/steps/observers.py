"""Measures what int8 costs: how each quantized model of a benchmark answers beside the float model, in ONNX Runtime."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import msgspec

from engineroom import registry, terminal, versions
from engineroom.artifacts import Artifact, Switches, obtain
from engineroom.benchmarks import Benchmark
from engineroom.paths import CALIBRATION, sha256_file, write_text
from engineroom.terms import ExecutionProvider

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

COMPARISON = "observers.json"
ANSWERS = "answers.json"
AGREEMENT = "agreement with the float model"
ENGINE = "onnxruntime"
BATCH_SIZE = 32


class Candidate(msgspec.Struct, frozen=True):
    """A quantized model: who chose its ranges and how, and how long that took."""

    calibrator: str
    observer: str
    calibration: str  # its key
    calibration_s: float
    model: Path
    model_sha256: str


class Row(msgspec.Struct, frozen=True):
    """What came of one candidate, in %. `lost` is the float model's accuracy less this one's."""

    calibrator: str
    observer: str
    calibration: str
    accuracy: float
    lost: float
    agreement: float  # with the float model
    good: int
    calibration_s: float
    samples_per_s: float


class Comparison(msgspec.Struct, frozen=True):
    """The candidates of a benchmark, scored over the first `samples` of its evaluation part.

    Where labels mean nothing the float model says what is right: the accuracy is then the agreement with it.
    """

    benchmark: str
    dataset: str
    weights: str
    metric: str
    samples: int
    samples_key: str
    model_sha256: str
    float_accuracy: float
    float_samples_per_s: float
    rows: tuple[Row, ...]
    libraries: dict[str, str]
    notes: tuple[str, ...]


def kept_at(benchmark: str) -> Path:
    """Return where the last comparison of a benchmark is kept: beside its calibrations."""
    return CALIBRATION / benchmark / COMPARISON


def compare(
    benchmark: Benchmark,
    model_sha256: str,
    candidates: Sequence[Candidate],
    samples: Artifact,
    limit: int | None = None,
    **switches: Unpack[Switches],
) -> Comparison:
    """Return the candidates' accuracies over the first `limit` evaluation samples, by default all, and keep them.

    What a model answered is kept too, and asked once.
    """
    total = samples.facts["samples"]
    count = min(limit or total, total)
    path = benchmark.model_file()[0]
    float_ones = _answers(benchmark, "float", path, model_sha256, samples, count, switches)
    said = _read(float_ones)
    right = said if benchmark.judged_by_float else list(benchmark.labels())[:count]
    float_accuracy = _share(said, right)

    def row(candidate: Candidate) -> Row:
        name = f"{candidate.calibrator} {candidate.observer}"
        made = _answers(benchmark, name, candidate.model, candidate.model_sha256, samples, count, switches)
        found = _read(made)
        return Row(
            calibrator=candidate.calibrator,
            observer=candidate.observer,
            calibration=candidate.calibration,
            accuracy=_share(found, right),
            lost=float_accuracy - _share(found, right),
            agreement=_share(found, said),
            good=sum(map(int.__eq__, found, right)),
            calibration_s=candidate.calibration_s,
            samples_per_s=made.facts["samples_per_s"],
        )

    comparison = Comparison(
        benchmark=benchmark.name,
        dataset=benchmark.dataset,
        weights=benchmark.weights.value,
        metric=AGREEMENT if benchmark.judged_by_float else benchmark.accuracy_metric,
        samples=count,
        samples_key=samples.key,
        model_sha256=model_sha256,
        float_accuracy=float_accuracy,
        float_samples_per_s=float_ones.facts["samples_per_s"],
        rows=tuple(map(row, candidates)),
        libraries=_libraries(),
        notes=benchmark.notes,
    )
    text = msgspec.json.format(msgspec.json.encode(comparison), indent=1).decode()
    write_text(kept_at(benchmark.name), text + "\n")
    return comparison


def _share(answers: Sequence[int], right: Sequence[int]) -> float:
    return 100 * sum(map(int.__eq__, answers, right)) / len(right)


def _libraries() -> dict[str, str]:
    return versions.of_distributions(registry.get("engines", ENGINE).load().ENGINE.distributions)


def _answers(
    benchmark: Benchmark,
    name: str,
    model: Path,
    sha256: str,
    samples: Artifact,
    count: int,
    switches: Switches,
) -> Artifact:
    """Return what a model answers to the first `count` samples."""
    plugin = registry.get("engines", ENGINE)
    code = {"code": sha256_file(plugin.path)}
    inputs = {"model": sha256, "samples": samples.key, "count": str(count), **_libraries(), **code}
    return obtain(
        CALIBRATION / benchmark.name / "answers",
        inputs,
        lambda folder: _make(benchmark, name, model, samples, count, folder),
        what=f"the answers of {benchmark.name}, {name}",
        **switches,
    )


def _read(answers: Artifact) -> list[int]:
    return msgspec.json.decode(answers.file(ANSWERS).read_bytes(), type=list[int])


def _make(
    benchmark: Benchmark, name: str, model: Path, samples: Artifact, count: int, folder: Path
) -> Mapping[str, Any]:
    specs, outputs = benchmark.inputs, benchmark.outputs[:1]
    options = {
        "model": str(model),
        "execution_provider": ExecutionProvider.CPU.value,
        "intra_op_num_threads": "0",  # as many as the library likes
        "inter_op_num_threads": "1",
    }
    module = registry.get("engines", ENGINE).load()
    infer = module.open_session(options, msgspec.to_builtins(specs), msgspec.to_builtins(outputs))
    found: list[int] = []
    begin = time.perf_counter()
    with terminal.progress(f"score {benchmark.name}, {name}", 1) as update:
        show = terminal.counting(update)
        for batch in _batches([samples.file(f"{spec.name}.npy") for spec in specs], count):
            found += benchmark.classes_of(infer(batch)[0])
            show(len(found), count)
    seconds = time.perf_counter() - begin
    (folder / ANSWERS).write_bytes(msgspec.json.encode(found) + b"\n")
    return {"samples": count, "samples_per_s": round(count / seconds, 1)}


def _batches(files: Sequence[Path], count: int) -> Iterator[tuple[npt.NDArray[np.generic], ...]]:
    import numpy as np

    arrays = [np.load(file, mmap_mode="r")[:count] for file in files]
    for first in range(0, count, BATCH_SIZE):
        yield tuple(array[first : first + BATCH_SIZE] for array in arrays)
