"""Named rules that derive a setting which no layer has set. Each returns the value and why, for its origin."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from engineroom import registry
from engineroom.detection import Machine
from engineroom.errors import RequestError
from engineroom.terms import SAMPLES_PER_QUERY_MULTI_STREAM, Scenario

CPU_BATCH_SIZE = 32  # Offline: enough to keep a core busy
GPU_BATCH_SIZE = 1024  # Offline: published results of ResNet-50 on H100 to A100 use 2,048, on L4 32
# What a sample takes in a network, in terms of its own size: a 224 x 224 image in float32 is 0.6 MB, and the two
# largest layers of ResNet-50 together hold 6.4 MB of activations; four times that for wider networks.
ACTIVATIONS = 40
MEMORY_SHARE = 0.25  # of the device's memory that all batches in flight may take by themselves
GPU_INSTANCES = 2  # one copies while the other one computes

Rule = Callable[["Context", Mapping[str, Any]], tuple[Any, str]]


@dataclass(frozen=True)
class Context:
    """What a rule may look at: the run's identity, the machine, and facts of the benchmark.

    `sample_bytes` is one sample's inputs and outputs, `model_bytes` the float model. `benchmark_settings` are the
    benchmark's own, section by section, as a settings file has them.
    """

    benchmark: str
    scenario: Scenario
    machine: Machine
    quick_start: bool = False
    sample_bytes: int = 0
    model_bytes: int = 0
    benchmark_settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def cores(self, cpus: tuple[int, ...] = ()) -> int:
        """Return how many physical cores may be used: all usable ones, or as many as `cpus` amount to."""
        cpu = self.machine.cpu
        if not cpus:
            return cpu.usable_cores
        return max(1, min(cpu.usable_cores, len(cpus) * cpu.cores // max(1, cpu.threads)))

    def devices(self, values: Mapping[str, Any]) -> tuple[int, str]:
        """Return how many accelerators the engine can use, and their name; (0, "") for an engine on the CPU."""
        if accelerator_of(values) is None or not self.machine.gpus:
            return 0, ""
        slices = [part for gpu in self.machine.gpus for part in gpu.slices]
        if slices:
            return len(slices), f"MIG slices of {self.machine.gpus[0].name}"
        return len(self.machine.gpus), self.machine.gpus[0].name

    def memory_bytes(self, values: Mapping[str, Any]) -> tuple[int, str]:
        """Return the memory that a batch has to fit into, and whose it is: the smallest GPU's or slice's, or ours."""
        if accelerator_of(values) is not None:
            sizes = [
                size
                for gpu in self.machine.gpus
                for size in (*(part.memory_bytes for part in gpu.slices), *(() if gpu.slices else (gpu.memory_bytes,)))
                if size
            ]
            if sizes:
                return min(sizes), self.devices(values)[1]
        return self.machine.memory_bytes, "this machine"

    def numa_nodes(self) -> int:
        """Return how many NUMA nodes have CPUs that may be used."""
        usable = set(self.machine.cpu.usable)
        return max(1, sum(1 for node in self.machine.numa if usable & set(node.cpus)))


def accelerator_of(values: Mapping[str, Any]) -> str | None:
    """Return the kind of accelerator that the engine runs on with these settings, None for the CPU."""
    kind: str | None = registry.get("engines", values["engine"], where="engine").load().ENGINE.accelerator_with(values)
    return kind


def engine_by_machine(context: Context, values: Mapping[str, Any]) -> tuple[str, str]:
    """Choose openvino without an NVIDIA GPU. With one, only the quick start may fall back to the CPU."""
    if not context.machine.gpus:
        return "openvino", "no NVIDIA GPU is visible"
    gpu = context.machine.gpus[0].name
    if context.quick_start:
        return "openvino", f"the quick start runs on the CPU, though {gpu} is there: no tensorrt engine is available"
    raise RequestError(
        f"this machine has {gpu}, but no tensorrt engine is available",
        where=context.benchmark,
        mend='run on the GPU with --engine=torch (make install RUN_ARGS="--engine=torch" installs it), '
        "or on the CPU with --engine=openvino",
    )


def instances_by_machine(context: Context, values: Mapping[str, Any]) -> tuple[int, str]:
    """One instance answers a stream. Throughput scenarios get some per GPU, or one per core, even over NUMA nodes."""
    if context.scenario in (Scenario.SINGLE_STREAM, Scenario.MULTI_STREAM):
        return 1, "LoadGen issues one query at a time"
    devices, name = context.devices(values)
    if devices:
        return GPU_INSTANCES * devices, f"{GPU_INSTANCES} per device of {devices}: {name}"
    cores, nodes = context.cores(values["cpus"]), context.numa_nodes()
    threads = values.get("threads_per_instance") or 1
    places, each = max(1, cores // threads), f", {threads} threads each" if threads > 1 else ""
    if values["cpus"] or nodes == 1 or places < nodes:
        return places, f"{cores} usable cores{each}" if each else f"one per usable core of {cores}"
    return places // nodes * nodes, f"{places // nodes} per NUMA node of {nodes}, with {cores} usable cores{each}"


def threads_by_cores(context: Context, values: Mapping[str, Any]) -> tuple[int, str]:
    """Share the usable cores among the instances."""
    cores, instances = context.cores(values["cpus"]), int(values["instances"])
    return max(1, cores // instances), f"{cores} usable cores, {instances} instances"


def batch_by_memory(context: Context, values: Mapping[str, Any]) -> tuple[int, str]:
    """Batch as the scenario issues: 1, MultiStream's 8; Offline as much as keeps a device busy and fits its memory."""
    if context.scenario is Scenario.MULTI_STREAM:
        return SAMPLES_PER_QUERY_MULTI_STREAM, "a MultiStream query has 8 samples"
    if context.scenario is not Scenario.OFFLINE:
        return 1, f"a {context.scenario} query has 1 sample"
    devices, _ = context.devices(values)
    wanted = GPU_BATCH_SIZE if devices else CPU_BATCH_SIZE
    memory, where = context.memory_bytes(values)
    at_once = int(values["instances"]) // max(1, devices) or 1
    free = MEMORY_SHARE * memory - at_once * context.model_bytes
    fitting = int(free / (at_once * ACTIVATIONS * context.sample_bytes)) if context.sample_bytes else wanted
    if fitting >= wanted:
        return wanted, f"enough to keep a {'device' if devices else 'core'} busy, where nothing was tuned"
    room = f"{MEMORY_SHARE:.0%} of the {memory / (1 << 30):.1f} GiB of {where}, beside the model"
    if fitting < 1:
        return 1, f"not even one sample is sure to fit {room}"
    return 1 << (fitting.bit_length() - 1), f"the largest power of two of which {at_once} are sure to fit {room}"


# In this order: a later rule may look at what an earlier one has set.
RULES: dict[str, Rule] = {
    "engine": engine_by_machine,
    "instances": instances_by_machine,
    "threads_per_instance": threads_by_cores,
    "batch_size": batch_by_memory,
}
