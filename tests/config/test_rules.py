"""What no layer says is derived from the machine, and the reason is told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engineroom.config import Resolved, resolve
from engineroom.config.rules import Context
from engineroom.detection import Cpu, Gpu, Machine
from engineroom.errors import RequestError
from engineroom.terms import Scenario, TestMode

NOWHERE = Path("/no such folder")


def _resolve(machine: Machine, scenario: Scenario, *, quick_start: bool = False, **overrides: str) -> Resolved:
    context = Context("b", scenario, machine, quick_start=quick_start)
    return resolve(context, TestMode.PERFORMANCE_ONLY, overrides, configs=NOWHERE)


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
    with pytest.raises(
        RequestError, match=r"this machine has NVIDIA H200, but .*\n  run on the CPU with --engine=openvino"
    ):
        _resolve(machine, Scenario.OFFLINE)
    assert _resolve(machine, Scenario.OFFLINE, engine="onnxruntime").config.engine == "onnxruntime"
