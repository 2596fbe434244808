"""What a calibrator is. Each file beside this one holds one, as `CALIBRATOR = Name()`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from engineroom.benchmarks import Progress
from engineroom.terms import Observer

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class Settings(msgspec.Struct, frozen=True):
    """How ranges are chosen, and what stays as it is.

    `percentile` counts for the observer of that name: the share of magnitudes, in percent, that are not clipped.
    `float_layers` are names of layers (nodes of the float model) or patterns of them (`stage1.*`), which stay in float.
    """

    observer: Observer = Observer.MINMAX
    percentile: float = 99.999
    float_layers: tuple[str, ...] = ()

    def inputs(self) -> dict[str, str]:
        """Return what belongs to a calibration's key."""
        percentile = {"percentile": str(self.percentile)} if self.observer is Observer.PERCENTILE else {}
        return {"observer": self.observer.value, **percentile, "float_layers": " ".join(sorted(set(self.float_layers)))}


class Calibrator(ABC):
    """Turns a float ONNX model into one explicitly quantized model by running calibration samples through it."""

    name: str
    modules: tuple[str, ...]  # Python packages it needs
    extra: str | None = None  # the extra that brings them, if Engineroom itself does not
    distributions: tuple[str, ...]  # packages whose versions belong to the calibration's key
    sources: tuple[Path, ...] = ()  # our own files that belong to it, beside the calibrator's
    observers: tuple[Observer, ...] = tuple(Observer)  # that it has

    @abstractmethod
    def calibrate(
        self,
        model: Path,
        samples: dict[str, npt.NDArray[np.generic]],
        target: Path,
        progress: Progress,
        settings: Settings = Settings(),  # noqa: B008  (frozen)
    ) -> dict[str, tuple[float, float]]:
        """Write the Q/DQ ONNX model to `target` and return the range (low, high) that was chosen for each tensor.

        `samples` holds, per input name, [count, *shape]. Raises EngineError if the model cannot be quantized,
        RequestError if a layer that shall stay in float is none of the model's.
        """
