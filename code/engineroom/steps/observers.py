"""Measures what int8 costs: how each quantized model of a benchmark answers beside the float model, in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Unpack

import msgspec

from engineroom import asking, registry, versions
from engineroom.artifacts import Artifact, Switches
from engineroom.benchmarks import AGREEMENT, Benchmark
from engineroom.config import RunConfig
from engineroom.engines import BuildRequest, Engine
from engineroom.paths import CALIBRATION, write_text
from engineroom.terms import Precision

ENGINE = "onnxruntime"


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


class Comparison(msgspec.Struct, frozen=True):
    """The candidates of a benchmark, scored over the first `samples` of its evaluation part.

    Where labels mean nothing the float model says what is right: the accuracy is then the agreement with it.
    """

    benchmark: str
    dataset: str
    weights: str  # own, reference or synthetic
    metric: str
    samples: int
    samples_key: str
    model_sha256: str
    float_accuracy: float
    rows: tuple[Row, ...]
    libraries: dict[str, str]
    notes: tuple[str, ...]

    @property
    def kept_at(self) -> Path:
        """Where the last one of a benchmark on a data set with these weights is kept: beside its calibrations."""
        return CALIBRATION / self.benchmark / f"observers-{self.dataset}-{self.weights}.json"


class Questions(msgspec.Struct, frozen=True):
    """Whom the models of a comparison answer: the first `count` of the samples, by ONNX Runtime with `settings`."""

    benchmark: Benchmark
    samples: Artifact
    count: int
    settings: dict[str, str]
    switches: Switches

    def asked(self, name: str, model: Path, sha256: str, precision: Precision) -> list[int]:
        """Return the answers of a model. They are kept, so each model is asked once."""
        request = BuildRequest(
            engine=ENGINE,
            model=str(model),
            model_sha256=sha256,
            precision=precision,
            batch_size=asking.BATCH_SIZE,
            inputs=self.benchmark.inputs,
            outputs=self.benchmark.outputs,
            settings=self.settings,
        )
        what = f"{name} of {self.benchmark.name}"
        made = asking.answers(self.benchmark, request, self.samples, self.count, what, **self.switches)
        return asking.read(made.file(asking.LABELS))


def compare(
    benchmark: Benchmark,
    config: RunConfig,
    model_sha256: str,
    candidates: Sequence[Candidate],
    samples: Artifact,
    limit: int | None = None,
    **switches: Unpack[Switches],
) -> Comparison:
    """Return the candidates' accuracies over the first `limit` evaluation samples, by default all, and keep them.

    `config` says how many threads.
    """
    engine: Engine = registry.get("engines", ENGINE).load().ENGINE
    total = samples.facts["samples"]
    questions = Questions(benchmark, samples, min(limit or total, total), engine.settings_of(config), switches)
    said = questions.asked("the float model", benchmark.model_file()[0], model_sha256, Precision.FP32)
    right = said if benchmark.judged_by_float else list(benchmark.labels())[: questions.count]
    comparison = Comparison(
        benchmark=benchmark.name,
        dataset=benchmark.dataset,
        weights=benchmark.whose_weights,
        metric=AGREEMENT if benchmark.judged_by_float else benchmark.accuracy_metric,
        samples=questions.count,
        samples_key=samples.key,
        model_sha256=model_sha256,
        float_accuracy=_share(said, right),
        rows=tuple(_row(questions, candidate, said, right) for candidate in candidates),
        libraries=versions.of_distributions(engine.distributions),
        notes=benchmark.notes,
    )
    text = msgspec.json.format(msgspec.json.encode(comparison), indent=1).decode()
    write_text(comparison.kept_at, text + "\n")
    return comparison


def _row(questions: Questions, candidate: Candidate, said: Sequence[int], right: Sequence[int]) -> Row:
    name = f"{candidate.calibrator}'s {candidate.observer} model"
    found = questions.asked(name, candidate.model, candidate.model_sha256, Precision.INT8)
    return Row(
        calibrator=candidate.calibrator,
        observer=candidate.observer,
        calibration=candidate.calibration,
        accuracy=_share(found, right),
        lost=_share(said, right) - _share(found, right),
        agreement=_share(found, said),
        good=sum(map(int.__eq__, found, right)),
        calibration_s=candidate.calibration_s,
    )


def _share(answers: Sequence[int], right: Sequence[int]) -> float:
    return 100 * sum(map(int.__eq__, answers, right)) / len(right)
