"""Where the workers of a test run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from engineroom.actions.execute import cpu_affinity
from engineroom.config import RunConfig
from engineroom.detection import Gpu, Machine
from engineroom.detection.machine import NumaNode, Slice
from engineroom.terms import Precision, Scenario, TestMode

if TYPE_CHECKING:
    from machine_records import Record

CONFIG = RunConfig(
    benchmark="digits",
    system="s",
    scenario=Scenario.OFFLINE,
    test_mode=TestMode.PERFORMANCE_ONLY,
    engine="tensorrt",
    precision=Precision.FP16,
    batch_size=64,
    instances=4,
    threads_per_instance=1,
)


def affinity(machine: Machine, **changes: Any) -> list[list[int]]:
    return cpu_affinity(msgspec.structs.replace(CONFIG, **changes), machine)


@pytest.fixture
def two_nodes(machine: Machine) -> Machine:
    """Return a machine of eight CPUs on two NUMA nodes, with a GPU near the second one and one near the first."""
    numa = (NumaNode(0, (0, 1, 2, 3), 1 << 30), NumaNode(1, (4, 5, 6, 7), 1 << 30))
    gpus = (Gpu("NVIDIA H200", numa_node=1), Gpu("NVIDIA H200", index=1, numa_node=0))
    return replace(machine, numa=numa, gpus=gpus)


@pytest.mark.parametrize("engine", ["tensorrt", "cuda_null"])
def test_workers_run_near_their_gpu(two_nodes: Machine, engine: str) -> None:
    assert affinity(two_nodes, engine=engine) == [[4, 5, 6, 7], [0, 1, 2, 3]] * 2
    assert affinity(two_nodes, engine=engine, cpus=(2, 3, 4)) == [[4], [2, 3]] * 2
    assert affinity(two_nodes, engine=engine, pin_workers=True) == [[4], [0], [5], [1]]
    assert affinity(two_nodes, engine=engine, instances=2, threads_per_instance=5, pin_workers=True) == [
        [4, 5, 6, 7, 0],
        [1, 2, 3],
    ]


def test_where_nothing_is_nearer_workers_run_anywhere(two_nodes: Machine, machine: Machine) -> None:
    gpus = tuple(replace(gpu, numa_node=None) for gpu in two_nodes.gpus)
    assert affinity(replace(two_nodes, gpus=gpus)) == [[]] * 4
    assert affinity(replace(machine, gpus=two_nodes.gpus, numa=(NumaNode(0, tuple(range(8)), 1 << 30),))) == [[]] * 4
    assert affinity(two_nodes, engine="openvino") == [[]] * 4
    assert affinity(two_nodes, engine="openvino", pin_workers=True, threads_per_instance=2) == [
        [0, 1],
        [2, 3],
        [4, 5],
        [6, 7],
    ]


def test_workers_of_a_slice_run_near_its_gpu(two_nodes: Machine) -> None:
    whole, split = two_nodes.gpus[0], replace(two_nodes.gpus[1], slices=(Slice("1g.18gb", "MIG-0"),))
    assert affinity(replace(two_nodes, gpus=(whole, split))) == [[0, 1, 2, 3]] * 4


def test_eight_gpus_of_two_sockets(record: Callable[[str], Record]) -> None:
    dgx = record("dgx_h200").detect()
    found = affinity(dgx, instances=8)
    nodes = {node.number: list(node.cpus) for node in dgx.numa}
    assert len(nodes) == 2
    assert found == [nodes[gpu.numa_node] for gpu in dgx.gpus if gpu.numa_node is not None]
