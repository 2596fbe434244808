"""The quick start: a small network that reads handwritten digits, shipped whole. Not an MLPerf benchmark."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from engineroom.benchmarks import Accuracy, Benchmark, Part
from engineroom.datasets import Dataset
from engineroom.errors import EngineError, RequestError
from engineroom.paths import CODE, display
from engineroom.terms import Precision, Scenario, TensorSpec

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

FILE = "digits.csv.gz"
WHITE = 16  # the largest pixel value
MODEL_SHA256 = "5574e8231651d027b014e09f53d14d1023b4bb2d6bc983ea03111401742a2489"


class Digits(Benchmark):
    """1,797 digits of 8 x 8 pixels, ten classes; the response is ten float32 logits."""

    name = "digits"
    dataset = "digits"
    model = CODE / "models" / "digits" / "digits.onnx"
    inputs = (TensorSpec("input", "float32", (1, 8, 8)),)
    outputs = (TensorSpec("logits", "float32", (10,)),)
    scenarios = tuple(Scenario)
    precisions = (Precision.INT8, Precision.FP32)
    mlperf = False
    accuracy_metric = "top-1"
    reference_accuracy = 99.6  # 498 of 500, ONNX Runtime 1.31.1 on the CPU
    accuracy_target_ratio = 0.99

    @cached_property
    def _dataset(self) -> Dataset:
        return Dataset(self.dataset)

    def model_file(self) -> tuple[Path, str]:
        """Return the shipped model and its SHA-256."""
        return self.model, MODEL_SHA256

    def data_files(self) -> dict[Path, str]:
        """Return the shipped data file and the SHA-256 that the manifest gives it."""
        return {self._dataset.folder / name: file.sha256 for name, file in self._dataset.manifest.files.items()}

    def sample_count(self, part: Part) -> int:
        """Return how many digits `part` has."""
        return self._dataset.part(part).samples

    def preprocess(self, part: Part, first: int, last: int) -> dict[str, npt.NDArray[np.generic]]:
        """Return {"input": float32 [last - first, 1, 8, 8]}: the pixels of the part's rows, 0..16, over 16.

        Raises RequestError if the data file is damaged or the map names a row that it does not have.
        """
        import numpy as np

        samples = self._dataset.samples(part)[first:last]
        path = self._dataset.folder / FILE
        pixels = _pixels(path)
        rows = [_row(sample.file, len(pixels), display(path)) for sample in samples]
        images = (pixels[rows] / np.float32(WHITE)).reshape(-1, 1, 8, 8)
        return {"input": images}

    def score(self, responses: Iterable[tuple[int, bytes]]) -> Accuracy:
        """Score top-1: the largest of each response's ten logits against the map's label."""
        answers, labels = self.answers(responses)
        good = sum(digit == label for digit, label in zip(answers, labels, strict=True))
        return Accuracy(self.accuracy_metric, 100 * good / len(labels), "%", good, len(labels))

    def answers(self, responses: Iterable[tuple[int, bytes]]) -> tuple[list[int], list[int]]:
        """Return the digit that each sample was answered with, and the digit that it shows.

        LoadGen pads MultiStream queries with samples it asks for twice: a second answer must name the same class.
        """
        labels = self._dataset.labels(Part.EVALUATION)
        answers: dict[int, int] = {}
        for index, response in responses:
            if not 0 <= index < len(labels):
                raise EngineError(f"an answer for sample {index}, but the evaluation part has {len(labels)} samples")
            digit = _digit(index, response)
            if answers.setdefault(index, digit) != digit:
                raise EngineError(f"sample {index} was answered twice, as {answers[index]} and as {digit}")
        missing = [index for index in range(len(labels)) if index not in answers]
        if missing:
            raise EngineError(f"{len(missing)} of {len(labels)} samples were never answered, first sample {missing[0]}")
        return [answers[index] for index in range(len(labels))], labels


def _pixels(path: Path) -> npt.NDArray[np.float32]:
    """Return the pixels of every row of the CSV file: float32 [rows, 64], values 0..16."""
    import numpy as np

    try:
        with gzip.open(path, "rt", encoding="ascii") as file:
            table = np.loadtxt(file, delimiter=",", dtype=np.float32, ndmin=2)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise RequestError(f"cannot be read: {error}", where=display(path), mend="restore the file") from error
    pixels = table[:, :-1]
    if pixels.shape[1:] != (64,) or not ((pixels >= 0) & (pixels <= WHITE)).all():
        raise RequestError("not rows of 64 pixels from 0 to 16 and a class", where=display(path))
    return pixels


def _row(name: str, rows: int, where: str) -> int:
    """Return the row that a map's `digits.csv.gz#0017` names."""
    file, _, row = name.partition("#")
    if file != FILE or not row.isdecimal() or int(row) >= rows:
        raise RequestError(f"the map names {name!r}, but this file has rows 0 to {rows - 1}", where=where)
    return int(row)


def _digit(index: int, response: bytes) -> int:
    """Return the class a response of ten float32 logits names. Raises EngineError if it is no such response."""
    import numpy as np

    if len(response) != 40:
        raise EngineError(f"the answer for sample {index} has {len(response)} bytes instead of ten float32 (40 bytes)")
    logits = np.frombuffer(response, np.float32)
    if not np.isfinite(logits).all():
        raise EngineError(f"the answer for sample {index} holds values that are not finite")
    return int(logits.argmax())


BENCHMARK = Digits()
