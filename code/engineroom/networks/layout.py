"""What a model file says of itself: its input and output, the precisions it can run in, its quantization."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from engineroom.images.preprocess import Quantization
from engineroom.terms import Precision, TensorSpec


@dataclass(frozen=True)
class Layout:
    """A model's tensors without the batch axis. `classes` is None where the file does not tell."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    precisions: tuple[Precision, ...]
    quantization: Quantization | None = None
    classes: int | None = None


def read(path: Path, like_inputs: Sequence[TensorSpec], like_outputs: Sequence[TensorSpec]) -> Layout:
    """Return the layout of the model at `path`."""
    raise NotImplementedError
