"""What benchmarks share that name one class per sample: data from a manifest, and a top-1 score."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

from engineroom.benchmarks import Accuracy, Benchmark, Part
from engineroom.datasets import Dataset
from engineroom.errors import EngineError


class Classification(Benchmark):
    """One class for each sample of a data set of data_maps/."""

    accuracy_metric = "top-1"

    @property
    def data(self) -> Dataset:
        """The data set."""
        return _dataset(self.dataset)

    def data_files(self) -> dict[Path, str]:
        """Return the manifest's raw files, each with the SHA-256 that it gives it."""
        return self.data.raw_files()

    def sample_count(self, part: Part) -> int:
        """Return how many samples the manifest gives `part`."""
        return self.data.part(part).samples

    def labels(self) -> Sequence[int]:
        """Return the classes of the evaluation part's samples, by its map."""
        return self.data.labels(Part.EVALUATION)

    def score(self, responses: Iterable[tuple[int, bytes]], labels: Sequence[int]) -> Accuracy:
        """Score top-1: the class that each response names against the sample's label."""
        answers = self.answers(responses, len(labels))
        good = sum(answer == label for answer, label in zip(answers, labels, strict=True))
        return Accuracy(self.accuracy_metric, 100 * good / len(labels), "%", good, len(labels))

    def answers(self, responses: Iterable[tuple[int, bytes]], count: int) -> list[int]:
        """Return the class that each of `count` samples was answered with.

        LoadGen pads MultiStream queries with samples it asks for twice: a second answer must name the same class.
        """
        answers: dict[int, int] = {}
        for index, response in responses:
            if not 0 <= index < count:
                raise EngineError(f"an answer for sample {index}, but the evaluation part has {count} samples")
            named = self.class_of(index, response)
            if answers.setdefault(index, named) != named:
                raise EngineError(f"sample {index} was answered twice, as {answers[index]} and as {named}")
        missing = [index for index in range(count) if index not in answers]
        if missing:
            raise EngineError(f"{len(missing)} of {count} samples were never answered, first sample {missing[0]}")
        return [answers[index] for index in range(count)]

    @abstractmethod
    def class_of(self, index: int, response: bytes) -> int:
        """Return the class that the response for sample `index` names. Raises EngineError if it is no such response."""


@cache
def _dataset(name: str) -> Dataset:
    return Dataset(name)
