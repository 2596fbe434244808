"""What an engine plug-in is. Each file beside this one holds one, as `ENGINE = Name()`."""

from __future__ import annotations

import shutil
from abc import ABC
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec

from engineroom import registry, versions
from engineroom.config import RunConfig
from engineroom.detection import Machine
from engineroom.errors import RequestError
from engineroom.images.preprocess import Quantization
from engineroom.networks import layout
from engineroom.terms import Precision, TensorSpec

MODEL = "model.onnx"
# Told while a build lasts: (part done, a few words), or (None, a line that stays). Returns whether there is time to go
# on: if not, a builder that can stop by itself should, and keep what the next build can use.
Tell = Callable[[float | None, str], bool]
# The instruction sets that compute in a precision. Without one, a CPU computes int8 with what it has for 16 bits, and
# bf16 not at all, or eight times as slowly as fp32 (PyTorch, ResNet-50).
INSTRUCTIONS = {
    Precision.INT8: ("avx512_vnni", "avx_vnni", "amx_int8"),
    Precision.BF16: ("avx512_bf16", "amx_bf16", "bf16"),
}


class BuildRequest(msgspec.Struct, frozen=True):
    """Everything an engine build depends on, as the rendered recipe engine.json says it.

    `model` is the float ONNX file, or the Q/DQ file where `precision` is int8. `settings` are the engine's own,
    as its `settings_of` gave them. `quantization` is how the samples of an integer input were made.
    """

    engine: str
    model: str
    model_sha256: str
    precision: Precision
    batch_size: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    settings: dict[str, str]
    quantization: Quantization | None = None


def computes_in(precision: Precision, machine: Machine) -> bool:
    """Tell whether the CPU has instructions of its own for a precision. All have them for fp32."""
    return precision not in INSTRUCTIONS or any(name in machine.cpu.isa for name in INSTRUCTIONS[precision])


def gains_by_bf16(machine: Machine) -> bool:
    """Tell whether a CPU is quicker in bf16 than in fp32.

    With AVX-512's instructions and no AMX an AMD EPYC is, twice as quick, and an Intel Xeon is not: 0.58 of the
    throughput (ResNet-50; OpenVINO, on the EPYC PyTorch, too: docs/performance.md).
    """
    isa = machine.cpu.isa
    quick = "amx_bf16" in isa or "avx512_bf16" not in isa or machine.cpu.vendor == "AuthenticAMD"
    return computes_in(Precision.BF16, machine) and quick


def placed(options: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Return the options that `Engine.build` gave, with the files in its `folder` named in full."""
    return {
        name: str(folder / value.removeprefix("./")) if value.startswith("./") else value
        for name, value in options.items()
    }


def keep(model: Path, target: Path) -> None:
    """Copy a model to `target`, and the files that hold its weights to where they are looked for from there."""
    shutil.copyfile(model, target)
    for file in layout.external_files(model):
        beside = target.parent / file.relative_to(model.parent)
        beside.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, beside)


def _gpus(machine: Machine) -> dict[str, str]:
    """Return what of the GPUs a build depends on: a MIG slice is another device than the whole GPU."""
    driver = machine.gpu_driver
    slices = {part.profile for gpu in machine.gpus for part in gpu.slices}
    return {
        "GPU": ", ".join(sorted({gpu.name for gpu in machine.gpus} | {f"MIG {profile}" for profile in slices})),
        "compute capability": ", ".join(sorted({gpu.compute_capability or "unknown" for gpu in machine.gpus})),
        "GPU driver": driver.version if driver else "unknown",
        "CUDA": (driver.cuda_version if driver else None) or "unknown",
    }


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
    sources: tuple[Path, ...] = ()  # our own files that belong to it, beside the engine's own
    formats: tuple[str, ...] = (".onnx",)  # the files it takes
    takes_qdq: bool = True  # False if int8 is for models that came quantized, not for the calibrator's Q/DQ file
    accelerator: str | None = None  # "gpu" for engines that use NVIDIA GPUs where there are any; None for the CPU
    overlaps_copies = False  # whether one instance copies a batch while it computes another one
    serves_scenarios = False  # whether one build serves all scenarios whose settings are the same
    ignores: tuple[str, ...] = ()  # settings that mean nothing to it
    measures_model: bool = True  # False for engines that answer without running the model

    def check_installed(self) -> None:
        """Raise RequestError if a package that it needs is not here."""
        if absent := registry.missing(self.modules):
            raise RequestError(
                f"the engine {self.name} needs {', '.join(absent)}, not installed here",
                mend=f'install it with: make install RUN_ARGS="--engine={self.name}"',
            )

    def check_settings(self, config: RunConfig) -> None:
        """Raise RequestError if something is not here that a run with these settings needs, packages among it."""
        self.check_installed()

    def check_machine(self, machine: Machine, config: RunConfig | None = None) -> None:  # noqa: B027  (most run anywhere)
        """Raise RequestError if the engine cannot run on `machine`, with these settings or the usual ones."""

    def precisions_on(self, machine: Machine, config: RunConfig) -> tuple[Precision, ...]:
        """Return those of its precisions that it has on `machine` with these settings."""
        return self.precisions

    def accelerator_with(self, settings: Mapping[str, Any]) -> str | None:
        """Return the kind of accelerator that it runs on with these settings of a run, None for the CPU."""
        return self.accelerator

    def notes_of(self, config: RunConfig, options: Mapping[str, str]) -> tuple[str, ...]:
        """Return what a reader of a result must know of how this engine ran, which had these options."""
        return ()

    def settings_of(self, config: RunConfig) -> dict[str, str]:
        """Return the engine's own settings, as strings, derived from the run's configuration. Builds depend on them."""
        return {}

    def machine_inputs(self, config: RunConfig, machine: Machine) -> dict[str, str]:
        """Return what of the machine, and of the packages installed on it, a build depends on."""
        on_gpu = self.accelerator_with(msgspec.structs.asdict(config)) and machine.gpus
        return {
            **versions.of_distributions(self.distributions),
            "CPU": f"{machine.cpu.model} {' '.join(machine.cpu.isa)}".strip(),
            **(_gpus(machine) if on_gpu else {}),
        }

    def serves_machines(self, config: RunConfig) -> bool:
        """Tell whether a build with these settings serves other machines, too."""
        return False

    def unfit(self, options: Mapping[str, str]) -> str | None:
        """Say why a build that gave these options does not serve here, though its inputs have not changed."""
        return None

    def run_options(self, config: RunConfig, machine: Machine) -> dict[str, str]:
        """Return what the harness hands to the engine beside what `build` returned; no build depends on it."""
        return {}

    def numa_node_of(self, instance: int, machine: Machine) -> int | None:
        """Return the NUMA node near which an instance computes; None if none is nearer than another."""
        return None

    def build(self, request: BuildRequest, folder: Path) -> dict[str, str]:
        """Build into `folder` and return the options that the harness hands to the engine when it loads.

        An option whose value begins with "./" is a file in `folder`. An engine without a build step keeps a copy
        of the model, so that it stays whole and checked whatever becomes of the original. Raises EngineError with the
        library's own words.
        """
        keep(Path(request.model), folder / MODEL)
        return {"model": f"./{MODEL}"}

    def build_telling(self, request: BuildRequest, folder: Path, tell: Tell) -> dict[str, str]:
        """Build as `build` does, and tell how far it is. By default nothing is told."""
        return self.build(request, folder)

    def remark_on(self, folder: Path) -> str | None:
        """Return what a reader may want to know of a build that is there already; None if there is nothing to say."""
        return None

    def session(
        self, options: Mapping[str, str], inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Mapping[str, Any]]
    ) -> Callable[[Any], Any]:
        """Return a function from the inputs [n, *shape] to the outputs that runs, in Python, what `build` made.

        By default it is the one that the bridge uses. Raises EngineError if the engine cannot be loaded.
        """
        open_session: Callable[..., Callable[[Any], Any]] = import_module(type(self).__module__).open_session
        return open_session(options, inputs, outputs)
