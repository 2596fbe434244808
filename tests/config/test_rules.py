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
from engineroom.engines.tensorrt import ENGINE as TENSORRT
from engineroom.errors import RequestError
from engineroom.terms import Scenario, TestMode, Wait

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
    with pytest.raises(RequestError, match=r"this machine has NVIDIA H200, but the engine tensorrt needs") as caught:
        _resolve(machine, Scenario.OFFLINE)
    install, on_cpu = str(caught.value.mend).split("\n  or ")
    assert install == 'install it with: make install RUN_ARGS="--engine=tensorrt"'
    assert on_cpu == "run on the CPU with --engine=openvino"
    assert _resolve(machine, Scenario.OFFLINE, engine="onnxruntime").config.engine == "onnxruntime"


def test_with_tensorrt_a_gpu_is_used(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TENSORRT, "check_installed", lambda: None)
    found = _resolve(replace(machine, gpus=(Gpu("NVIDIA H200"),)), Scenario.OFFLINE)
    assert (found.config.engine, found.origins["engine"].text) == (
        "tensorrt",
        "rule engine_by_machine: NVIDIA H200 is visible",
    )
    mixed = replace(machine, gpus=(Gpu("NVIDIA H200"), Gpu("NVIDIA L4")))
    assert _resolve(mixed, Scenario.OFFLINE, quick_start=True).config.engine == "openvino"
    with pytest.raises(RequestError, match="a plan is for one kind of GPU, and these are NVIDIA H200, NVIDIA L4"):
        _resolve(mixed, Scenario.OFFLINE)


H100 = Gpu("NVIDIA H100", 0, "", 80 << 30, multiprocessors=132, memory_bus_bits=5120, max_memory_mhz=2619)
A100 = Gpu("NVIDIA A100", 0, "", 80 << 30, multiprocessors=108, memory_bus_bits=5120, max_memory_mhz=1593)
L4 = Gpu("NVIDIA L4", 0, "", 24 << 30, multiprocessors=58, memory_bus_bits=192, max_memory_mhz=6251)
A100_SLICE = replace(A100, slices=(Slice("1g.10gb", "MIG-0", 10 << 30, multiprocessors=14),))


@pytest.mark.parametrize(
    ("gpu", "offline", "server"), [(H100, 2048, 256), (A100, 2048, 256), (L4, 32, 16), (A100_SLICE, 256, 32)]
)
def test_batches_on_gpus_follow_multiprocessors_and_bandwidth(gpu: Gpu, offline: int, server: int) -> None:
    """They are the published ones of ResNet-50: Offline exactly, in Server within four times."""
    for scenario, wanted in ((Scenario.OFFLINE, offline), (Scenario.SERVER, server)):
        context = Context("b", scenario, _machine(gpus=(gpu,)), sample_bytes=602_112, model_bytes=102_000_000)
        found = resolve(context, TestMode.PERFORMANCE_ONLY, {"engine": "tensorrt"}, configs=[NOWHERE])
        assert (found.config.batch_size, found.config.instances) == (wanted, 1), found.origins["batch_size"].text


@pytest.mark.parametrize(
    ("scenario", "streams", "graphs", "wait"),
    [
        (Scenario.SINGLE_STREAM, 1, True, Wait.SPIN),
        (Scenario.MULTI_STREAM, 1, True, Wait.SPIN),
        (Scenario.SERVER, 2, True, Wait.SPIN),
        (Scenario.OFFLINE, 2, False, Wait.BLOCK),
    ],
)
def test_how_batches_travel_follows_the_scenario(scenario: Scenario, streams: int, graphs: bool, wait: Wait) -> None:
    found = _resolve(_machine(gpus=(H100,) * 8), scenario, engine="tensorrt").config
    assert (found.gpu_copy_streams, found.use_graphs, found.gpu_wait) == (streams, graphs, wait)
    assert found.workspace_bytes == 40 << 30
    asked = _resolve(_machine(gpus=(H100,)), scenario, engine="tensorrt", use_graphs="false", gpu_copy_streams="7")
    assert (asked.config.use_graphs, asked.config.gpu_copy_streams) == (False, 7)
    assert asked.config.start_from_device is False


def test_a_plan_for_other_gpus_is_not_bound_to_the_memory_of_these() -> None:
    found = _resolve(_machine(gpus=(H100,)), Scenario.OFFLINE, engine="tensorrt", hardware_compatibility="ampere_plus")
    assert found.config.workspace_bytes is None
    assert _resolve(_machine(gpus=(H100,)), Scenario.OFFLINE, engine="tensorrt").config.workspace_bytes


def test_an_engine_on_the_cpu_has_no_settings_of_gpus() -> None:
    found = _resolve(_machine(), Scenario.OFFLINE).config
    assert (found.gpu_copy_streams, found.use_graphs, found.gpu_wait, found.workspace_bytes) == (None,) * 4


def test_few_cores_do_not_spin() -> None:
    found = _resolve(_machine(gpus=(H100,) * 16), Scenario.SERVER, engine="tensorrt")
    assert found.config.gpu_wait is Wait.BLOCK
    assert found.origins["gpu_wait"].text.endswith("20 usable cores are too few for 16 instances to spin")


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
    assert found.config.instances == 2, "a process sees one slice"
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
