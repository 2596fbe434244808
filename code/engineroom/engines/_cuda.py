"""What the harness's CUDA engines share: on which GPUs their instances run, and how batches get there and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engineroom.engines._plans import graph_sizes
from engineroom.errors import RequestError
from engineroom.terms import Wait

if TYPE_CHECKING:
    from engineroom.config import RunConfig
    from engineroom.detection import Machine

FROM_DEVICE = (
    "The samples lay in GPU memory before the clock ran (start_from_device): MLPerf's rules allow that only where "
    "samples can come from the network straight into it, and with approval beforehand."
)


def check_gpu(engine: str, machine: Machine) -> None:
    """Raise RequestError unless `machine` has a GPU that the engine can use."""
    if not machine.cuda_gpus:
        raise RequestError(
            f"the engine {engine} needs an NVIDIA GPU: {machine.gpu_trouble or 'none is here'}",
            mend=f'run on the CPU: --engine=openvino; make doctor RUN_ARGS="--engine={engine}" says what is missing',
        )


def numa_node_of(instance: int, machine: Machine) -> int | None:
    """Return the NUMA node whose CPUs are near the GPU of an instance, if that is known."""
    gpus = machine.cuda_gpus
    return gpus[instance % len(gpus)].numa_node if gpus else None


def run_options(config: RunConfig, machine: Machine) -> dict[str, str]:
    """Return the options of a run that no build depends on. Instance i runs on gpus[i % n], by CUDA's numbers."""
    count = max(1, len(machine.cuda_gpus))
    sizes = graph_sizes(config.batch_size, config.cuda_graph_sizes) if config.use_graphs else []
    return {
        "gpus": ",".join(map(str, range(count))),
        "copy_streams": str(config.gpu_copy_streams or 1),
        "graph_batch_sizes": ",".join(map(str, sizes)),
        "wait": (config.gpu_wait or Wait.BLOCK).value,
        "start_from_device": str(config.start_from_device).lower(),
    }


def notes_of(config: RunConfig) -> tuple[str, ...]:
    """Return what a reader of a result must know of it."""
    return (FROM_DEVICE,) if config.start_from_device else ()
