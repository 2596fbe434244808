"""What a benchmark is. Each file beside this one holds one, as `BENCHMARK = Name()`."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from engineroom.datasets import Agreement
from engineroom.errors import RequestError, did_you_mean, shown
from engineroom.images.preprocess import Quantization
from engineroom.paths import typed
from engineroom.sources import ModelFile
from engineroom.terms import Precision, Scenario, TensorSpec, Weights

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Progress = Callable[[int, int], None]  # (done, total), called as the work proceeds


class Part(StrEnum):
    """The parts of a data set. The calibration parts are the two lists that a benchmark may allow; most have one."""

    TRAINING = "training"
    CALIBRATION = "calibration"
    CALIBRATION_OPTION_2 = "calibration_option_2"
    EVALUATION = "evaluation"


AGREEMENT = "agreement"  # the metric where the float model says what is right


class Judge(NamedTuple):
    """What runs a model to tell the right answers where labels mean nothing: an engine, and what people call it."""

    engine: str
    title: str


PYTORCH = Judge("torch", "PyTorch")
# By the kind of the model's file.
JUDGES = {
    ".onnx": Judge("onnxruntime", "ONNX Runtime"),
    ".tflite": Judge("litert", "LiteRT"),
    ".pt2": PYTORCH,
    ".pt": PYTORCH,
}

CALIBRATION_LISTS = {1: Part.CALIBRATION, 2: Part.CALIBRATION_OPTION_2}  # by the setting calibration_list


@dataclass(frozen=True)
class Accuracy:
    """A score over the evaluation part: `value` in `unit`, from `good` of `total` samples."""

    metric: str
    value: float
    unit: str
    good: int
    total: int


@dataclass(frozen=True)
class Made:
    """A model file that the project builds itself: `write` builds it at `path`, from the files `sources` alone.

    `bytes` is about its size. `modules` are the Python packages that it needs, `extra` the extra that brings them; the
    versions of `distributions` belong to the file's key.
    """

    path: Path
    write: Callable[[Path], None]
    sources: tuple[Path, ...]
    bytes: int
    modules: tuple[str, ...] = ()
    extra: str | None = None
    distributions: tuple[str, ...] = ()


class Benchmark(ABC):
    """One model on one data set, with its accuracy target.

    Class attributes are facts of the benchmark; what may be tuned stands in configs/default/<name>.yaml.
    """

    name: str
    dataset: str  # folder of data_maps/
    datasets: tuple[str, ...] = ()  # on which it can run instead, its own among them
    drawn_dataset: str | None = None  # the one of them that is generated
    weights: Weights = Weights.REFERENCE
    model_source: ModelFile | None = None  # where the model can be had; none if it is shipped
    synthetic: Made | None = None  # the same architecture with seeded weights
    twin: Made | None = None  # the synthetic model as float ONNX of the same tensors, where it is none itself
    own_model: Path | None = None  # the user's own, which runs instead
    inputs: tuple[TensorSpec, ...]
    quantization: Quantization | None = None  # of the input, where it is no float
    outputs: tuple[TensorSpec, ...]  # what one response holds, in this order
    scenarios: tuple[Scenario, ...]
    precisions: tuple[Precision, ...]  # best first; of a model that came quantized int8 or fp8 alone
    mlperf: bool  # an MLPerf benchmark, or another one
    stands_for: str | None = None  # of another one: the MLPerf benchmark whose task it does, with another model
    quick_start = False  # small, shipped whole, and run on the CPU where no GPU engine is to be had
    performance_sample_count: int | None = None  # how many samples LoadGen keeps in memory by the rules; None: all
    accuracy_metric: str
    reference_accuracy: float  # of the float model on the evaluation part, in the metric's unit
    # As configs/default/<name>.yaml has them, for a benchmark without one.
    settings: Mapping[str, Mapping[str, object]] = {}
    accuracy_target_ratio: float  # of the reference accuracy that a run must reach

    # What preprocessing needs and depends on, beside the benchmark's own file
    modules: tuple[str, ...] = ()  # Python packages that must be installed
    extra: str | None = None  # the extra that brings them
    distributions: tuple[str, ...] = ()  # packages whose versions belong to the samples' key
    sources: tuple[Path, ...] = ()  # our own files that belong to it

    def variant(self, dataset: str, weights: Weights, model_path: Path | None = None) -> Benchmark:
        """Return the benchmark on `dataset` with `weights`, or with the model at `model_path`.

        The data set "auto" is its own, but for synthetic weights, which know nothing of any, the drawn one.

        Raises RequestError for what it has not, or for a model that does not fit it.
        """
        known = self.datasets or (self.dataset,)
        auto = self.drawn_dataset if weights is Weights.SYNTHETIC and self.drawn_dataset else self.dataset
        name = {"auto": auto, **{each.lower(): each for each in known}}.get(dataset.lower())
        if name is None:
            mend = did_you_mean(dataset, known)
            raise RequestError(f"{self.name} has no data set {shown(dataset)}", where="dataset", mend=mend)
        if weights is Weights.SYNTHETIC and self.synthetic is None:
            raise RequestError(f"{self.name} has no synthetic weights", where="weights")
        if weights is Weights.SYNTHETIC and model_path:
            raise RequestError("a model of your own has its own weights", where="weights", mend="leave one of them out")
        chosen = copy.copy(self)
        chosen.dataset, chosen.weights = name, weights
        if model_path:
            chosen.take(model_path)
        return chosen

    def take(self, model: Path) -> None:
        """Run `model`, a file of the user's, instead. Raises RequestError if it does not fit, or if none would."""
        raise RequestError(f"{self.name} cannot run another model", where="model_path")

    def for_calibration(self) -> Benchmark:
        """Return the benchmark on the data set that has its calibration samples."""
        return self

    @property
    def task(self) -> str | None:
        """The MLPerf benchmark that its results are submitted for: itself, or in the open division another one."""
        return self.name if self.mlperf else self.stands_for

    @property
    def judged_by_float(self) -> bool:
        """Whether labels mean nothing here, so that the answers of the float model are what is right."""
        return self.weights is Weights.SYNTHETIC

    @property
    def answer_offset(self) -> int:
        """What is added to each number that the model answers, before it is reported to LoadGen."""
        return 0

    @property
    def made_model(self) -> Made | None:
        """How the model is made that it runs, where the project makes it."""
        return self.synthetic if self.weights is Weights.SYNTHETIC else None

    @property
    def whose_weights(self) -> str:
        """Whose weights the model has: "reference", "synthetic", or the user's "own"."""
        return "own" if self.own_model else self.weights.value

    @property
    def variant_words(self) -> tuple[str, ...]:
        """What a reader must see beside a figure: in what it is not the benchmark's own model on its own data."""
        weights = () if self.whose_weights == Weights.REFERENCE else (f"{self.whose_weights} weights",)
        return (*weights, *(() if self.dataset == type(self).dataset else (self.dataset,)))

    @property
    def is_calibrated(self) -> bool:
        """Whether int8 means that the model is calibrated here: it is a float ONNX file."""
        return not self.came_quantized and Precision.INT8 in self.precisions and self.model_file()[0].suffix == ".onnx"

    @property
    def came_quantized(self) -> bool:
        """Whether the model itself is an int8 or fp8 one, which nobody has to calibrate."""
        return self.precisions in ((Precision.INT8,), (Precision.FP8,))

    @property
    def own_settings(self) -> Mapping[str, Mapping[str, object]]:
        """Its settings. The one precision of a model that came quantized is among them, for rules that size for it."""
        if not self.came_quantized:
            return self.settings
        return {**self.settings, "common": {"precision": self.precisions[0].value, **self.settings.get("common", {})}}

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
        """The size of the model's file; while it is not here what is known of it, 0 if nothing is."""
        try:
            return self.model_file()[0].stat().st_size
        except OSError:
            made, source = self.made_model, self.model_source
            return made.bytes if made else source.likely_bytes if source else 0

    @abstractmethod
    def model_file(self) -> tuple[Path, str]:
        """Return the model's path and the SHA-256 it must have, or sources.UNPUBLISHED."""

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

    @property
    def input_key(self) -> str:
        """What of the model's inputs the samples depend on."""
        return " ".join(f"{spec.name} {spec.dtype} {list(spec.shape)}" for spec in self.inputs)

    def float_input(self, array: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        """Return samples of an input, [n, *shape], as its float twin takes them."""
        return array

    @abstractmethod
    def classes_of(self, outputs: npt.NDArray[np.generic]) -> list[int]:
        """Return the answer that each of a batch of outputs stands for: [n, *shape] of the first output."""

    @abstractmethod
    def answers(self, responses: Iterable[tuple[int, bytes]], count: int) -> list[int]:
        """Return the answer that each of `count` samples got, from (sample index, response bytes) pairs.

        Raises EngineError if a sample is missing, is answered twice with different answers, or has the wrong size.
        """

    def golden(self) -> Sequence[int] | None:
        """Return what its model answered elsewhere, where somebody has that. Raises Mistakes if it cannot be read."""
        return None

    def compared(self, answers: Sequence[int]) -> Agreement | None:
        """Compare the answers, sample by sample, with the golden ones."""
        return None

    @abstractmethod
    def score(self, answers: Sequence[int], labels: Sequence[int]) -> Accuracy:
        """Score the answers to the whole evaluation part against its labels."""


def variant_of(benchmark: Benchmark, *, dataset: str, weights: Weights, model_path: str | None) -> Benchmark:
    """Return the benchmark as the settings of these names ask for it; relative paths begin where the user is.

    Raises RequestError for what it has not, or for a model that does not fit it.
    """
    return benchmark.variant(dataset, weights, typed(model_path).absolute() if model_path else None)
