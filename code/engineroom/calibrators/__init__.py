"""What a calibrator is. Each file beside this one holds one, as `CALIBRATOR = Name()`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING

from engineroom.benchmarks import Progress

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class Calibrator(ABC):
    """Turns a float ONNX model into one explicitly quantized model by running calibration samples through it."""

    name: str
    modules: tuple[str, ...]  # Python packages it needs
    distributions: tuple[str, ...]  # packages whose versions belong to the calibration's key

    @abstractmethod
    def calibrate(
        self, model: Path, samples: dict[str, npt.NDArray[np.generic]], target: Path, progress: Progress
    ) -> dict[str, tuple[float, float]]:
        """Write the Q/DQ ONNX model to `target` and return each tensor's observed range (low, high).

        `samples` holds, per input name, [count, *shape]. Raises EngineError if the model cannot be quantized.
        """
