"""Named rules that derive a setting which no layer has set. Each returns the value and why, for its origin."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from engineroom.detection import Machine
from engineroom.errors import RequestError
from engineroom.terms import SAMPLES_PER_QUERY_MULTI_STREAM, Scenario

OFFLINE_BATCH_SIZE = 32


@dataclass(frozen=True)
class Context:
    """What a rule may look at: the run's identity, the machine, and whether the benchmark is a quick start."""

    benchmark: str
    scenario: Scenario
    machine: Machine
    quick_start: bool = False


Rule = Callable[[Context, Mapping[str, Any]], tuple[Any, str]]


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
        mend="run on the CPU with --engine=openvino",
    )


def batch_by_scenario(context: Context, values: Mapping[str, Any]) -> tuple[int, str]:
    """Batch as the scenario issues: 1, MultiStream's 8, or enough to keep a CPU core busy."""
    if context.scenario is Scenario.MULTI_STREAM:
        return SAMPLES_PER_QUERY_MULTI_STREAM, "a MultiStream query has 8 samples"
    if context.scenario is Scenario.OFFLINE:
        return OFFLINE_BATCH_SIZE, f"Offline takes {OFFLINE_BATCH_SIZE} unless it is tuned"
    return 1, f"{context.scenario} answers sample by sample unless it is tuned"


def instances_by_cores(context: Context, values: Mapping[str, Any]) -> tuple[int, str]:
    """One instance answers a stream; throughput scenarios get one per usable core."""
    if context.scenario in (Scenario.SINGLE_STREAM, Scenario.MULTI_STREAM):
        return 1, "LoadGen issues one query at a time"
    cores = context.machine.cpu.usable_cores
    return cores, f"one per usable core of {cores}"


def threads_by_cores(context: Context, values: Mapping[str, Any]) -> tuple[int, str]:
    """Share the usable cores among the instances."""
    cores, instances = context.machine.cpu.usable_cores, int(values["instances"])
    return max(1, cores // instances), f"{cores} usable cores, {instances} instances"


# In this order: a later rule may look at what an earlier one has set.
RULES: dict[str, Rule] = {
    "engine": engine_by_machine,
    "batch_size": batch_by_scenario,
    "instances": instances_by_cores,
    "threads_per_instance": threads_by_cores,
}
