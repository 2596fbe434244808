"""The quick start: a small network that reads handwritten digits, shipped whole. Not an MLPerf benchmark."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from engineroom.benchmarks import Part
from engineroom.benchmarks._classification import Classification
from engineroom.errors import RequestError
from engineroom.paths import CODE, display
from engineroom.terms import Precision, Scenario, TensorSpec

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

FILE = "digits.csv.gz"
WHITE = 16  # the largest pixel value
MODEL = CODE / "models" / "digits" / "digits.onnx"
MODEL_SHA256 = "5574e8231651d027b014e09f53d14d1023b4bb2d6bc983ea03111401742a2489"


class Digits(Classification):
    """1,797 digits of 8 x 8 pixels, ten classes; the response is ten float32 logits."""

    name = "digits"
    dataset = "digits"
    inputs = (TensorSpec("input", "float32", (1, 8, 8)),)
    outputs = (TensorSpec("logits", "float32", (10,)),)
    scenarios = tuple(Scenario)
    precisions = (Precision.INT8, Precision.FP16, Precision.FP32)
    mlperf = False
    quick_start = True
    classes = 10
    sources = (*Classification.sources, Path(__file__))
    reference_accuracy = 99.6  # 498 of 500, ONNX Runtime 1.31.1 on the CPU
    accuracy_target_ratio = 0.99

    def model_file(self) -> tuple[Path, str]:
        """Return the shipped model and its SHA-256."""
        return MODEL, MODEL_SHA256

    def preprocess(self, part: Part, first: int, last: int) -> dict[str, npt.NDArray[np.generic]]:
        """Return {"input": float32 [last - first, 1, 8, 8]}: the pixels of the part's rows, 0..16, over 16.

        Raises RequestError if the data file is damaged or the map names a row that it does not have.
        """
        import numpy as np

        samples = self.data.samples(part)[first:last]
        path = self.data.folder / FILE
        pixels = _pixels(path)
        rows = [_row(sample.file, len(pixels), display(path)) for sample in samples]
        images = (pixels[rows] / np.float32(WHITE)).reshape(-1, 1, 8, 8)
        return {"input": images}


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


BENCHMARK = Digits()
