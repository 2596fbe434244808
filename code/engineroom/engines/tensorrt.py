"""TensorRT on NVIDIA GPUs: compiles the model to a plan ahead, for the native harness.

A plan is for one version of TensorRT and one kind of GPU, unless it is built to be compatible. It is strongly typed:
its precision is what the ONNX file says. int8 and fp8 are the Q/DQ nodes of the file, with fp16 around them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engineroom import qdq, registry, shell, systems, toolkits, versions
from engineroom.engines import MODEL, BuildRequest, Engine, Tell, keep
from engineroom.engines import _cuda as cuda
from engineroom.engines import _plans as plans
from engineroom.engines import _timing_cache as timing_cache
from engineroom.engines import _trt_builder as builder
from engineroom.errors import EngineError, RequestError
from engineroom.networks import typed
from engineroom.paths import display, write_text
from engineroom.terms import HardwareCompatibility, Precision

if TYPE_CHECKING:
    from engineroom.config import RunConfig
    from engineroom.detection import Machine

QUANTIZED = (Precision.INT8, Precision.FP8)
FACTS = "plan.json"  # what TensorRT says of the plan
COMMAND = "trtexec.sh"
INTO_FOLDER = 'cd "$(dirname "$0")" && '
BY_HAND = "the same plan by hand, in its folder: "
LIBRARIES = "tensorrt_libs"  # the package in which pip's wheel has TensorRT's libraries
# By the major version of CUDA that TensorRT is made for, the oldest driver branch (NVIDIA, "CUDA Compatibility").
DRIVERS = {12: 525, 13: 580}


class TensorRt(Engine):
    """One plan serves every scenario that builds it with the same settings. Native in the harness."""

    name = "tensorrt"
    native = True
    precisions = (Precision.INT8, Precision.FP8, Precision.BF16, Precision.FP16, Precision.FP32)
    modules = ("tensorrt",)
    distributions = ("tensorrt", "tensorrt-cu12", "tensorrt-cu13")
    sources = tuple(Path(str(each.__file__)) for each in (plans, builder, qdq, typed))
    accelerator = "gpu"
    overlaps_copies = True
    serves_scenarios = True
    ignores = ("threads_per_instance",)

    def check_installed(self) -> None:
        """Raise RequestError if TensorRT is not here, or what the harness's part of this engine is compiled with."""
        super().check_installed()
        toolkits.check_cuda(self.name)
        toolkits.check_tensorrt(self.name, self.installed_version)

    @property
    def installed_version(self) -> str | None:
        """The version of the Python package that builds plans; None if none says it."""
        found = versions.of_distributions(self.distributions).values()
        return next((version for version in found if version != versions.NOT_INSTALLED), None)

    def precisions_on(self, machine: Machine, config: RunConfig) -> tuple[Precision, ...]:
        """Return those that every GPU computes in; all where their compute capability is not known."""
        known = [plans.capability_of(gpu) for gpu in machine.cuda_gpus]
        return tuple(
            each
            for each in self.precisions
            if all(capability is None or capability >= plans.CAPABILITIES[each] for capability in known)
        )

    def check_machine(self, machine: Machine, config: RunConfig | None = None) -> None:
        """Raise RequestError unless one plan serves all GPUs, and the driver serves the CUDA of this TensorRT."""
        cuda.check_gpu(self.name, machine)
        level = config.hardware_compatibility if config else HardwareCompatibility.NONE
        if len(kinds := plans.kinds_of(machine.cuda_gpus, level)) > 1:
            raise RequestError(
                f"a plan is for one kind of GPU, and these are {', '.join(kinds)}",
                mend="name those of one kind: CUDA_VISIBLE_DEVICES=0,1; "
                f"or add --engine={self.name} --hardware_compatibility=ampere_plus",
            )
        driver, major = machine.gpu_driver, _cuda_major()
        serves = int((driver.cuda_version or "0").partition(".")[0]) if driver else 0
        if driver and major and 0 < serves < major:
            raise RequestError(
                f"driver {driver.version} serves CUDA {driver.cuda_version}; this TensorRT is made for CUDA {major}",
                mend=f"install driver {DRIVERS.get(major, 'of a newer branch')} or newer, or tensorrt-cu{serves}",
            )

    def settings_of(self, config: RunConfig) -> dict[str, str]:
        """Return what the plan depends on; how batches travel at run time is not among it."""
        return plans.BuildSettings(
            builder_optimization_level=config.builder_optimization_level,
            workspace_bytes=config.workspace_bytes,
            version_compatible=config.version_compatible,
            hardware_compatibility=config.hardware_compatibility,
            detailed_profiling=config.detailed_profiling,
        ).as_text()

    def machine_inputs(self, config: RunConfig, machine: Machine) -> dict[str, str]:
        """Return what the plan is bound to: GPU, driver and versions as they are, or what it is to be compatible with.

        NVIDIA, "Engine Compatibility": a plan runs on other GPUs and with later TensorRTs only if it is built for that,
        and never on another platform.
        """
        exact = super().machine_inputs(config, machine)
        packages = {name: exact.pop(name) for name in self.distributions}
        if config.version_compatible:
            packages = {"TensorRT": f"{(self.installed_version or 'unknown').partition('.')[0]}, version-compatible"}
        if self.serves_machines(config):
            kinds = plans.kinds_of(machine.cuda_gpus, config.hardware_compatibility)
            exact = {"platform": machine.cpu.architecture, "GPU": ", ".join(kinds)}
        return {**packages, **exact}

    def serves_machines(self, config: RunConfig) -> bool:
        """Tell whether the plan is built for other GPUs than those that are here, too."""
        return config.hardware_compatibility is not HardwareCompatibility.NONE

    def unfit(self, options: Mapping[str, str]) -> str | None:
        """Say that a version-compatible plan is of a later TensorRT: it runs on those from its own on."""
        built_with, installed = options.get("built_with"), self.installed_version
        if built_with and installed and _numbers(built_with) > _numbers(installed):
            return f"TensorRT {built_with} built it, and {installed} is installed"
        return None

    def run_options(self, config: RunConfig, machine: Machine) -> dict[str, str]:
        """Return on which GPUs the instances run, how batches travel, and where the library is that builds plans."""
        folder = registry.folder_of(LIBRARIES)
        return {**cuda.run_options(config, machine), **({"libraries": str(folder)} if folder else {})}

    def numa_node_of(self, instance: int, machine: Machine) -> int | None:
        """Return the NUMA node that is near the instance's GPU."""
        return cuda.numa_node_of(instance, machine)

    def notes_of(self, config: RunConfig, options: Mapping[str, str]) -> tuple[str, ...]:
        """Say if the samples began in GPU memory."""
        return cuda.notes_of(config)

    def build(self, request: BuildRequest, folder: Path) -> dict[str, str]:
        """Build as `build_telling` does, and tell nobody."""
        return self.build_telling(request, folder, lambda done, text: True)

    def build_telling(self, request: BuildRequest, folder: Path, tell: Tell) -> dict[str, str]:
        """Write the plan, the ONNX file that it is made from, the same as a command of trtexec, and facts of it.

        Raises EngineError for a Q/DQ model against TensorRT's rules, a model that cannot be said in the precision, and
        with TensorRT's words.
        """
        source, model, settings = Path(request.model), folder / MODEL, plans.BuildSettings.of(request.settings)
        if request.precision in QUANTIZED:
            _check_quantized(source, request.precision)
        if dtype := plans.FLOATS[request.precision]:
            typed.write(source, model, dtype)
        else:
            keep(source, model)
        content = qdq.read_model(model)
        shapes = plans.shapes_of(request, content)
        cache = timing_cache.TimingCache(_timed_on())
        by_hand = shell.quoted(
            plans.trtexec(Path(MODEL), Path("trtexec.plan"), shapes, settings, Path("trtexec.cache"))
        )
        write_text(folder / COMMAND, f"#!/bin/sh\n# Builds the same plan by trtexec.\n{INTO_FOLDER}{by_hand}\n")
        tell(None, f"{BY_HAND}{by_hand}")
        facts = builder.build(model, content, shapes, settings, cache, tell)
        write_text(folder / FACTS, json.dumps({**facts, **_timed_on()}, indent=1) + "\n")
        return {
            "plan": f"./{builder.PLAN}",
            "built_with": facts["TensorRT"],
            "context_bytes": facts["context_bytes"],
        }

    def remark_on(self, folder: Path) -> str | None:
        """Return the command of trtexec that builds the plan in `folder`."""
        try:
            said = (folder / COMMAND).read_text(encoding="utf-8").partition(INTO_FOLDER)[2].strip()
        except OSError:
            return None
        return f"{BY_HAND}{said}" if said else None

    def session(
        self, options: Mapping[str, str], inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Mapping[str, Any]]
    ) -> Callable[[Any], Any]:
        """Run the plan in Python by cuda-python."""
        from engineroom.engines import _trt_session

        return _trt_session.open_session(options, inputs, outputs)


def _check_quantized(model: Path, precision: Precision) -> None:
    """Raise EngineError with every rule of TensorRT's that a Q/DQ model breaks."""
    if broken := qdq.violations(model, qdq.FLOAT8 if precision is Precision.FP8 else qdq.INT8):
        listed = "".join(f"\n  {each}" for each in broken)
        raise EngineError(
            f"breaks TensorRT's rules for {precision}:{listed}",
            where=display(model),
            mend="make calibrate writes a model that keeps them",
        )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdecimal())


def _cuda_major() -> int | None:
    """Return the CUDA that the installed TensorRT is made for, where its package says it."""
    return next(
        (major for major in DRIVERS if versions.of_distribution(f"tensorrt-cu{major}") != versions.NOT_INSTALLED), None
    )


def _timed_on() -> dict[str, str]:
    """Return what the speed of a kernel depends on: this GPU, driver and TensorRT, as far as they are known."""
    machine = systems.detect()
    gpu, driver = next(iter(machine.cuda_gpus), None), machine.gpu_driver
    return {
        "TensorRT": getattr(builder.imported(), "__version__", "unknown"),
        "GPU": gpu.name if gpu else "unknown",
        "compute capability": (gpu.compute_capability if gpu else None) or "unknown",
        "MIG": ", ".join(sorted({part.profile for part in gpu.slices})) if gpu else "",
        "driver": driver.version if driver else "unknown",
        "CUDA": (driver.cuda_version if driver else None) or "unknown",
    }


ENGINE = TensorRt()
