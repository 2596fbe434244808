"""The doctor judges machines that are not here: it names each trouble and a command; only what is needed fails."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.text import Text

from engineroom import detection, terminal
from engineroom.detection import Cpu, Gpu, Machine
from engineroom.detection.machine import Container, GpuDriver, Limits, Slice
from engineroom.errors import RequestError
from engineroom.steps.doctor import Needs, checks, gpus, look, of_machine, show
from engineroom.steps.doctor.check import Check, State, advice, good, missing, run
from engineroom.steps.doctor.checks import Compiled, Docker, Folder, Plugin, Room

GIB = 1 << 30
H200 = Gpu("NVIDIA H200", memory_bytes=140 * GIB, mig=False)
SPLIT = replace(
    H200, mig=True, slices=(Slice("3g.71gb", "MIG-a"), Slice("1g.18gb+me", "MIG-b"), Slice("1g.18gb+me", "c"))
)


def _with_gpus(machine: Machine, *gpus: Gpu, cuda: str = "12.4") -> Machine:
    numbered = tuple(replace(gpu, index=index) for index, gpu in enumerate(gpus))
    return replace(machine, gpus=numbered, gpu_driver=GpuDriver("550.54.14", cuda))


# Running them


def _broken() -> Check:
    raise ZeroDivisionError("division by zero")


def _refused() -> Check:
    raise RequestError("no such file", where="configs/x.yaml", mend="write it")


def test_every_check_runs_whatever_becomes_of_another() -> None:
    found = run({"a": _broken, "b": _refused, "c": lambda: good("fine")})
    assert list(found) == ["a", "b", "c"]
    assert found["a"].state is State.ADVICE and "this check itself failed: ZeroDivisionError" in found["a"].found
    assert found["b"] == missing("configs/x.yaml: no such file", "write it")
    assert found["c"].state is State.GOOD


def test_the_worst_stands_first_and_remedies_can_be_copied(capsys: pytest.CaptureFixture[str]) -> None:
    remedy = "echo performance | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor"
    found = {"git": good("here"), "governor": advice("powersave", remedy), "compiler": missing("none", "get one")}
    show.print_checks(found)
    lines = capsys.readouterr().out.splitlines()
    order = [line.split()[0] for line in lines if line.split()[:1] and line.split()[0] in list(State)]
    assert order == ["missing", "advice", "good"]
    assert f"    {remedy}" in lines
    assert lines[-1] == "Something that is needed is missing."


def test_states_have_their_colours() -> None:
    colours = {state: terminal._styled(state.value, Text).spans[0].style for state in State}
    assert colours == {State.GOOD: "green", State.ADVICE: "yellow", State.MISSING: "red"}


def test_all_checks_can_be_made_here(machine: Machine) -> None:
    found = run(of_machine(machine, Needs(benchmarks=[Plugin("digits", True)], engines=[Plugin("null", False)])))
    assert not [name for name, check in found.items() if "this check itself failed" in check.found]
    assert len(found) >= 20


# The toolchain


def test_a_compiler_that_is_too_old_says_its_first_error() -> None:
    found = checks.compiler(Compiled("/usr/bin/g++-7", "unrecognized command line option '-std=c++20'"))
    assert found.state is State.MISSING
    assert "g++-7" in found.found and "-std=c++20" in found.found and "g++" in found.remedy


@pytest.mark.parametrize(
    ("script", "error"),
    [
        ("exit 0", None),
        ("echo 'cc1plus: note: x' >&2; echo 'x.cc:2:10: fatal error: span: No such file' >&2; exit 1", "span"),
        ("exit 4", "it failed"),
    ],
)
def test_the_compiler_that_the_build_takes_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, error: str | None
) -> None:
    compiler = tmp_path / "my c++"
    compiler.write_text(f"#!/bin/sh\n{script}\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", f"'{compiler}' -O0")
    found = look.compiled()
    assert found and str(compiler) in found.compiler
    assert found.error is None if error is None else error in (found.error or "")
    monkeypatch.setenv("CXX", str(tmp_path / "none"))
    absent = look.compiled()
    assert absent and "No such file" in (absent.error or "")


def test_a_real_compiler_makes_the_program() -> None:
    assert checks.compiler(look.compiled()).state is State.GOOD


def test_without_a_compiler_or_headers_the_package_is_named() -> None:
    assert checks.compiler(None).state is State.MISSING
    headers = Path("/usr/include/python3.12/Python.h")
    found = checks.python((3, 12, 3), headers, has_headers=False)
    assert found.state is State.MISSING and "python3.12-dev" in found.remedy
    assert checks.python((3, 10, 0), headers, has_headers=True).state is State.MISSING
    assert checks.python((3, 14, 0), headers, has_headers=True).state is State.ADVICE
    assert checks.python((3, 11, 0), headers, has_headers=True).state is State.GOOD


def test_packages_other_than_locked_are_named() -> None:
    assert checks.packages({"numpy": "2.4.6"}, {"numpy": "2.4.6", "more": "1"}).state is State.GOOD
    other = checks.packages({"numpy": "2.4.6"}, {"numpy": "2.0"})
    assert other.state is State.ADVICE and "numpy 2.0 (locked: 2.4.6)" in other.found
    assert checks.packages({"numpy": "2.4.6"}, {}).state is State.MISSING


def test_the_lock_of_this_checkout_is_read() -> None:
    locked, installed = look.locked(), look.installed()
    assert {"numpy", "pyyaml", "jinja2"} <= locked.keys() & installed.keys()
    assert checks.packages(locked, installed).state is not State.MISSING


# Folders, disk, memory


def test_what_must_be_written_is_missing_and_a_cache_is_only_advice(tmp_path: Path) -> None:
    closed = Folder(tmp_path / "build", True, "belongs to root", "sudo chown -R me build")
    cache = Folder(tmp_path / "cache", False, "its file system is read-only", "findmnt")
    open_ = Folder(tmp_path, True)
    found = checks.writable([open_, cache, closed])
    assert found.state is State.MISSING
    assert found.found.index("belongs to root") < found.found.index("read-only")
    assert found.remedy.splitlines() == ["sudo chown -R me build", "findmnt"]
    assert checks.writable([open_, cache]).state is State.ADVICE
    assert checks.writable([open_]).state is State.GOOD


def test_a_closed_folder_is_found_with_its_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "closed")
    (tmp_path / "closed").mkdir()
    (tmp_path / "file").write_text("")
    found = look.folders([tmp_path / "new" / "er", tmp_path / "closed" / "in", tmp_path / "file" / "in"])
    assert found[0].problem is None
    assert found[1].problem and found[1].remedy.startswith(("chmod", "sudo"))
    assert found[2].problem and "is in the way" in found[2].problem


def test_a_read_only_file_system_is_called_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    monkeypatch.setattr(os, "statvfs", lambda path: type("Found", (), {"f_flag": os.ST_RDONLY}))
    (found,) = look.folders([Path("/")])
    assert found.problem == "its file system is read-only" and found.remedy == "findmnt -T /"


@pytest.mark.parametrize(
    ("rooms", "free", "state", "said"),
    [
        ([], 50 * GIB, State.GOOD, "53.7 GB are free"),
        ([], GIB // 2, State.ADVICE, "runs will soon fill the rest"),
        ([Room("the disk of build/runs", 10**6, 2 * 10**6, 50 * GIB, True)], 50 * GIB, State.GOOD, "up to 2.0 MB"),
        ([Room("the disk of build/runs", 7 * 10**9, None, 10**9, False)], 50 * GIB, State.MISSING, "at least 7.0 GB"),
        ([Room("the disk of build/runs", 0, 2 * 10**9, 10**9, None)], 50 * GIB, State.ADVICE, "up to 2.0 GB needed"),
    ],
)
def test_a_disk_is_judged_by_what_the_request_needs(
    rooms: Sequence[Room], free: int, state: State, said: str, tmp_path: Path
) -> None:
    found = checks.disk(rooms, free, tmp_path)
    assert found.state is state and said in found.found
    assert (state is State.GOOD) or str(tmp_path) in found.remedy


def test_memory_names_the_containers_limit(machine: Machine) -> None:
    small = replace(machine, memory_bytes=2 * GIB, memory_total_bytes=64 * GIB, limits=Limits(memory_bytes=2 * GIB))
    found = checks.memory(Room("memory", 3 * GIB, 4 * GIB, GIB, False), small)
    assert found.state is State.MISSING
    assert "limit is 2.1 GB of 68.7 GB" in found.found and "--memory" in found.remedy
    assert checks.memory(Room("memory", 0, GIB, 2 * GIB, True), small).state is State.GOOD
    assert checks.memory(None, machine).state is State.GOOD


def test_swap_in_use_is_advice_and_is_emptied_only_where_it_fits(machine: Machine) -> None:
    assert checks.swap(0, 0, GIB, machine).state is State.GOOD
    assert checks.swap(GIB, 0, GIB, machine).state is State.GOOD
    fits, short = checks.swap(GIB, GIB // 4, GIB, machine), checks.swap(4 * GIB, 3 * GIB, GIB, machine)
    assert fits.state is short.state is State.ADVICE
    assert "swapoff" in fits.remedy and "swapoff" not in short.remedy
    used, available = look.memory_now()
    assert used >= 0 and available > 0


# Processors


def _cpu(**facts: object) -> Cpu:
    usual = {"model": "CPU", "cores": 8, "threads": 16, "usable": tuple(range(16)), "usable_cores": 8}
    return Cpu(**{**usual, **facts})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("cpu", "limits", "state", "said"),
    [
        (_cpu(), Limits(), State.GOOD, "all 16 CPUs, 8 cores"),
        (_cpu(usable_cores=2), Limits(cpus=2.5), State.ADVICE, "allows 2.5 of 16 CPUs: settings are derived for 2"),
        (_cpu(), Limits(cpus=16.0), State.GOOD, "without a quota"),
        (_cpu(usable=(0, 1), usable_cores=1), Limits(), State.ADVICE, "2 of 16 CPUs (affinity)"),
        (_cpu(cores=1, threads=1, usable=(0,), usable_cores=1), Limits(), State.ADVICE, "one core"),
    ],
)
def test_what_of_the_cpus_may_be_used(machine: Machine, cpu: Cpu, limits: Limits, state: State, said: str) -> None:
    found = checks.quota(replace(machine, cpu=cpu, limits=limits))
    assert found.state is state and said in found.found
    assert "docker" not in found.remedy


def test_in_docker_more_cpus_are_its_flags(machine: Machine) -> None:
    inside = replace(machine, container=Container("podman"), cpu=_cpu(), limits=Limits(cpus=2.0))
    assert checks.quota(inside).remedy.startswith("podman run --cpus=16")
    inside = replace(inside, cpu=_cpu(usable=(0, 1)), limits=Limits())
    assert checks.quota(inside).remedy.startswith("podman run --cpuset-cpus=0-15")


@pytest.mark.parametrize(
    ("facts", "said", "command"),
    [
        ({"boost": False, "max_mhz": 3800.0, "limit_mhz": 3800.0}, "boost is switched off", "intel_pstate/no_turbo"),
        ({"max_mhz": 3800.0, "limit_mhz": 2000.0}, "held to 2,000 of 3,800 MHz", "echo 3800000 | sudo tee"),
        ({"boost": True, "max_mhz": 3800.0, "limit_mhz": 3800.0}, "up to 3,800 MHz", ""),
        ({}, "not visible here", ""),
    ],
)
def test_a_clock_that_is_held_down_is_advice(machine: Machine, facts: dict[str, Any], said: str, command: str) -> None:
    found = checks.clock(replace(machine, cpu=_cpu(**facts)))
    assert said in found.found and command in found.remedy
    assert (found.state is State.ADVICE) is bool(command)


@pytest.mark.parametrize(("name", "state"), [(None, "good"), ("performance", "good"), ("powersave", "advice")])
def test_the_governor_is_advice(machine: Machine, name: str | None, state: str) -> None:
    found = checks.governor(replace(machine, cpu=_cpu(governor=name)))
    assert found.state == state
    assert state == "good" or "performance | sudo tee" in found.remedy


def test_in_a_container_the_command_is_for_the_host(machine: Machine) -> None:
    inside = replace(machine, container=Container("docker"), transparent_huge_pages="never")
    assert "on the host" in checks.huge_pages(inside).remedy
    assert "on the host" not in checks.huge_pages(replace(inside, container=None)).remedy
    assert checks.huge_pages(replace(machine, transparent_huge_pages="madvise")).state is State.GOOD


def test_other_work_on_the_machine_is_advice(machine: Machine) -> None:
    assert checks.load(0.3, machine).state is State.GOOD
    assert checks.load(7.5, machine).state is State.ADVICE


def test_the_kernel_is_asked_whether_its_time_is_right(machine: Machine) -> None:
    assert checks.time_of_day(look.clock_synchronized(), machine).state is not State.MISSING
    assert checks.time_of_day(False, machine).state is State.ADVICE
    assert checks.time_of_day(None, machine).state is State.GOOD


# GPUs


def test_a_gpu_is_needed_only_by_what_asks_for_one(machine: Machine) -> None:
    assert gpus.answers(machine, []).state is State.GOOD
    found = gpus.answers(machine, ["tensorrt"])
    assert found.state is State.MISSING and "tensorrt needs one" in found.found and "openvino" in found.remedy
    eight = gpus.answers(_with_gpus(machine, *[H200] * 8), ["tensorrt"])
    assert eight.state is State.GOOD and "8 x NVIDIA H200" in eight.found


@pytest.mark.parametrize(
    ("code", "on_machine", "in_container"),
    [
        (3, "sudo dmesg", "docker run --gpus=all"),  # not supported
        (4, "ls -l /dev/nvidia*", "docker run --gpus=all"),  # no permission
        (12, "ldconfig -p", "docker run --gpus=all"),  # no library
        (18, "sudo reboot", "sudo reboot    # on the host"),  # driver and library of two versions
    ],
)
def test_where_nvml_fails_the_remedy_is_a_command(record: Any, code: int, on_machine: str, in_container: str) -> None:
    double = record("dgx_h200").nvml()
    double.refuse = lambda function: code if function == "nvmlInit" else None
    troubled = detection.detect(record("dgx_h200").root, environ={}, nvml=double)
    for container, command in ((None, on_machine), (Container("docker"), in_container)):
        found = gpus.answers(replace(troubled, container=container), ["tensorrt"])
        assert found.state is State.MISSING and found.remedy.startswith(command)
    assert gpus.answers(troubled, []) == advice(troubled.gpu_problem or "", gpus.answers(troubled, []).remedy)


@pytest.mark.parametrize(
    ("driver", "command"),
    [
        ("", "sudo ubuntu-drivers install"),
        ("nouveau", "sudo ubuntu-drivers install"),
        ("vfio-pci", "lspci -nnk"),
        ("nvidia", "sudo dmesg"),
    ],
)
def test_a_card_without_nvidias_driver_has_its_command(tmp_path: Path, driver: str, command: str) -> None:
    card = tmp_path / "sys/bus/pci/devices/0000:01:00.0"
    card.mkdir(parents=True)
    (card / "vendor").write_text("0x10de\n")
    (card / "class").write_text("0x030200\n")
    if driver:
        (card / "driver").symlink_to(f"../../../bus/pci/drivers/{driver}")
    troubled = detection.detect(tmp_path, environ={})
    for container in (None, Container("docker")):
        found = gpus.answers(replace(troubled, container=container), ["tensorrt"])
        assert found.state is State.MISSING and found.remedy.startswith(command)
        assert ("on the host" in found.remedy) is (container is not None and command.startswith("sudo"))


def test_gpus_that_are_hidden_or_lost_have_their_command(record: Any) -> None:
    hidden = record("dgx_h200").detect(CUDA_VISIBLE_DEVICES="-1")
    assert gpus.answers(hidden, ["tensorrt"]).remedy == "unset CUDA_VISIBLE_DEVICES"
    double = record("dgx_h200").nvml()
    double.refuse = lambda function: 15 if function == "nvmlDeviceGetHandleByIndex" else None
    lost = detection.detect(record("dgx_h200").root, environ={}, nvml=double)
    assert "sudo dmesg" in gpus.answers(replace(lost, container=Container("docker")), []).remedy


def test_a_jetson_without_nvml_is_not_missing(record: Any) -> None:
    found = gpus.answers(record("jetson_agx_orin").detect(), ["tensorrt"])
    assert found.state is State.ADVICE and "no NVML" in found.found


@pytest.mark.parametrize(
    ("distributions", "libraries", "state", "said"),
    [
        ({"tensorrt-cu13": "11.4.0"}, {}, State.MISSING, "tensorrt-cu13 11.4.0 (CUDA 13)"),
        ({"torch": "2.13.0+cu130"}, {}, State.MISSING, "torch 2.13.0+cu130 (CUDA 13.0)"),
        ({"nvidia-cuda-runtime": "13.0.96"}, {}, State.MISSING, "CUDA 13.0"),
        ({}, {"/usr/local/cuda/lib/libcudart.so.13": "13"}, State.MISSING, "libcudart.so.13"),
        ({"tensorrt-cu12": "10.9.0"}, {"/x/libcudart.so.13": "13"}, State.ADVICE, "libcudart.so.13"),
        ({"tensorrt-cu13": "11.4.0"}, {"/x/libcudart.so.12": "12"}, State.MISSING, "tensorrt-cu13"),
        ({"torch": "2.9.0+cu128"}, {}, State.ADVICE, "newer minor version"),
        ({"tensorrt-cu12": "10.9.0", "nvidia-cublas-cu12": "12.9.1.4"}, {"/x": "12.4.127"}, State.GOOD, "fits"),
        ({"torch": "2.13.0", "numpy": "2.4"}, {}, State.GOOD, "no library of CUDA"),
    ],
)
def test_a_driver_must_serve_the_cuda_of_the_libraries(
    machine: Machine, distributions: Mapping[str, str], libraries: Mapping[str, str], state: State, said: str
) -> None:
    users = gpus.cuda_users(distributions, libraries)
    found = gpus.cuda(_with_gpus(machine, H200, cuda="12.4"), users, ["tensorrt"])
    assert found.state is state and said in found.found
    assert gpus.cuda(_with_gpus(machine, H200, cuda="12.4"), users, []).state is not State.MISSING
    assert gpus.cuda(machine, users, []).state is State.GOOD, "without a GPU nothing has to fit"


def test_mig_without_slices_leaves_nothing_to_run_on(machine: Machine) -> None:
    empty = replace(H200, mig=True)
    alone = gpus.mig(_with_gpus(machine, empty), ["tensorrt"])
    assert alone.state is State.MISSING and "nvidia-smi -i 0 -mig 0" in alone.remedy
    assert gpus.mig(_with_gpus(machine, empty), []).state is State.ADVICE
    beside = gpus.mig(_with_gpus(machine, H200, empty), ["tensorrt"])
    assert beside.state is State.ADVICE and "GPU 1" in beside.found and "-i 1" in beside.remedy


def test_mig_slices_are_named_by_the_drivers_words(machine: Machine) -> None:
    found = gpus.mig(_with_gpus(machine, SPLIT), [])
    assert found == good("GPU 0: 1 x 3g.71gb, 2 x 1g.18gb+me")
    mixed = gpus.mig(_with_gpus(machine, SPLIT, H200), [])
    assert mixed.state is State.ADVICE and "not split: GPU 1" in mixed.found
    assert gpus.mig(_with_gpus(machine, H200), []).found == "off"
    waiting = gpus.mig(_with_gpus(machine, replace(H200, mig_pending=True)), [])
    assert waiting.state is State.ADVICE and "--gpu-reset" in waiting.remedy


def test_a_lowered_power_limit_is_advice(machine: Machine) -> None:
    lowered = replace(H200, power_limit_w=500.0, power_limit_max_w=700.0)
    found = gpus.power(_with_gpus(machine, H200, lowered, lowered))
    assert found.state is State.ADVICE and "GPU 1 500 of 700 W" in found.found
    assert found.remedy.splitlines() == [f"sudo nvidia-smi -i {index} -pl 700" for index in (1, 2)]
    # A card that could be driven above what its maker set is not limited.
    assert gpus.power(_with_gpus(machine, replace(lowered, power_limit_default_w=500.0))).state is State.GOOD


FAST = replace(H200, uuid="GPU-a", max_sm_mhz=1980, max_memory_mhz=3201, slowed_by=(), persistence=True)


def test_clocks_that_nothing_holds_are_good(machine: Machine) -> None:
    assert gpus.clocks(_with_gpus(machine, FAST, FAST)) == good("nothing holds them back, persistence mode is on")
    unknown = replace(FAST, slowed_by=None, persistence=None)
    assert gpus.clocks(_with_gpus(machine, unknown)) == good("the driver does not say what holds them back")
    assert gpus.clocks(machine) == good("no GPU here")


@pytest.mark.parametrize(
    ("change", "said", "command"),
    [
        ({"persistence": False}, "persistence mode is off: GPU 1", "sudo nvidia-smi -i 1 -pm 1"),
        ({"limit_sm_mhz": 1200}, "set low: GPU 1 1,200 of 1,980 MHz", "sudo nvidia-smi -i 1 -rac"),
        ({"limit_memory_mhz": 810}, "set low: GPU 1 memory 810 of 3,201 MHz", "sudo nvidia-smi -i 1 -rac"),
        ({"held_sm_mhz": 900}, "keeps clocks low: GPU 1 900 of 1,980 MHz", "sudo nvidia-smi -i 1 -rgc"),
        ({"slowed_by": ("power limit",)}, "slowed now by power limit: GPU 1", "nvidia-smi    # shows what else runs"),
        ({"slowed_by": ("heat",)}, "slowed now by heat: GPU 1", "nvidia-smi -q -d TEMPERATURE    # then see to fans"),
        ({"slowed_by": ("power brake",)}, "slowed now by power brake: GPU 1", "nvidia-smi -q -d POWER"),
        ({"slowed_by": ("hardware",)}, "slowed now by hardware: GPU 1", "nvidia-smi -q -d PERFORMANCE"),
    ],
)
def test_what_holds_a_gpus_clocks_back_has_its_own_remedy(
    machine: Machine, change: dict[str, Any], said: str, command: str
) -> None:
    held = _with_gpus(machine, FAST, replace(FAST, uuid="GPU-b", **change))
    found = gpus.clocks(held)
    assert found.state is State.ADVICE and found.found.endswith(said)
    assert found.remedy.startswith(command) and len(found.remedy.splitlines()) == 1
    inside = gpus.clocks(replace(held, container=Container("docker"))).remedy
    if command.startswith("sudo"):  # in a container, the number may be another than the host's
        assert inside == command.replace("-i 1", "-i GPU-b") + "    # on the host, outside the container"
    else:
        assert inside == found.remedy


def test_several_reasons_are_all_told(machine: Machine) -> None:
    slow = replace(FAST, persistence=False, slowed_by=("power limit", "heat"))
    found = gpus.clocks(_with_gpus(machine, slow, slow))
    assert found.found == (
        "persistence mode is off: GPU 0, 1; slowed now by power limit: GPU 0, 1; slowed now by heat: GPU 0, 1"
    )
    assert found.remedy.splitlines()[0] == "sudo nvidia-smi -pm 1" and len(found.remedy.splitlines()) == 3
    hidden = replace(_with_gpus(machine, slow, slow), gpus_hidden=2)
    assert gpus.clocks(hidden).remedy.startswith("sudo nvidia-smi -i 0,1 -pm 1")


# What a request needs


def test_only_an_engine_that_is_asked_for_must_be_ready() -> None:
    lacking = "needs tensorrt", 'make install RUN_ARGS="--engine=tensorrt"'
    ready = Plugin("openvino", True)
    found = checks.engines([ready, Plugin("tensorrt", False, *lacking)])
    assert found.state is State.GOOD and "tensorrt: needs tensorrt" in found.found
    asked = checks.engines([ready, Plugin("tensorrt", True, *lacking)])
    assert asked.state is State.MISSING and asked.remedy == lacking[1]


def test_without_any_benchmark_nothing_can_run() -> None:
    absent = Plugin("digits", False, "not here: digits model", "make download_model")
    assert checks.benchmarks([absent]) == missing("digits: not here: digits model", "make download_model")
    assert checks.benchmarks([]).state is State.MISSING
    assert checks.benchmarks([absent, Plugin("other", True)]).state is State.GOOD


def test_what_has_to_be_fetched_needs_a_network_or_the_wheelhouse() -> None:
    assert checks.to_fetch([], has_wheelhouse=False).state is State.GOOD
    assert checks.to_fetch(["LoadGen 6.0.17"], has_wheelhouse=True).state is State.GOOD
    found = checks.to_fetch(["LoadGen 6.0.17"], has_wheelhouse=False)
    assert found.state is State.ADVICE and "make wheelhouse" in found.remedy


def test_a_harness_that_is_not_compiled_is_advice() -> None:
    assert checks.native("unchanged", reused=True).state is State.GOOD
    assert checks.native("first time", reused=False).remedy == "make build"


# Around it


@pytest.mark.parametrize(
    ("docker", "state", "command"),
    [
        (Docker(None, "/var/run/docker.sock"), State.GOOD, ""),
        (Docker("/usr/bin/docker", "/var/run/docker.sock"), State.GOOD, ""),
        (Docker("/usr/bin/docker", "/s", "EACCES"), State.ADVICE, "sudo usermod -aG docker ann"),
        (Docker("/usr/bin/docker", "/s", "ENOENT"), State.ADVICE, "sudo systemctl start docker"),
    ],
)
def test_docker_is_never_needed(machine: Machine, docker: Docker, state: State, command: str) -> None:
    found = checks.docker(docker, "ann", machine)
    assert found.state is state and command in found.remedy
    assert checks.docker(docker, "ann", replace(machine, container=Container("docker"))).state is State.GOOD


def test_dockers_socket_is_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = tmp_path / "docker"
    client.write_text("")
    client.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    path = tmp_path / "socket"
    monkeypatch.setenv("DOCKER_HOST", f"unix://{path}")
    assert look.docker() == Docker(str(client), str(path), errno.errorcode[errno.ENOENT])
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        assert look.docker().error == errno.errorcode[errno.ECONNREFUSED]
        listener.listen()
        assert look.docker().error is None


def test_a_port_that_is_taken_is_advice() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        assert look.taken_ports([port]) == [port]
    assert look.taken_ports([port]) == []
    found = checks.ports([8001])
    assert found.state is State.ADVICE and "8001 (Triton, gRPC)" in found.found and "8001" in found.remedy
    assert checks.ports([]).state is State.GOOD


def test_overlays_must_be_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "good" / "configs").mkdir(parents=True)
    (tmp_path / "empty").mkdir()
    good_, empty, absent = (str(tmp_path / name) for name in ("good", "empty", "absent"))
    monkeypatch.setenv("ENGINEROOM_PATH", f"{good_}:{absent}")
    found = checks.overlays(look.overlays())
    assert found == missing(f"no such folder: {absent}", f"export ENGINEROOM_PATH={good_}")
    monkeypatch.setenv("ENGINEROOM_PATH", absent)
    assert checks.overlays(look.overlays()).remedy == "unset ENGINEROOM_PATH"
    monkeypatch.setenv("ENGINEROOM_PATH", f"{good_}:{empty}")
    assert checks.overlays(look.overlays()).state is State.ADVICE
    monkeypatch.setenv("ENGINEROOM_PATH", good_)
    assert checks.overlays(look.overlays()) == good(good_)
    monkeypatch.delenv("ENGINEROOM_PATH")
    assert checks.overlays(look.overlays()) == good("not set")
