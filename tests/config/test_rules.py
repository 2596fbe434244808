"""What no layer says is derived from the machine, and the reason is told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engineroom.config import Resolved, resolve
from engineroom.config.rules import Context
from engineroom.detection import Cpu, Gpu, Machine
from engineroom.detection.machine import NumaNode, Slice
from engineroom.errors import RequestError
from engineroom.terms import Scenario, TestMode

NOWHERE = Path("/no such folder")


def _resolve(machine: Machine, scenario: Scenario, *, quick_start: bool = False, **overrides: str) -> Resolved:
    context = Context("b", scenario, machine, quick_start=quick_start)
    return resolve(context, TestMode.PERFORMANCE_ONLY, overrides, configs=[NOWHERE])


@pytest.mark.parametrize(
    ("scenario", "batch_size", "instances", "threads"),
    [
        (Scenario.SINGLE_STREAM, 1, 1, 4),
        (Scenario.MULTI_STREAM, 8, 1, 4),
        (Scenario.SERVER, 1, 4, 1),
        (Scenario.OFFLINE, 32, 4, 1),
    ],
)
def test_streams_get_all_cores_and_throughput_gets_an_instance_per_core(
    machine: Machine, scenario: Scenario, batch_size: int, instances: int, threads: int
) -> None:
    found = _resolve(machine, scenario).config
    assert (found.batch_size, found.instances, found.threads_per_instance) == (batch_size, instances, threads)


@given(st.integers(1, 512), st.sampled_from(Scenario), st.integers(1, 4096))
def test_derived_threads_never_outnumber_the_cores(cores: int, scenario: Scenario, instances: int) -> None:
    machine = Machine(Cpu("CPU", cores=cores, usable_cores=cores), 1 << 30, system="s")
    derived = _resolve(machine, scenario).config
    assert 1 <= derived.instances * derived.threads_per_instance <= cores
    asked = _resolve(machine, scenario, instances=str(instances)).config
    assert asked.instances == instances
    assert 1 <= asked.threads_per_instance <= max(1, cores // instances)


def test_without_a_gpu_the_engine_is_openvino(machine: Machine) -> None:
    assert _resolve(machine, Scenario.OFFLINE).config.engine == "openvino"


def test_with_a_gpu_only_the_quick_start_falls_back_to_the_cpu(machine: Machine) -> None:
    machine = replace(machine, gpus=(Gpu("NVIDIA H200"),))
    found = _resolve(machine, Scenario.OFFLINE, quick_start=True)
    assert found.config.engine == "openvino"
    assert "NVIDIA H200" in found.origins["engine"].text
    with pytest.raises(RequestError, match=r"this machine has NVIDIA H200, but no tensorrt engine") as caught:
        _resolve(machine, Scenario.OFFLINE)
    on_gpu, on_cpu = str(caught.value.mend).split(", or ")
    assert on_gpu == 'run on the GPU with --engine=torch (make install RUN_ARGS="--engine=torch" installs it)'
    assert on_cpu == "on the CPU with --engine=openvino"
    assert _resolve(machine, Scenario.OFFLINE, engine="onnxruntime").config.engine == "onnxruntime"


@pytest.fixture
def gpu_engine() -> str:
    """Return the name of an engine that runs on GPUs where there are any."""
    return "torch"


def _machine(**changes: Any) -> Machine:
    nodes = (NumaNode(0, tuple(range(10)), 64 << 30), NumaNode(1, tuple(range(10, 20)), 64 << 30))
    cpu = Cpu("CPU", sockets=2, cores=20, threads=20, usable=tuple(range(20)), usable_cores=20)
    return replace(Machine(cpu, 128 << 30, system="s", numa=nodes), **changes)


def test_gpus_and_slices_get_instances_each(gpu_engine: str) -> None:
    gpu = Gpu("NVIDIA H200", memory_bytes=140 << 30)
    found = _resolve(_machine(gpus=(gpu,) * 8), Scenario.OFFLINE, engine=gpu_engine)
    assert (found.config.instances, found.config.batch_size) == (16, 1024)
    assert found.origins["instances"].text == "rule instances_by_machine: 2 per device of 8: NVIDIA H200"
    slices = tuple(Slice("1g.18gb", f"MIG-{n}", 16 << 30, n, 0) for n in range(3))
    found = _resolve(_machine(gpus=(replace(gpu, mig=True, slices=slices),)), Scenario.OFFLINE, engine=gpu_engine)
    assert found.config.instances == 6
    assert _resolve(_machine(gpus=(gpu,) * 8), Scenario.SINGLE_STREAM, engine=gpu_engine).config.instances == 1


def test_onnxruntime_is_on_gpus_with_the_provider_that_is() -> None:
    machine = _machine(gpus=(Gpu("NVIDIA L4", memory_bytes=24 << 30),))
    on_cpu = _resolve(machine, Scenario.OFFLINE, engine="onnxruntime")
    assert (on_cpu.config.instances, on_cpu.config.batch_size) == (20, 32)
    for provider in ("cuda", "tensorrt"):
        on_gpu = _resolve(machine, Scenario.OFFLINE, engine="onnxruntime", execution_provider=provider)
        assert (on_gpu.config.instances, on_gpu.config.batch_size) == (2, 1024)


def test_instances_are_even_over_numa_nodes() -> None:
    assert _resolve(_machine(), Scenario.OFFLINE).config.instances == 20
    nodes = tuple(NumaNode(n, tuple(range(n * 7, n * 7 + 7)), 1 << 30) for n in range(3))
    machine = _machine(numa=nodes)
    found = _resolve(machine, Scenario.OFFLINE)
    assert found.config.instances == 18
    assert found.origins["instances"].text.endswith("6 per NUMA node of 3, with 20 usable cores")
    one_node = replace(machine, cpu=replace(machine.cpu, usable=(0, 1, 2), usable_cores=3))
    assert _resolve(one_node, Scenario.OFFLINE).config.instances == 3


def test_instances_leave_room_for_the_threads_that_were_asked_for() -> None:
    found = _resolve(_machine(numa=()), Scenario.OFFLINE, threads_per_instance="4")
    assert (found.config.instances, found.warnings) == (5, ())
    assert found.origins["instances"].text.endswith(": 20 usable cores, 4 threads each")
    assert _resolve(_machine(), Scenario.OFFLINE, threads_per_instance="3").config.instances == 6, "on two NUMA nodes"
    assert _resolve(_machine(), Scenario.OFFLINE, threads_per_instance="64").config.instances == 1


def test_the_reason_for_a_batch_is_true() -> None:
    def why(sample_bytes: int, memory: int) -> tuple[int, str]:
        context = Context("b", Scenario.OFFLINE, _machine(memory_bytes=memory, numa=()), sample_bytes=sample_bytes)
        found = resolve(context, TestMode.PERFORMANCE_ONLY, {}, configs=[NOWHERE])
        return found.config.batch_size, found.origins["batch_size"].text.removeprefix("rule batch_by_memory: ")

    assert why(1, 1 << 30) == (32, "enough to keep a core busy, where nothing was tuned")
    assert why(1 << 16, 1 << 30) == (
        4,
        "the largest power of two of which 20 are sure to fit 25% of the 1.0 GiB of this machine, beside the model",
    )
    assert why(1 << 30, 1 << 30) == (
        1,
        "not even one sample is sure to fit 25% of the 1.0 GiB of this machine, beside the model",
    )


def test_the_cpus_asked_for_count_as_cores() -> None:
    machine = _machine(cpu=Cpu("CPU", cores=4, threads=8, usable=tuple(range(8)), usable_cores=4), numa=())
    assert _resolve(machine, Scenario.OFFLINE, cpus="0-3").config.instances == 2
    assert _resolve(machine, Scenario.OFFLINE, cpus="").config.instances == 4


@given(st.integers(1 << 20, 1 << 40), st.integers(1, 1 << 24), st.integers(0, 1 << 34))
def test_the_derived_batch_fits_the_memory(memory: int, sample_bytes: int, model_bytes: int) -> None:
    machine = _machine(memory_bytes=memory)
    context = Context("b", Scenario.OFFLINE, machine, sample_bytes=sample_bytes, model_bytes=model_bytes)
    config = resolve(context, TestMode.PERFORMANCE_ONLY, {}, configs=[NOWHERE]).config
    assert config.batch_size in (1, 2, 4, 8, 16, 32)
    needed = config.instances * (config.batch_size * sample_bytes + model_bytes)
    assert config.batch_size == 1 or needed < memory
    more = resolve(replace(context, sample_bytes=2 * sample_bytes), TestMode.PERFORMANCE_ONLY, {}, configs=[NOWHERE])
    assert more.config.batch_size <= config.batch_size
