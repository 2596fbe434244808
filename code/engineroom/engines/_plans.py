"""What a TensorRT plan is to be: its settings, the shapes it takes, how far its build is. Needs no TensorRT."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from engineroom.engines import BuildRequest
from engineroom.errors import EngineError
from engineroom.paths import display
from engineroom.terms import HardwareCompatibility, Precision, TensorSpec

if TYPE_CHECKING:
    import onnx

    from engineroom.detection import Gpu

# The float type of a plan in each precision; int8 and fp8 compute the rest of the network in fp16.
FLOATS = {
    Precision.INT8: "float16",
    Precision.FP8: "float16",
    Precision.FP16: "float16",
    Precision.BF16: "bfloat16",
    Precision.FP32: None,
}
# The first compute capability that computes in a precision (TensorRT documentation, "Support Matrix").
CAPABILITIES = {
    Precision.INT8: (7, 5),
    Precision.FP8: (8, 9),
    Precision.FP16: (7, 5),
    Precision.BF16: (8, 0),
    Precision.FP32: (7, 5),
}
# The names of HardwareCompatibility in TensorRT's enumeration, and in trtexec.
COMPATIBILITY = {
    HardwareCompatibility.SAME_COMPUTE_CAPABILITY: ("SAME_COMPUTE_CAPABILITY", "sameComputeCapability"),
    HardwareCompatibility.AMPERE_PLUS: ("AMPERE_PLUS", "ampere+"),
}


class BuildSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings that a plan depends on, as a recipe says them: all are text there."""

    builder_optimization_level: int
    workspace_bytes: int | None
    version_compatible: bool
    hardware_compatibility: HardwareCompatibility
    detailed_profiling: bool

    @classmethod
    def of(cls, settings: Mapping[str, str]) -> BuildSettings:
        """Read a recipe's settings."""
        return msgspec.convert(dict(settings), cls, strict=False)

    def as_text(self) -> dict[str, str]:
        """Return them as a recipe says them."""
        values = msgspec.to_builtins(self).items()
        return {name: str(value).lower() if isinstance(value, bool) else _null(value) for name, value in values}


# From which compute capability on TensorRT can make a plan for other GPUs (NVIDIA/TensorRT, NvInfer.h of 11.1,
# HardwareCompatibilityLevel).
_COMPATIBLE_FROM = {HardwareCompatibility.AMPERE_PLUS: (8, 0), HardwareCompatibility.SAME_COMPUTE_CAPABILITY: (7, 5)}


def kinds_of(gpus: Iterable[Gpu], level: HardwareCompatibility) -> tuple[str, ...]:
    """Return the kinds of GPUs that a plan of this compatibility tells apart: a plan serves all GPUs of its kind."""
    return tuple(sorted({_kind(gpu, level) for gpu in gpus}))


def _kind(gpu: Gpu, level: HardwareCompatibility) -> str:
    capability = capability_of(gpu)
    if level is HardwareCompatibility.NONE or capability is None or capability < _COMPATIBLE_FROM[level]:
        return " ".join([gpu.name, *sorted({f"MIG {part.profile}" for part in gpu.slices})])
    if level is HardwareCompatibility.AMPERE_PLUS:
        return "compute capability 8.0 or later"
    return f"compute capability {gpu.compute_capability}"


def capability_of(gpu: Gpu) -> tuple[int, ...] | None:
    """Return a GPU's compute capability, None if it is not known."""
    return tuple(map(int, gpu.compute_capability.split("."))) if gpu.compute_capability else None


def _null(value: object) -> str:
    return "null" if value is None else str(value)


@dataclass(frozen=True)
class Shapes:
    """The shapes of one input, with its batch axis, that a plan takes; it is tuned for `opt`."""

    name: str
    min: tuple[int, ...]
    opt: tuple[int, ...]
    max: tuple[int, ...]


def shapes_of(request: BuildRequest, model: onnx.ModelProto) -> tuple[Shapes, ...]:
    """Return the profile of the plan: batches of 1 to `request.batch_size`, tuned for the largest.

    One profile is enough for all instances, for since TensorRT 10 execution contexts share it (PROFILE_SHARING_0806
    in the NvInfer.h of 10.8: always on). One for each batch size would find faster kernels for small batches, but a
    build looks for them anew for each, and under load batches are full: where they are not, a smaller --batch_size
    tunes the plan for what comes. Empty for a model whose batch is fixed. Raises EngineError if the model does not have
    these tensors, or not this batch.
    """
    where = display(Path(request.model))
    inputs = _checked("input", request.inputs, _tensors(model, model.graph.input), where)
    _checked("output", request.outputs, _tensors(model, model.graph.output), where)
    fixed = {axes[0] for axes in inputs.values() if axes[0] is not None}
    if fixed - {request.batch_size}:
        raise EngineError(
            f"the model is made for batches of {min(fixed)}",
            where=where,
            mend=f"add --batch_size={min(fixed)}, or export it with a batch of any length",
        )
    if fixed:
        return ()
    size = request.batch_size
    return tuple(
        Shapes(spec.name, min=(1, *spec.shape), opt=(size, *spec.shape), max=(size, *spec.shape))
        for spec in request.inputs
    )


Axes = tuple[int | None, ...]


def _tensors(model: onnx.ModelProto, infos: Iterable[onnx.ValueInfoProto]) -> dict[str, tuple[str, Axes]]:
    from onnx import helper

    constants = {tensor.name for tensor in model.graph.initializer}
    found = {}
    for info in infos:
        if info.name not in constants:
            tensor = info.type.tensor_type
            dtype = str(helper.tensor_dtype_to_np_dtype(tensor.elem_type))
            axes = (axis.dim_value if axis.HasField("dim_value") else None for axis in tensor.shape.dim)
            found[info.name] = dtype, tuple(axes)
    return found


def _checked(
    kind: str, specs: Sequence[TensorSpec], known: Mapping[str, tuple[str, Axes]], where: str
) -> dict[str, Axes]:
    """Return the axes of the tensors that are declared. Raises EngineError if the model has others instead."""
    for spec in specs:
        if spec.name not in known:
            raise EngineError(f"the {kind} {spec.name} is not among {', '.join(sorted(known))}", where=where)
        dtype, axes = known[spec.name]
        fits = len(axes) == len(spec.shape) + 1 and all(
            have in (None, want) for have, want in zip(axes[1:], spec.shape, strict=True)
        )
        if dtype != spec.dtype or not fits:
            found = ", ".join("?" if axis is None else str(axis) for axis in axes)
            wanted = ", ".join(map(str, ("?", *spec.shape)))
            raise EngineError(f"the {kind} {spec.name} is {dtype} [{found}], not {spec.dtype} [{wanted}]", where=where)
    if kind == "input" and (others := known.keys() - {spec.name for spec in specs}):
        raise EngineError(f"the model also needs the input {', '.join(sorted(others))}", where=where)
    return {spec.name: known[spec.name][1] for spec in specs}


def trtexec(
    model: Path, plan: Path, shapes: Sequence[Shapes], settings: BuildSettings, timing_cache: Path
) -> list[str]:
    """Return the command of NVIDIA's trtexec that builds the same plan (NVIDIA/TensorRT, sampleOptions.cpp).

    TensorRT 10 needs --stronglyTyped; 11 takes it and does nothing else anyway.
    """
    command = ["trtexec", f"--onnx={model}", f"--saveEngine={plan}", "--stronglyTyped", "--noTF32", "--skipInference"]
    for side in ("min", "opt", "max") if shapes else ():
        words = (f"{each.name}:{'x'.join(map(str, getattr(each, side)))}" for each in shapes)
        command.append(f"--{side}Shapes={','.join(words)}")
    command += [
        f"--builderOptimizationLevel={settings.builder_optimization_level}",
        f"--timingCacheFile={timing_cache}",
    ]
    if settings.workspace_bytes is not None:
        command.append(f"--memPoolSize=workspace:{settings.workspace_bytes >> 20}M")
    if settings.version_compatible:
        command.append("--versionCompatible")
    if settings.hardware_compatibility in COMPATIBILITY:
        command.append(f"--hardwareCompatibilityLevel={COMPATIBILITY[settings.hardware_compatibility][1]}")
    if settings.detailed_profiling:
        command.append("--profilingVerbosity=detailed")
    return command


def graph_sizes(batch_size: int, wanted: Sequence[int] = ()) -> list[int]:
    """Return the batch sizes that graphs are captured for: the wanted ones, else powers of two and the batch size."""
    sizes = wanted or [1 << power for power in range(batch_size.bit_length())]
    return sorted({size for size in sizes if 1 <= size <= batch_size} | {batch_size})


class Phases:
    """How far a build is, from the phases that TensorRT tells of as they begin, step and end. They are nested.

    TensorRT tells from several threads. How many phases follow one another at the top it does not say: what is done
    never falls, and is 1 only at the end.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[str, tuple[str | None, int, int]] = {}  # name: parent, steps, steps done
        self._done = 0.0

    def start(self, name: str, parent: str | None, steps: int) -> None:
        """Note that a phase began."""
        with self._lock:
            self._open[name] = parent, max(1, steps), 0

    def step(self, name: str, step: int) -> None:
        """Note that a step of a phase, counted from 0, is done."""
        with self._lock:
            if name in self._open:
                parent, steps, done = self._open[name]
                self._open[name] = parent, steps, max(done, min(steps, step + 1))

    def finish(self, name: str) -> None:
        """Note that a phase ended."""
        with self._lock:
            self._open.pop(name, None)

    def told(self) -> tuple[float, str]:
        """Return the part of the build that is done, 0 to 1, and the innermost phase with its steps."""
        with self._lock:
            roots = [name for name, (parent, _, _) in self._open.items() if parent not in self._open]
            self._done = max([self._done, *(self._part(name) for name in roots)])
            name = next(reversed(self._open), None)
            if name is None:
                return self._done, ""
            _, steps, done = self._open[name]
            return self._done, f"{name} {done:,} of {steps:,}"

    def _part(self, name: str) -> float:
        _, steps, done = self._open[name]
        inner = [self._part(child) for child, (parent, _, _) in self._open.items() if parent == name]
        return min(1.0, (done + max(inner, default=0.0)) / steps)


def words_of(errors: Iterable[str]) -> str:
    """Return the errors that TensorRT logged, each once, without its own places in its sources."""
    found = (re.sub(r"^\[[^\]]*\]\s*|^\S+\.(?:cpp|h):\d+:\s*|\(\S+:\w+:\d+\)\s*$", "", each).strip() for each in errors)
    return "; ".join(dict.fromkeys(filter(None, found))) or "it gave no reason"
