"""Named rules that derive a setting which no layer has set. Each returns the value and why, for its origin."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from engineroom import registry
from engineroom.config import fields
from engineroom.detection import Machine
from engineroom.errors import RequestError
from engineroom.terms import SAMPLES_PER_QUERY_MULTI_STREAM, HardwareCompatibility, Precision, Scenario, Wait

CPU_BATCH_SIZE = 32  # Offline: enough to keep a core busy
# The published batches of ResNet-50 that the rules for GPUs are held against (mlcommons/inference_results_v3.0,
# closed/NVIDIA/configs/resnet50): Offline 2,048 on H100 (132 multiprocessors, 25 GB/s each) and A100 (108, 19), 32 on
# L4 (58, 5) and 256 on a slice 1g.10gb of A100 (14); Server 256, 128, 16 and 8.
GPU_BATCH_SIZE = 1024  # Offline, where nothing is known of the GPU
SAMPLES_PER_MULTIPROCESSOR = 16
SLOW_MEMORY = 8e9  # B/s for each multiprocessor; below, a batch whose layers stay in the cache is faster
CACHED_BATCH_SIZE = 32
SERVER_SHARE = 8  # part of the Offline batch: larger ones gain little, and make queries wait
SERVER_BATCH_SIZE_MIN = 16  # unless Offline's is smaller
# What a sample takes in a network, in terms of its own size: a 224 x 224 image in float32 is 0.6 MB, and the two
# largest layers of ResNet-50 together hold 6.4 MB of activations; four times that for wider networks.
ACTIVATIONS = 40
MEMORY_SHARE = 0.25  # of the device's memory that all batches in flight may take by themselves
GPU_INSTANCES = 2  # one copies while the other one computes
COPY_STREAMS = 2  # the same within one instance
WORKSPACE_SHARE = 0.5  # of the GPU's memory; the rest is for weights, batches and other instances
# The two usual ways to ask for the CPU, as detection words them.
HIDDEN_ON_PURPOSE = ('CUDA_VISIBLE_DEVICES="" ', 'CUDA_VISIBLE_DEVICES="-1" ')

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
        gpus = self.machine.cuda_gpus
        if accelerator_of(values) is None or not gpus:
            return 0, ""
        return len(gpus), f"MIG slice of {gpus[0].name}" if gpus[0].slices else gpus[0].name

    @property
    def multiprocessors(self) -> int | None:
        """The multiprocessors of the smallest GPU or slice; None if they are not known."""
        known = [part.multiprocessors for gpu in self.machine.cuda_gpus for part in (gpu.slices or (gpu,))]
        return min((count for count in known if count), default=None)

    def memory_bytes(self, values: Mapping[str, Any]) -> tuple[int, str]:
        """Return the memory that a batch has to fit into, and whose it is: the smallest GPU's or slice's, or ours."""
        if accelerator_of(values) is not None:
            sizes = [part.memory_bytes for gpu in self.machine.cuda_gpus for part in (gpu.slices or (gpu,))]
            if known := [size for size in sizes if size]:
                return min(known), self.devices(values)[1]
        return self.machine.memory_bytes, "this machine"

    def numa_nodes(self) -> int:
        """Return how many NUMA nodes have CPUs that may be used."""
        usable = set(self.machine.cpu.usable)
        return max(1, sum(1 for node in self.machine.numa if usable & set(node.cpus)))


def accelerator_of(values: Mapping[str, Any]) -> str | None:
    """Return the kind of accelerator that the engine runs on with these settings, None for the CPU."""
    kind: str | None = engine_of(values).accelerator_with(values)
    return kind


def engine_of(values: Mapping[str, Any]) -> Any:
    """Return the engine plug-in that the values name; this layer does not know its type."""
    return registry.get("engines", values["engine"], where="engine").load().ENGINE


def engine_by_machine(context: Context, values: Mapping[str, Any]) -> tuple[str, str]:
    """Choose tensorrt with an NVIDIA GPU, else openvino. If tensorrt cannot run, only the quick start may fall back."""
    gpu, problem = gpu_here(context.machine), context.machine.gpu_problem
    if gpu is None:
        return "openvino", f"no NVIDIA GPU is visible{f': {problem}' if problem else ''}"
    lack = _lack_of_tensorrt(context.machine)
    if lack is None:
        return "tensorrt", f"{gpu} is visible"
    if context.quick_start:
        return "openvino", f"the quick start runs on the CPU, though {gpu} is there: {lack.what} ({lack.mend})"
    raise RequestError(
        f"this machine has {gpu}, but {lack.what}",
        where=context.benchmark,
        mend=f"{lack.mend}\n  or run on the CPU with --engine=openvino",
    )


def gpu_here(machine: Machine) -> str | None:
    """Return the name of a GPU that should be usable, whether it is or not; None if none is here, or all are hidden."""
    if machine.gpus:
        return machine.gpus[0].name
    problem = machine.gpu_problem
    return "an NVIDIA GPU" if problem and not problem.startswith(HIDDEN_ON_PURPOSE) else None


def _lack_of_tensorrt(machine: Machine) -> RequestError | None:
    """Return why TensorRT cannot be used on a machine that has GPUs; None if it can."""
    if machine.gpu_trouble:
        tries = ", --engine=tensorrt tries it all the same" if machine.cuda_gpus else ""
        return RequestError(machine.gpu_trouble, mend=f"make doctor says how to mend that{tries}")
    engine = registry.get("engines", "tensorrt").load().ENGINE
    try:
        engine.check_machine(machine)
        engine.check_installed()
    except RequestError as lack:
        return lack
    return None


def instances_by_machine(context: Context, values: Mapping[str, Any]) -> tuple[int, str]:
    """One instance answers a stream. Throughput scenarios get some per GPU, or one per core, even over NUMA nodes."""
    if context.scenario in (Scenario.SINGLE_STREAM, Scenario.MULTI_STREAM):
        return 1, "LoadGen issues one query at a time"
    devices, name = context.devices(values)
    if devices:
        several = 1 if engine_of(values).overlaps_copies else GPU_INSTANCES
        return several * devices, f"{several} per device of {devices}: {name}"
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
    """Batch as the scenario issues: 1, MultiStream's 8; Offline as much as keeps a device busy and fits its memory.

    In Server a GPU takes an eighth of that, whatever waits then; a CPU takes queries one by one.
    """
    if context.scenario is Scenario.MULTI_STREAM:
        return SAMPLES_PER_QUERY_MULTI_STREAM, "a MultiStream query has 8 samples"
    devices, _ = context.devices(values)
    if context.scenario is Scenario.SINGLE_STREAM or (context.scenario is Scenario.SERVER and not devices):
        return 1, f"a {context.scenario} query has 1 sample"
    wanted, enough = _busy(context) if devices else (CPU_BATCH_SIZE, "enough to keep a core busy")
    if context.scenario is Scenario.SERVER:
        least = min(wanted, SERVER_BATCH_SIZE_MIN)
        wanted, enough = max(least, wanted // SERVER_SHARE), f"what a Server gets where Offline {wanted} is {enough}"
    memory, where = context.memory_bytes(values)
    at_once = int(values["instances"]) // max(1, devices) or 1
    share, activations = _memory_of_batches(values)
    free = share * memory - at_once * context.model_bytes
    fitting = int(free / (at_once * activations * context.sample_bytes)) if context.sample_bytes else wanted
    if fitting >= wanted:
        return wanted, f"{enough}, where nothing was tuned"
    room = f"{share:.0%} of the {memory / (1 << 30):.1f} GiB of {where}, beside the model"
    if fitting < 1:
        return 1, f"not even one sample is sure to fit {room}"
    return 1 << (fitting.bit_length() - 1), f"the largest power of two of which {at_once} are sure to fit {room}"


def _memory_of_batches(values: Mapping[str, Any]) -> tuple[float, float]:
    """Return the share of the memory that batches may take, and what a sample takes in terms of its size.

    A GPU that the harness drives holds nothing else but the workspace, and computes in 16 bits unless asked for fp32.
    """
    if not _drives_gpu(values):
        return MEMORY_SHARE, ACTIVATIONS
    return 1 - WORKSPACE_SHARE, ACTIVATIONS if values.get("precision") == Precision.FP32 else ACTIVATIONS / 2


def _busy(context: Context) -> tuple[int, str]:
    """Return an Offline batch by the GPU's multiprocessors and the bandwidth that each of them has."""
    count, gpu = context.multiprocessors, context.machine.cuda_gpus[0]
    if count is None:
        return GPU_BATCH_SIZE, "enough to keep a device busy"
    share = (gpu.memory_bytes_per_s or 0) / (gpu.multiprocessors or count)
    if 0 < share < SLOW_MEMORY:
        return CACHED_BATCH_SIZE, f"small enough for the cache, as memory gives a multiprocessor {share / 1e9:.1f} GB/s"
    return 1 << round(math.log2(count * SAMPLES_PER_MULTIPROCESSOR)), f"enough to keep {count} multiprocessors busy"


def copy_streams_by_scenario(context: Context, values: Mapping[str, Any]) -> tuple[int | None, str]:
    """One batch is copied while another one is computed; LoadGen's streams have one at a time."""
    if not _drives_gpu(values):
        return None, "the engine is not driven by CUDA itself"
    streams = context.scenario in (Scenario.SINGLE_STREAM, Scenario.MULTI_STREAM)
    return (1, "LoadGen issues one query at a time") if streams else (COPY_STREAMS, "one copies, one computes")


def graphs_by_scenario(context: Context, values: Mapping[str, Any]) -> tuple[bool | None, str]:
    """Graphs spare the time to launch each kernel, which counts beside small batches."""
    if not _drives_gpu(values):
        return None, "the engine is not driven by CUDA itself"
    if context.scenario is Scenario.OFFLINE and int(values["batch_size"]) > CACHED_BATCH_SIZE:
        return False, "launching kernels takes little beside batches this large"
    return True, "launching kernels takes long beside small batches"


def wait_by_cores(context: Context, values: Mapping[str, Any]) -> tuple[Wait | None, str]:
    """Spin where a microsecond counts and no other thread needs the core."""
    if not _drives_gpu(values):
        return None, "the engine is not driven by CUDA itself"
    cores, instances = context.cores(values["cpus"]), int(values["instances"])
    if context.scenario is Scenario.OFFLINE:
        return Wait.BLOCK, "latency does not count Offline"
    if cores < 2 * instances:
        return Wait.BLOCK, f"{cores} usable cores are too few for {instances} instances to spin"
    return Wait.SPIN, f"latency counts, and {cores} usable cores are enough for {instances} instances"


def workspace_by_memory(context: Context, values: Mapping[str, Any]) -> tuple[int | None, str]:
    """Half of the GPU's memory: TensorRT itself would take all of it."""
    if values["engine"] != "tensorrt":
        return None, "the engine is not TensorRT"
    if values.get("hardware_compatibility", HardwareCompatibility.NONE) != HardwareCompatibility.NONE:
        return None, "the plan is for other GPUs, too, whose memory is another: TensorRT's own limit"
    size, name = context.memory_bytes(values)
    return max(1 << 20, int(WORKSPACE_SHARE * size) >> 20 << 20), f"{WORKSPACE_SHARE:.0%} of the memory of {name}"


def _drives_gpu(values: Mapping[str, Any]) -> bool:
    return values["engine"] in fields.ON_CUDA


# In this order: a later rule may look at what an earlier one has set.
RULES: dict[str, Rule] = {
    "engine": engine_by_machine,
    "instances": instances_by_machine,
    "threads_per_instance": threads_by_cores,
    "batch_size": batch_by_memory,
    "gpu_copy_streams": copy_streams_by_scenario,
    "use_graphs": graphs_by_scenario,
    "gpu_wait": wait_by_cores,
    "workspace_bytes": workspace_by_memory,
}
