"""Answers with checksums that the GPU computes: what is measured with it is all of a GPU engine but the model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from engineroom import toolkits
from engineroom.engines import BuildRequest, Engine
from engineroom.engines import _cuda as cuda
from engineroom.terms import Precision

if TYPE_CHECKING:
    from collections.abc import Mapping

    from engineroom.config import RunConfig
    from engineroom.detection import Machine


class CudaNull(Engine):
    """Samples travel to the GPU and answers back as with every engine there. Its accuracy is that of guessing."""

    name = "cuda_null"
    native = True
    precisions = (Precision.INT8, Precision.FP8, Precision.BF16, Precision.FP16, Precision.FP32)
    accelerator = "gpu"
    overlaps_copies = True
    measures_model = False
    ignores = ("threads_per_instance", "calibrator")

    def check_installed(self) -> None:
        """Raise RequestError if what the harness's engine is compiled with is not here."""
        super().check_installed()
        toolkits.check_cuda(self.name)

    def check_machine(self, machine: Machine, config: RunConfig | None = None) -> None:
        """Raise RequestError unless there is a GPU."""
        cuda.check_gpu(self.name, machine)

    def run_options(self, config: RunConfig, machine: Machine) -> dict[str, str]:
        """Return on which GPUs the instances run, and how batches travel."""
        return cuda.run_options(config, machine)

    def numa_node_of(self, instance: int, machine: Machine) -> int | None:
        """Return the NUMA node that is near the instance's GPU."""
        return cuda.numa_node_of(instance, machine)

    def notes_of(self, config: RunConfig, options: Mapping[str, str]) -> tuple[str, ...]:
        """Say if the samples began in GPU memory."""
        return cuda.notes_of(config)

    def build(self, request: BuildRequest, folder: Path) -> dict[str, str]:
        """There is nothing to build."""
        return {}


ENGINE = CudaNull()
