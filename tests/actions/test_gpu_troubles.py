"""A GPU that is there and cannot be used: the quick start goes on without it and says so, any other benchmark stops."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from engineroom import registry
from engineroom.actions.work import Work
from engineroom.detection import Machine, detect
from engineroom.detection.machine import GpuDriver
from engineroom.engines import tensorrt
from engineroom.errors import ExitCode, RequestError
from engineroom.run_args import Request
from engineroom.terms import Scenario, TestMode

Records = Callable[[str], Any]
GPU_IS_LOST, RESET_REQUIRED = 15, 16  # of NVML; the second is what an ECC error that cannot be corrected leaves behind


def silent(record: Any, code: int, **environ: str) -> Machine:
    """Return a machine of which the first GPU does not answer."""
    double = record.nvml()
    handles = iter(range(8))

    def refuse(function: str) -> int | None:
        return code if function == "nvmlDeviceGetHandleByIndex" and next(handles) == 0 else None

    double.refuse = refuse
    return detect(record.root, environ=environ, nvml=double)


def without_slices(machine: Machine) -> Machine:
    return replace(machine, gpus=tuple(replace(gpu, mig=True, slices=()) for gpu in machine.gpus))


# What is wrong: the machine, which GPU it names, what is said of it, and how it is mended.
TROUBLES: dict[str, tuple[Callable[[Records], Machine], str, str, str]] = {
    "TensorRT not installed": (
        lambda record: record("dgx_h200").detect(),
        "NVIDIA H200",
        "the engine tensorrt needs tensorrt, not installed here",
        'make install RUN_ARGS="--engine=tensorrt"',
    ),
    "driver too old": (
        lambda record: replace(record("dgx_h200").detect(), gpu_driver=GpuDriver("550.54", cuda_version="12.4")),
        "NVIDIA H200",
        "driver 550.54 serves CUDA 12.4; this TensorRT is made for CUDA 13",
        "install driver 580 or newer",
    ),
    "CUDA_VISIBLE_DEVICES names nothing": (
        lambda record: record("dgx_h200").detect(CUDA_VISIBLE_DEVICES="9"),
        "an NVIDIA GPU",
        'CUDA_VISIBLE_DEVICES="9" hides all GPUs (8 x NVIDIA H200); unset it to use them',
        "make doctor",
    ),
    "MIG slice removed": (
        lambda record: record("h200_mig").detect(CUDA_VISIBLE_DEVICES="MIG-00000099-0000-4000-8000-000000000099"),
        "an NVIDIA GPU",
        "hides all GPUs (1 x NVIDIA H200); unset it to use them",
        "make doctor",
    ),
    "all MIG slices removed": (
        lambda record: without_slices(record("h200_mig").detect()),
        "NVIDIA H200",
        "GPU 0 is in MIG mode and has no slice, so that nothing can run there",
        "make doctor",
    ),
    "no NVML and no nvidia-smi": (
        lambda record: record("one_h200").detect(),
        "NVIDIA H200",
        "its library libnvidia-ml.so.1 is not found",
        "make doctor says how to mend that, --engine=tensorrt tries it all the same",
    ),
    "GPU lost": (
        lambda record: silent(record("dgx_h200"), GPU_IS_LOST),
        "NVIDIA H200",
        "GPU 0 does not answer (GPU is lost)",
        "make doctor",
    ),
    "ECC error": (
        lambda record: silent(record("dgx_h200"), RESET_REQUIRED),
        "NVIDIA H200",
        "GPU 0 does not answer",
        "make doctor",
    ),
}


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have TensorRT installed, for the drivers of the records, whether it is here or not."""
    monkeypatch.setattr(tensorrt.ENGINE, "check_installed", lambda: None)
    monkeypatch.setattr(tensorrt, "_cuda_major", lambda: 12)


@pytest.fixture(params=TROUBLES)
def trouble(
    request: pytest.FixtureRequest, record: Records, monkeypatch: pytest.MonkeyPatch
) -> tuple[Machine, str, str, str]:
    """Return a machine in trouble, and the words on it."""
    make, gpu, said, mend = TROUBLES[request.param]
    if request.param == "TensorRT not installed":
        monkeypatch.undo()
        monkeypatch.setattr(tensorrt, "_cuda_major", lambda: None)
        monkeypatch.setattr(registry, "missing", lambda modules: modules)
    if request.param == "driver too old":
        monkeypatch.setattr(tensorrt, "_cuda_major", lambda: 13)
    return make(record), gpu, said, mend


def engine_of(benchmark: str, machine: Machine, **overrides: str) -> str:
    """Return the engine on which a benchmark runs."""
    named = registry.get("benchmarks", benchmark).load().BENCHMARK
    work = Work(named, Request(overrides=overrides), replace(machine, system="test_system"))
    return work.resolve(Scenario.OFFLINE, TestMode.PERFORMANCE_ONLY).config.engine


def test_the_quick_start_runs_on_the_cpu_under_a_warning(
    trouble: tuple[Machine, str, str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    machine, *words = trouble
    assert engine_of("digits", machine) == "openvino"
    warned = " ".join(capsys.readouterr().err.split())
    assert warned.startswith("warning: the quick start runs on the CPU, though ")
    for part in (*words, "--engine=openvino says so without this warning"):
        assert part in warned


def test_another_benchmark_stops_with_the_reason_and_both_ways_out(trouble: tuple[Machine, str, str, str]) -> None:
    machine, gpu, said, mend = trouble
    with pytest.raises(RequestError) as caught:
        engine_of("resnet50", machine)
    assert caught.value.code is ExitCode.REQUEST
    assert caught.value.what.startswith(f"this machine has {gpu}, but ")
    assert said in caught.value.what
    ways = str(caught.value.mend).split("\n  ")
    assert mend in ways[0]
    assert ways[-1] == "or run on the CPU with --engine=openvino"


def test_an_engine_that_was_asked_for_is_taken_without_a_word(
    trouble: tuple[Machine, str, str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    machine, *_ = trouble
    for benchmark in ("digits", "resnet50"):
        assert engine_of(benchmark, machine, engine="openvino") == "openvino"
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("wanted", ["", "-1"])
def test_gpus_that_are_hidden_on_purpose_are_no_trouble(
    record: Records, capsys: pytest.CaptureFixture[str], wanted: str
) -> None:
    machine = record("dgx_h200").detect(CUDA_VISIBLE_DEVICES=wanted)
    for benchmark in ("digits", "resnet50"):
        assert engine_of(benchmark, machine) == "openvino"
    assert capsys.readouterr().err == ""


def test_a_lost_gpu_that_is_hidden_hinders_nobody(record: Records) -> None:
    machine = silent(record("dgx_h200"), GPU_IS_LOST, CUDA_VISIBLE_DEVICES="1,2")
    assert machine.gpu_problem is None
    assert engine_of("resnet50", machine) == "tensorrt"


def test_a_jetson_works_without_nvml(record: Records) -> None:
    assert engine_of("resnet50", record("jetson_agx_orin").detect()) == "tensorrt"
