"""What a benchmark is. Each file beside this one holds one, as `BENCHMARK = Name()`."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from engineroom.errors import RequestError, did_you_mean, shown
from engineroom.sources import ModelFile
from engineroom.terms import Precision, Scenario, TensorSpec, Weights

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Progress = Callable[[int, int], None]  # (done, total), called as the work proceeds


class Part(StrEnum):
    """The disjoint parts of a data set."""

    TRAINING = "training"
    CALIBRATION = "calibration"
    EVALUATION = "evaluation"


@dataclass(frozen=True)
class Accuracy:
    """A score over the evaluation part: `value` in `unit`, from `good` of `total` samples."""

    metric: str
    value: float
    unit: str
    good: int
    total: int


class Benchmark(ABC):
    """One model on one data set, with its accuracy target.

    Class attributes are facts of the benchmark; what may be tuned stands in configs/default/<name>.yaml.
    """

    name: str
    dataset: str  # folder of data_maps/
    datasets: tuple[str, ...] = ()  # on which it can run instead, its own among them
    weights: Weights = Weights.REFERENCE
    all_weights: tuple[Weights, ...] = (Weights.REFERENCE,)
    model: Path  # the float ONNX model
    model_source: ModelFile | None = None  # where it can be had; none if it is shipped
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]  # what one response holds, in this order
    scenarios: tuple[Scenario, ...]
    precisions: tuple[Precision, ...]  # best first
    mlperf: bool  # an MLPerf benchmark, or one of our own that is never submittable
    accuracy_metric: str
    reference_accuracy: float  # of the float model on the evaluation part, in the metric's unit
    settings: Mapping[
        str, Mapping[str, object]
    ] = {}  # as configs/default/<name>.yaml has them, for a benchmark without one
    accuracy_target_ratio: float  # of the reference accuracy that a run must reach

    # What preprocessing needs and depends on, beside the benchmark's own file
    modules: tuple[str, ...] = ()  # Python packages that must be installed
    extra: str | None = None  # the extra that brings them
    distributions: tuple[str, ...] = ()  # packages whose versions belong to the samples' key
    sources: tuple[Path, ...] = ()  # our own files that belong to it

    def variant(self, dataset: str, weights: Weights) -> Benchmark:
        """Return the benchmark on `dataset` ("auto": its own) with `weights`. Raises RequestError for what it has not."""
        known = self.datasets or (self.dataset,)
        name = {each.lower(): each for each in known}.get(dataset.lower(), self.dataset if dataset == "auto" else None)
        if name is None:
            mend = did_you_mean(dataset, known)
            raise RequestError(f"{self.name} has no data set {shown(dataset)}", where="dataset", mend=mend)
        if weights not in self.all_weights:
            mend = f"it has {', '.join(self.all_weights)}"
            raise RequestError(f"{self.name} has no {weights} weights", where="weights", mend=mend)
        chosen = copy.copy(self)
        chosen.dataset, chosen.weights = name, weights
        return chosen

    def make_model(self) -> None:
        """Build the model where `weights` are synthetic. Only benchmarks that have such weights are asked."""
        raise NotImplementedError

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of its results must know."""
        return ()

    @property
    def accuracy_target(self) -> float:
        """The least accuracy a run must reach, in the metric's unit."""
        return self.reference_accuracy * self.accuracy_target_ratio

    @property
    def sample_bytes(self) -> int:
        """The bytes of one sample's inputs and outputs."""
        return sum(spec.bytes for spec in (*self.inputs, *self.outputs))

    @property
    def model_bytes(self) -> int:
        """The size of the float model's file, 0 while it is not here."""
        try:
            return self.model_file()[0].stat().st_size
        except OSError:
            return 0

    @abstractmethod
    def model_file(self) -> tuple[Path, str]:
        """Return the float model's path and the SHA-256 it must have."""

    @abstractmethod
    def data_files(self) -> dict[Path, str]:
        """Return each raw data file with the SHA-256 it must have."""

    @abstractmethod
    def sample_count(self, part: Part) -> int:
        """Return how many samples `part` has."""

    @abstractmethod
    def preprocess(self, part: Part, first: int, last: int) -> dict[str, npt.NDArray[np.generic]]:
        """Return, per input name, the samples [first:last) of `part` ready for the model, in the input's dtype.

        Each array is [last - first, *shape]. Called for a few samples at a time, also in processes of its own: a
        benchmark can be pickled. Raises RequestError, or Mistakes for all samples that are bad.
        """

    @abstractmethod
    def labels(self) -> Sequence[int]:
        """Return the right answer to each sample of the evaluation part."""

    @abstractmethod
    def score(self, responses: Iterable[tuple[int, bytes]], labels: Sequence[int]) -> Accuracy:
        """Score (sample index, response bytes) pairs over the whole evaluation part against its labels.

        Raises EngineError if a sample is missing, is answered twice with different answers, or has the wrong size.
        """
