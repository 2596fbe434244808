"""What an engine plug-in is. Each file beside this one holds one, as `ENGINE = Name()`."""

from __future__ import annotations

import shutil
from abc import ABC
from pathlib import Path

import msgspec

from engineroom.config import RunConfig
from engineroom.terms import Precision, TensorSpec

MODEL = "model.onnx"


class BuildRequest(msgspec.Struct, frozen=True):
    """Everything an engine build depends on, as the rendered recipe engine.json says it.

    `model` is the float ONNX file, or the Q/DQ file where `precision` is int8. `settings` are the engine's own,
    as its `settings_of` gave them.
    """

    engine: str
    model: str
    model_sha256: str
    precision: Precision
    batch_size: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    settings: dict[str, str]


class Engine(ABC):  # noqa: B024  (an engine that takes the model as it is overrides nothing but facts)
    """How engines of one kind are built, and what the harness needs to load them.

    `native` engines live in the native harness under the same name; others are a Python callable that the bridge
    reaches by the module's function `open_session(options, inputs, outputs)`.
    """

    name: str
    native: bool
    precisions: tuple[Precision, ...]
    modules: tuple[str, ...] = ()  # Python packages that must be installed
    distributions: tuple[str, ...] = ()  # packages whose versions belong to the engine's key
    formats: tuple[str, ...] = (".onnx",)  # the files it takes
    takes_qdq: bool = True  # False if int8 is for models that came quantized, not for the calibrator's Q/DQ file
    accelerator: str | None = None  # "gpu" for engines that use NVIDIA GPUs where there are any; None for the CPU
    ignores: tuple[str, ...] = ()  # settings that mean nothing to it
    measures_model: bool = True  # False for engines that answer without running the model

    def settings_of(self, config: RunConfig) -> dict[str, str]:
        """Return the engine's own settings, as strings, derived from the run's configuration."""
        return {}

    def build(self, request: BuildRequest, folder: Path) -> dict[str, str]:
        """Build into `folder` and return the options that the harness hands to the engine when it loads.

        An option whose value begins with "./" is a file in `folder`. An engine without a build step keeps a copy
        of the model, so that it stays whole and checked whatever becomes of the original. Raises EngineError with the
        library's own words.
        """
        shutil.copyfile(request.model, folder / MODEL)
        return {"model": f"./{MODEL}"}
