"""What benchmarks share that name one class per sample: data from a manifest, a top-1 score, ImageNet's photographs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from engineroom.benchmarks import AGREEMENT, JUDGES, Accuracy, Benchmark, Part
from engineroom.datasets import Agreement, Dataset, read_checksums
from engineroom.errors import EngineError, RequestError
from engineroom.images import preprocess as images
from engineroom.networks import layout
from engineroom.paths import display
from engineroom.sources import UNPUBLISHED
from engineroom.terms import Scenario, Weights

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


CLASS_TYPES = ("int64", "int32", "float32")  # of a class that is the answer, as MLCommons' scorer can read it


class NotFiniteError(ValueError):
    """An output holds NaN or an infinity."""


class Classification(Benchmark):
    """One class for each sample of a data set of data_maps/.

    The one output holds a score per class, in any type, or the class itself. Of one class more than the data set has
    labels, the first is the background: no label. Where the class itself is the answer, LoadGen's log gets the label,
    as MLCommons' scorer wants it (vision/classification_and_detection: PostProcessCommon's offset of -1, and
    tools/accuracy-imagenet.py, which subtracts nothing).
    """

    accuracy_metric = "top-1"
    classes: int  # that the model knows
    sources: tuple[Path, ...] = (Path(__file__),)

    @property
    def data(self) -> Dataset:
        """The data set."""
        return _dataset(self.dataset)

    @property
    def background(self) -> int:
        """How many classes come before the first label."""
        return self.classes - self.data.manifest.labels

    @property
    def answer_offset(self) -> int:
        """Of a class, what makes a label of it."""
        [output] = self.outputs
        return -self.background if math.prod(output.shape) == 1 and output.dtype in CLASS_TYPES else 0

    def data_files(self) -> dict[Path, str]:
        """Return the manifest's raw files, each with the SHA-256 that it gives it."""
        return self.data.raw_files()

    def sample_count(self, part: Part) -> int:
        """Return how many samples the manifest gives `part`."""
        return self.data.part(part).samples

    def labels(self) -> Sequence[int]:
        """Return the classes of the evaluation part's samples, by its map."""
        return self.data.labels(Part.EVALUATION)

    def for_calibration(self) -> Benchmark:
        """Return the benchmark on the data set that the manifest names for it, where it has no calibration part."""
        other = self.data.manifest.calibration_from
        return self if other is None else self.variant(other, self.weights, self.own_model)

    @property
    def judged_by_float(self) -> bool:
        """Labels mean nothing to synthetic weights, nor where the images are drawn."""
        return self.weights is Weights.SYNTHETIC or self.data.drawn

    def score(self, answers: Sequence[int], labels: Sequence[int]) -> Accuracy:
        """Score top-1: the class that each sample was answered with against its label."""
        good = sum(answer == label for answer, label in zip(answers, labels, strict=True))
        metric = AGREEMENT if self.judged_by_float else self.accuracy_metric
        return Accuracy(metric, 100 * good / len(labels), "%", good, len(labels))

    def answers(self, responses: Iterable[tuple[int, bytes]], count: int) -> list[int]:
        """Return the class that each of `count` samples was answered with.

        LoadGen pads MultiStream queries with samples it asks for twice: a second answer must name the same class.
        """
        answers: dict[int, int] = {}
        not_finite: set[int] = set()
        for index, response in responses:
            if not 0 <= index < count:
                raise EngineError(f"an answer for sample {index}, but the evaluation part has {count} samples")
            try:
                named = self._class_of(index, response)
            except NotFiniteError:
                not_finite.add(index)
                continue
            if answers.setdefault(index, named) != named:
                raise EngineError(f"sample {index} was answered twice, as {answers[index]} and as {named}")
        if not_finite:
            raise EngineError(
                f"the answers for {len(not_finite)} of {count} samples hold NaN or an infinity, first sample "
                f"{min(not_finite)}",
                mend="a precision with a smaller range overflows: try another, such as --precision=fp32",
            )
        missing = [index for index in range(count) if index not in answers]
        if missing:
            raise EngineError(f"{len(missing)} of {count} samples were never answered, first sample {missing[0]}")
        return [answers[index] for index in range(count)]

    def golden(self) -> Sequence[int] | None:
        """Return the data set's golden predictions, which are those of the benchmark's own model."""
        return None if self.judged_by_float or self.own_model else self.data.golden(self.name)

    def compared(self, answers: Sequence[int]) -> Agreement | None:
        """Compare the answers with the golden ones."""
        golden = self.golden()
        return None if golden is None else self.data.compare(golden, answers)

    def _class_of(self, index: int, response: bytes) -> int:
        import numpy as np

        spec = self.outputs[0]
        if len(response) != spec.bytes:
            wanted = f"{math.prod(spec.shape)} {spec.dtype} ({spec.bytes} bytes)"
            raise EngineError(f"the answer for sample {index} has {len(response)} bytes instead of {wanted}")
        try:
            return self.classes_of(np.frombuffer(response, spec.dtype).reshape(1, *spec.shape) - self.answer_offset)[0]
        except NotFiniteError:
            raise
        except ValueError as error:
            raise EngineError(f"the answer for sample {index} {error}") from None

    def classes_of(self, outputs: npt.NDArray[np.generic]) -> list[int]:
        """Return the label that each output names, -1 for the background; of equal scores, the first counts.

        Raises ValueError if one is not finite or names no class.
        """
        import numpy as np

        values = outputs.reshape(len(outputs), -1)
        if not np.isfinite(values).all():
            raise NotFiniteError("holds values that are not finite")
        named = values.argmax(axis=1) if values.shape[1] > 1 else values[:, 0].astype(np.int64)
        if len(unknown := named[(named < 0) | (named >= self.classes)]):
            raise ValueError(f"names the class {unknown[0]}; there are {self.classes}")
        return [int(each) - self.background for each in named]


class ImageClassification(Classification):
    """Photographs of ImageNet's 1,000 classes, prepared by `recipe`."""

    recipe: images.Recipe
    reference_top_1: dict[str, float]  # of the model, in %, by data set
    dataset = "imagenet"
    drawn_dataset = "imagenet-synthetic"
    datasets = ("imagenet", "imagenet-500", drawn_dataset)
    scenarios = tuple(Scenario)
    accuracy_target_ratio = 0.99  # MLPerf Inference rules, "Benchmarks"
    modules = images.MODULES
    extra = images.EXTRA
    distributions = images.DISTRIBUTIONS
    sources = (*Classification.sources, *images.SOURCES)

    @property
    def reference_accuracy(self) -> float:  # type: ignore[override]
        """The top-1 of the reference model, in %; all, where the float model itself says what is right.

        On a part of ImageNet for which nobody published one, it is that of the whole.
        """
        whole = self.reference_top_1[type(self).dataset]
        return 100.0 if self.judged_by_float else self.reference_top_1.get(self.dataset, whole)

    @property
    def accuracy_target(self) -> float:
        """The least accuracy, in %: 99% of the reference.

        Three standard deviations less where the reference is of other images. None, 0, for a model that came quantized
        where labels mean nothing: the scores of seeded weights lie so close together that rounding alone decides many
        answers, and where there is no float twin the model is compared with itself.
        """
        if self.judged_by_float and self.came_quantized:
            return 0.0
        if self.judged_by_float or self.dataset in self.reference_top_1:
            return super().accuracy_target
        share = self.reference_accuracy / 100
        deviation = math.sqrt(share * (1 - share) / self.sample_count(Part.EVALUATION))
        return super().accuracy_target - 3 * 100 * deviation

    @property
    def notes(self) -> tuple[str, ...]:
        """Say what makes a result no result of the benchmark."""
        notes = []
        if self.weights is Weights.SYNTHETIC:
            notes.append(
                f"synthetic weights: the architecture is {self.name}'s, but it knows nothing. Not submittable; "
                "the accuracy is the agreement with the same weights in fp32 under ONNX Runtime."
            )
        elif self.judged_by_float:
            asked = JUDGES[self.model_file()[0].suffix].title
            notes.append(
                "The labels of drawn images mean nothing: the accuracy is the agreement with what the model itself "
                f"answers under {asked}."
            )
        if self.own_model:
            notes.append(
                f"A model of one's own, {display(self.own_model)}: not the benchmark's, nor submittable as it."
            )
        if not self.data.manifest.submittable:
            notes.append(f"The data set {self.dataset} is not the benchmark's own: not submittable.")
        return tuple(notes)

    def take(self, model: Path) -> None:
        """Run `model` instead: its tensors are read from the file, the images are prepared as for the own one."""
        found = layout.read(model, self.inputs, self.outputs)
        shape = found.inputs[0].shape
        if shape not in ((3, *shape[1:2] * 2), (*shape[:1] * 2, 3)):
            raise RequestError(f"takes {list(shape)} a sample, no square colour image", where=display(model))
        labels = self.data.manifest.labels
        if (found.classes or self.classes) not in (labels, labels + 1):
            raise RequestError(
                f"has {found.classes} classes; {self.dataset} has {labels}, with the background {labels + 1}",
                where=display(model),
            )
        self.own_model, self.model_source = model, None
        self.inputs, self.outputs, self.precisions = found.inputs, found.outputs, found.precisions
        self.quantization, self.classes = found.quantization, found.classes or self.classes

    def model_file(self) -> tuple[Path, str]:
        """Return the model's path. Nobody publishes its SHA-256, so it is recorded at the first verified use."""
        if self.own_model:
            return self.own_model, UNPUBLISHED
        if self.made_model:
            return self.made_model.path, UNPUBLISHED
        assert self.model_source is not None
        return self.model_source.path, self.model_source.result_sha256

    def preprocess(self, part: Part, first: int, last: int) -> dict[str, npt.NDArray[np.generic]]:
        """Return the images [first:last) of `part` as MLPerf's reference prepares them, in the input's type."""
        samples = self.data.samples(part)[first:last]
        paths = [self.data.sample_folder / sample.file for sample in samples]
        spec, checksums = self.inputs[0], read_checksums(self.data.checksums)
        return {spec.name: images.prepare(paths, self.recipe, spec, self.quantization, checksums)}

    @property
    def input_key(self) -> str:
        """What of the model's input the samples depend on: its quantization, too."""
        return f"{super().input_key} {self.quantization or ''}".strip()

    def float_input(self, array: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        """Return the float values that an integer input stands for; a float one as it is."""
        import numpy as np

        if self.quantization is None:
            return array
        shifted = array.astype(np.float32) - np.float32(self.quantization.zero_point)
        return shifted * np.float32(self.quantization.scale)


@cache
def _dataset(name: str) -> Dataset:
    return Dataset(name)
