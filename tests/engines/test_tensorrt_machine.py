"""Which machines a TensorRT plan is for: what is refused, what a plan is keyed by, what else it serves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tensorrt_examples import CONFIG, GPU

from engineroom import versions
from engineroom.artifacts import Artifact
from engineroom.benchmarks.digits import BENCHMARK
from engineroom.config import RunConfig
from engineroom.detection import Gpu, Machine
from engineroom.detection.machine import GpuDriver, Slice
from engineroom.engines import tensorrt
from engineroom.engines.tensorrt import ENGINE
from engineroom.errors import RequestError
from engineroom.steps import build, recipes
from engineroom.terms import HardwareCompatibility, Precision, Scenario, Wait

# What is refused


def test_a_machine_without_a_gpu_is_refused(machine: Machine) -> None:
    with pytest.raises(RequestError, match=r"needs an NVIDIA GPU: none is here\n.*--engine=openvino"):
        ENGINE.check_machine(machine)
    hidden = replace(machine, gpu_problem='CUDA_VISIBLE_DEVICES="7" hides all GPUs (2 x NVIDIA H200); unset it')
    with pytest.raises(RequestError, match='NVIDIA GPU: CUDA_VISIBLE_DEVICES="7" hides all GPUs'):
        ENGINE.check_machine(hidden)


def test_a_gpu_in_mig_mode_without_a_slice_is_none(gpu_machine: Machine) -> None:
    empty = replace(GPU, mig=True)
    with pytest.raises(RequestError, match=r"NVIDIA GPU: GPU 0 is in MIG mode and has no slice.*\n.*--engine=openvino"):
        ENGINE.check_machine(replace(gpu_machine, gpus=(empty,)))
    beside = replace(gpu_machine, gpus=(empty, replace(GPU, index=1, numa_node=1)))
    ENGINE.check_machine(beside)
    assert ENGINE.run_options(CONFIG, beside)["gpus"] == "0", "CUDA counts those that it shows"
    assert ENGINE.numa_node_of(0, beside) == 1


def test_a_driver_too_old_and_mixed_gpus_are_refused(gpu_machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt, "_cuda_major", lambda: 13)
    ENGINE.check_machine(gpu_machine)
    old = replace(gpu_machine, gpu_driver=GpuDriver("550.54", cuda_version="12.4"))
    with pytest.raises(RequestError, match=r"driver 550\.54 serves CUDA 12\.4; .* CUDA 13\n  install driver 580"):
        ENGINE.check_machine(old)
    with pytest.raises(RequestError, match="one kind of GPU, and these are NVIDIA H200, NVIDIA L4"):
        ENGINE.check_machine(replace(gpu_machine, gpus=(GPU, replace(GPU, name="NVIDIA L4"))))


def test_precisions_are_those_of_the_smallest_gpu(gpu_machine: Machine) -> None:
    assert ENGINE.precisions_on(gpu_machine, CONFIG) == ENGINE.precisions
    turing = replace(gpu_machine, gpus=(replace(GPU, compute_capability="7.5"),))
    assert ENGINE.precisions_on(turing, CONFIG) == (Precision.INT8, Precision.FP16, Precision.FP32)


def test_run_options_are_what_the_harness_reads(gpu_machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt.registry, "folder_of", lambda package: None)
    config = msgspec.structs.replace(
        CONFIG, gpu_copy_streams=2, use_graphs=True, batch_size=24, gpu_wait=Wait.SPIN, start_from_device=True
    )
    assert ENGINE.run_options(config, gpu_machine) == {
        "gpus": "0,1",
        "copy_streams": "2",
        "graph_batch_sizes": "1,2,4,8,16,24",
        "wait": "spin",
        "start_from_device": "true",
    }
    assert "start_from_device" in ENGINE.notes_of(config, {})[0]
    slices = tuple(Slice("1g.18gb", f"MIG-{n}", 16 << 30, n, 0) for n in range(3))
    monkeypatch.setattr(tensorrt.registry, "folder_of", lambda package: Path("/site") / package)
    assert ENGINE.run_options(config, gpu_machine)["libraries"] == "/site/tensorrt_libs"
    split = replace(gpu_machine, gpus=(replace(GPU, mig=True, slices=slices),))
    plain = ENGINE.run_options(msgspec.structs.replace(CONFIG, use_graphs=False), split)
    assert (plain["gpus"], plain["graph_batch_sizes"], plain["wait"]) == ("0", "", "block")


# The key


def inputs(machine: Machine, config: RunConfig = CONFIG) -> dict[str, str]:
    return build.inputs_of(BENCHMARK, config, machine, "0" * 64, "none", recipes.digest(build.RECIPE, "s"))


def test_a_plan_is_for_this_gpu_driver_and_settings_alone(
    gpu_machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ENGINE, "check_installed", lambda: None)
    first = inputs(gpu_machine)
    assert (first["GPU"], first["compute capability"], first["CUDA"]) == ("NVIDIA H200", "9.0", "13.0")
    others = [
        inputs(replace(gpu_machine, gpus=(replace(GPU, name="NVIDIA L4"),))),
        inputs(replace(gpu_machine, gpu_driver=GpuDriver("590.1", cuda_version="13.1"))),
        inputs(gpu_machine, msgspec.structs.replace(CONFIG, builder_optimization_level=5)),
        inputs(gpu_machine, msgspec.structs.replace(CONFIG, workspace_bytes=1 << 30)),
        inputs(replace(gpu_machine, gpus=(replace(GPU, slices=(Slice("1g.18gb", "MIG-0"),)),))),
    ]
    assert all(other != first for other in others)
    same = msgspec.structs.replace(
        CONFIG, scenario=Scenario.SERVER, gpu_copy_streams=4, use_graphs=True, gpu_wait=Wait.SPIN, instances=7
    )
    assert inputs(gpu_machine, same) == first, "how batches travel is no matter of the plan"


def test_one_plan_serves_the_scenarios_that_have_its_settings(
    gpu_machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ENGINE, "check_installed", lambda: None)
    monkeypatch.setattr(build, "ENGINES", tmp_path / "engines")
    monkeypatch.setattr(build, "_make", lambda *_: {"options": {}})

    def made(machine: Machine, **changes: Any) -> Artifact:
        config = msgspec.structs.replace(CONFIG, **changes)
        return build.build(config, inputs(machine, config), lambda: "")

    first = made(gpu_machine)
    assert made(gpu_machine, scenario=Scenario.SERVER).folder == first.folder
    other = made(replace(gpu_machine, gpus=(replace(GPU, name="NVIDIA L4"),)))
    assert not other.reused
    assert other.why == "GPU: NVIDIA H200 -> NVIDIA L4"


L4 = replace(GPU, name="NVIDIA L4", compute_capability="8.9")
T4 = replace(GPU, name="NVIDIA T4", compute_capability="7.5")
H100 = replace(GPU, name="NVIDIA H100 80GB HBM3")


def test_a_compatible_plan_is_for_the_gpus_that_nvidia_says(
    gpu_machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ENGINE, "check_installed", lambda: None)

    def key(level: HardwareCompatibility, gpu: Gpu, driver: str = "580.65", cpu: str = "a CPU") -> dict[str, str]:
        config = msgspec.structs.replace(CONFIG, hardware_compatibility=level, workspace_bytes=None)
        machine = replace(gpu_machine, gpus=(gpu,), gpu_driver=GpuDriver(driver, cuda_version="13.0"))
        return inputs(replace(machine, cpu=replace(machine.cpu, model=cpu)), config)

    ampere, same, none = (
        HardwareCompatibility.AMPERE_PLUS,
        HardwareCompatibility.SAME_COMPUTE_CAPABILITY,
        HardwareCompatibility.NONE,
    )
    assert key(ampere, GPU) == key(ampere, L4, "590.1", "another CPU")
    assert key(ampere, GPU) != key(ampere, T4), "Turing is older than Ampere"
    assert key(same, GPU) == key(same, H100, "590.1") != key(same, L4)
    assert key(none, GPU) != key(none, H100)
    for level, serves in ((ampere, True), (same, True), (none, False)):
        assert ENGINE.serves_machines(msgspec.structs.replace(CONFIG, hardware_compatibility=level)) is serves


def test_mixed_gpus_run_one_plan_where_it_is_built_for_all(gpu_machine: Machine) -> None:
    def check(*gpus: Gpu, level: HardwareCompatibility) -> None:
        config = msgspec.structs.replace(CONFIG, hardware_compatibility=level)
        ENGINE.check_machine(replace(gpu_machine, gpus=gpus), config)

    check(GPU, L4, level=HardwareCompatibility.AMPERE_PLUS)
    check(GPU, H100, level=HardwareCompatibility.SAME_COMPUTE_CAPABILITY)
    with pytest.raises(RequestError, match="these are compute capability 8.9, compute capability 9.0"):
        check(GPU, L4, level=HardwareCompatibility.SAME_COMPUTE_CAPABILITY)
    with pytest.raises(RequestError, match="one kind of GPU, and these are NVIDIA T4, compute capability 8.0 or later"):
        check(GPU, T4, level=HardwareCompatibility.AMPERE_PLUS)


def test_a_plan_for_other_machines_is_found_by_another_system(
    gpu_machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ENGINE, "check_installed", lambda: None)
    monkeypatch.setattr(build, "ENGINES", tmp_path / "engines")
    monkeypatch.setattr(build, "_make", lambda *_: {"options": {}})
    config = msgspec.structs.replace(CONFIG, hardware_compatibility=HardwareCompatibility.AMPERE_PLUS)

    def made(gpu: Gpu, system: str) -> Artifact:
        of_system = msgspec.structs.replace(config, system=system)
        return build.build(of_system, inputs(replace(gpu_machine, gpus=(gpu,)), of_system), lambda: "")

    first = made(GPU, "H200x1")
    assert made(L4, "L4x1").folder == first.folder
    assert made(L4, "L4x1").reused


def test_a_version_compatible_plan_serves_later_versions_and_no_earlier_one(
    gpu_machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ENGINE, "check_installed", lambda: None)
    monkeypatch.setattr(build, "ENGINES", tmp_path / "engines")

    def made(version: str, *, compatible: bool) -> Artifact:
        found = {"tensorrt-cu13": version}
        monkeypatch.setattr(versions, "of_distribution", lambda name: found.get(name, versions.NOT_INSTALLED))
        monkeypatch.setattr(build, "_make", lambda *_: {"options": {"built_with": version}})
        config = msgspec.structs.replace(CONFIG, version_compatible=compatible)
        return build.build(config, inputs(gpu_machine, config), lambda: "")

    assert not made("11.2.0.9", compatible=True).reused
    assert made("11.10.0.1", compatible=True).reused, "a later one of the same major version"
    earlier = made("11.1.0.33", compatible=True)
    assert earlier.why == "TensorRT 11.2.0.9 built it, and 11.1.0.33 is installed"
    assert made("11.2.0.9", compatible=True).reused, "it serves the later one, too"
    assert not made("12.0.0.1", compatible=True).reused
    assert not made("11.2.0.9", compatible=False).reused
    assert not made("11.10.0.1", compatible=False).reused
