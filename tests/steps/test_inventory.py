"""Components are found where they are, in the version they have; two records differ in what differs, and in no more."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engineroom import packages, registry, versions
from engineroom.detection import Cpu, Gpu, Machine
from engineroom.detection.machine import Slice
from engineroom.errors import RequestError
from engineroom.paths import ROOT
from engineroom.steps import inventory
from engineroom.steps.inventory import Component, components, show
from engineroom.steps.inventory.difference import Record
from engineroom.steps.inventory.words import number_ranges

GIB = 1 << 30
GCC = "echo 'g++ (Debian 12.2.0-14+deb12u1) 12.3.1 20240101 (Red Hat 13.2.1-6)'"
NVCC = "echo 'Copyright (c) 2005-2025'; echo 'Cuda compilation tools, release 13.0, V13.0.88'"


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder that alone is on PATH, in a home without CUDA."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin/nowhere")
    for variable in ("CXX", "CUDA_HOME", "CUDA_PATH", "LD_LIBRARY_PATH"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(components, "CUDA_FOLDER", tmp_path / "no cuda")
    return folder


def _program(path: Path, script: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def _found() -> dict[str, Component]:
    return {item.name: item for item in inventory.components.toolchain()}


# Programs


def test_each_program_says_its_own_version(programs: Path) -> None:
    _program(programs / "g++", GCC)
    _program(programs / "make", "echo 'GNU Make 4.4.1'")
    _program(programs / "git", "echo no number here")
    found = _found()
    assert found["g++"] == Component("g++", "12.3.1", str(programs / "g++"), "PATH")
    assert found["c++"].path == str(programs / "g++"), "what the build takes where there is no c++"
    assert found["make"].version == "4.4.1"
    assert found["git"].version is None and found["git"].problem is None
    assert found["docker"] == Component("docker", problem="not found", found="PATH")
    assert found["python"].version == sys.version.split()[0]


def test_a_program_that_hangs_or_fails_is_shown_with_that(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(components, "TIMEOUT_S", 0.2)
    _program(programs / "docker", "exec /bin/sleep 20")
    _program(programs / "nvidia-smi", "echo first; echo 'no driver is loaded' >&2; exit 9")
    _program(programs / "git", "").write_text("#!/no/such/shell\n")
    found = _found()
    assert "did not answer" in (found["docker"].problem or "") and found["docker"].version is None
    assert found["nvidia-smi"].problem == "no driver is loaded"
    assert "does not start" in (found["git"].problem or "")


def test_the_compiler_that_cxx_names_is_the_one(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _program(programs / "g++", GCC)
    other = _program(programs.parent / "other" / "clang++-18", "echo 'Ubuntu clang version 18.1.3 (1ubuntu1)'")
    monkeypatch.setenv("CXX", f"{other} -stdlib=libc++")
    assert _found()["c++"] == Component("c++", "18.1.3", str(other), "CXX")


def test_cuda_is_found_by_its_variable(programs: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    home = tmp_path / "cuda"
    nvcc = _program(home / "bin" / "nvcc", NVCC)
    (home / "include").mkdir()
    (home / "include" / "cuda.h").write_text("#define CUDA_VERSION 12040\n")
    assert _found()["nvcc"].problem == _found()["CUDA toolkit"].problem == "not found"
    monkeypatch.setenv("CUDA_HOME", str(home))
    found = _found()
    assert found["nvcc"] == Component("nvcc", "13.0.88", str(nvcc), "CUDA_HOME")
    assert found["CUDA toolkit"] == Component("CUDA toolkit", "12.4", str(home), "CUDA_HOME")


# Libraries and packages


def test_a_library_is_found_once_with_the_version_of_its_file(
    programs: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    library = tmp_path / "lib" / "libcudart.so.12.4.127"
    library.parent.mkdir()
    library.write_bytes(b"")
    for link in ("libcudart.so.12", "libcudart.so"):
        (library.parent / link).symlink_to(library.name)
    (library.parent / "libnvinfer.so.10").write_bytes(b"")
    monkeypatch.setenv("LD_LIBRARY_PATH", f":{library.parent}:/nowhere")
    found = [item for item in inventory.libraries() if item.found == "LD_LIBRARY_PATH"]
    assert found == [
        Component("CUDA runtime", "12.4.127", str(library), "LD_LIBRARY_PATH"),
        Component("TensorRT", "10", str(library.parent / "libnvinfer.so.10"), "LD_LIBRARY_PATH"),
    ]


def test_a_library_that_links_to_itself_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "libcudart.so.12").symlink_to("libcudart.so.12")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    assert not [item for item in inventory.libraries() if item.found == "LD_LIBRARY_PATH"]


def test_the_loaders_cache_is_read_for_this_architecture(programs: Path) -> None:
    word = components._CACHE_ARCHITECTURES[os.uname().machine]
    _program(
        programs / "ldconfig",
        "echo '\tlibcuda.so.1 (libc6) => /lib32/libcuda.so.1'\n"
        f"echo '\tlibcuda.so.1 (libc6,{word}, OS ABI: Linux 2.3) => /lib64/libcuda.so.1'",
    )
    assert components._loader_cache() == {"libcuda.so.1": "/lib64/libcuda.so.1"}
    _program(programs / "ldconfig", "exit 1")
    assert components._loader_cache() == {}


def test_packages_have_their_folder() -> None:
    found = {item.name: item for item in inventory.python_packages()}
    numpy = found["numpy"]
    assert numpy.version and (Path(numpy.path or "") / "numpy" / "__init__.py").is_file()
    assert numpy.found in ("build/venv", "Python's path")


def test_of_two_packages_of_a_name_the_one_that_is_imported_counts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for folder, version in (("first", "1.0"), ("second", "2.0")):
        info = tmp_path / folder / f"twice-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: twice\nVersion: {version}\n")
        monkeypatch.syspath_prepend(tmp_path / "second")
    monkeypatch.syspath_prepend(tmp_path / "first")
    versions.all_distributions.cache_clear()
    assert versions.all_distributions()["twice"] == "1.0"
    assert {item.name: item.version for item in inventory.python_packages()}["twice"] == "1.0"
    versions.all_distributions.cache_clear()


# Plug-ins


def test_an_engine_that_cannot_be_used_says_why_and_what_installs_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "openvino.lock").write_text("")
    monkeypatch.setattr(packages, "LOCKS", tmp_path)
    for name in ("openvino", "onnxruntime"):
        monkeypatch.setattr(registry.get("engines", name).load().ENGINE, "modules", ("no_such_module",))
    found = {item.name: item for item in inventory.engines()}
    assert found["openvino"].problem == "needs no_such_module"
    assert found["openvino"].mend == 'make install RUN_ARGS="--engine=openvino"'
    assert "build/venv/ready" in (found["onnxruntime"].mend or "")
    assert found["null"].problem is None


def test_a_broken_plug_in_of_an_overlay_is_shown_and_hides_no_other(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "engines").mkdir()
    (tmp_path / "engines" / "broken.py").write_text("raise OSError('no device')\n")
    (tmp_path / "engines" / "odd.py").write_text("ENGINE = object()\n")
    monkeypatch.setenv("ENGINEROOM_PATH", str(tmp_path))
    found = {item.name: item for item in inventory.engines()}
    assert "no device" in (found["broken"].problem or "") and found["broken"].found == "ENGINEROOM_PATH"
    assert "AttributeError" in (found["odd"].problem or "")
    assert found["openvino"].problem is None


def test_what_a_benchmark_lacks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    digits = registry.get("benchmarks", "digits").load().BENCHMARK
    assert {item.name: item.problem for item in inventory.benchmarks()}["digits"] is None
    monkeypatch.setattr(type(digits), "model_file", lambda self: (ROOT / "nowhere.onnx", "0" * 64))
    assert inventory.benchmarks()[0].problem == "not here: digits model"
    assert inventory.benchmarks()[0].mend == 'make download_model RUN_ARGS="--benchmarks=digits"'
    lacking = [item.name for item in components.models_and_data() if item.problem]
    assert "digits model" in lacking and "digits data" not in lacking


# The machine in words


def test_a_machine_is_told_in_words_and_what_is_not_known_is_left_out(machine: Machine) -> None:
    told = inventory.machine_in_words(machine)
    assert told["cores"] == "1 socket, 4 cores, 8 threads"
    assert told["memory"] == "8 GiB"
    assert told["GPU"] == "none that can be seen"
    assert not told.keys() & {"governor", "NUMA", "container", "GPU driver", "virtualization", "caches"}


def test_recorded_machines_are_told_in_the_words_of_their_makers(record: Any) -> None:
    told = inventory.machine_in_words(record("l4_workstation").detect())
    assert told["kinds of cores"] == "8 P-cores, 16 E-cores"
    assert told["cores"] == "1 socket, 24 cores, 31 threads, 1 more offline"
    assert told["GPU 0"].startswith("NVIDIA L4, 22.5 GiB, compute capability 8.9, ECC on, 72 W, ")
    told = inventory.machine_in_words(record("grace_hopper").detect())
    assert "NVLink-C2C to the CPU" in told["GPU 0"]


def test_a_clock_that_is_held_down_is_told(machine: Machine) -> None:
    held = replace(machine, cpu=replace(machine.cpu, max_mhz=3800.0, limit_mhz=2000.0, boost=False))
    assert inventory.machine_in_words(held)["highest clock"] == "3,800 MHz, held to 2,000 MHz, boost off"


def test_what_holds_a_gpus_clocks_is_told(machine: Machine) -> None:
    gpu = Gpu("NVIDIA L4", max_sm_mhz=2040, max_memory_mhz=6251, limit_sm_mhz=1200, limit_memory_mhz=405)
    hot = replace(gpu, index=1, held_sm_mhz=900, slowed_by=("power limit", "heat"))
    told = inventory.machine_in_words(replace(machine, gpus=(replace(gpu, slowed_by=()), hot)))
    assert told["GPU 0-1"] == "NVIDIA L4, up to 2,040 MHz, held to 1,200 MHz, memory held to 405 of 6,251 MHz"
    assert told["GPU 1 now"] == "held to 900 MHz by a setting, slowed by power limit and heat"
    assert "GPU 0 now" not in told
    told = inventory.machine_in_words(replace(machine, gpus=(Gpu("NVIDIA L4", persistence=False),)))
    assert told["GPU 0"] == "NVIDIA L4, persistence mode off"


def test_gpus_that_are_alike_are_told_once(machine: Machine) -> None:
    gpus = [Gpu("NVIDIA H200", index, f"GPU-{index}", 140 * GIB, mig=False) for index in range(4)]
    gpus[2] = replace(gpus[2], mig=True, slices=(Slice("1g.18gb+me", "MIG-a", 18 * GIB), Slice("3g.71gb", "MIG-b")))
    told = inventory.machine_in_words(replace(machine, gpus=tuple(gpus), gpu_links=(("X", "NV18"), ("NV18", "X"))))
    assert told["GPU 0-1"] == told["GPU 3"] == "NVIDIA H200, 140 GiB, MIG off"
    assert told["MIG of GPU 2"] == "1g.18gb+me, 18 GiB, MIG-a\n3g.71gb, MIG-b"
    assert told["GPU links"] == "NV18: 0-1"


@given(st.sets(st.integers(0, 400), max_size=60))
def test_ranges_hold_just_the_numbers(numbers: set[int]) -> None:
    back: set[int] = set()
    for span in filter(None, number_ranges(numbers).split(",")):
        first, _, last = span.partition("-")
        back |= set(range(int(first), int(last or first) + 1))
    assert back == numbers


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (1023, "1023 bytes"), (32 << 10, "32 KiB"), (3 << 29, "1.5 GiB"), (150_754_820_096, "140 GiB")],
)
def test_sizes(count: int, text: str) -> None:
    assert inventory.size(count) == text


# Records and what they differ in

OLD_RECORD = {
    "machine": {
        "system": "old",
        "cpu_model": "AMD EPYC",
        "sockets": 1,
        "cores": 2,
        "logical_cpus": 2,
        "usable_cores": 2,
        "isa": ["avx2"],
        "memory_bytes": 24 * GIB,
        "gpus": ["NVIDIA L4"],
        "architecture": "x86_64",
        "operating_system": "Debian",
        "kernel": "6.1",
        "container": "docker",
    },
    "python": "3.11.7",
    "distributions": {"numpy": "2.4.6"},
    "revision": "abc",
}


def _nowhere() -> Mapping[str, Any]:
    raise AssertionError("nothing asked for what is here")


def _run(runs: Path, name: str, record: Mapping[str, Any], settings: str = "batch_size: 32  # default\n") -> Path:
    folder = runs / name
    folder.mkdir(parents=True)
    (folder / "env.json").write_text(json.dumps(record))
    (folder / "run_config.yaml").write_text(settings)
    return folder


def test_two_runs_differ_in_settings_packages_and_machine(tmp_path: Path, machine: Machine) -> None:
    record = inventory.environment(machine)
    larger = {**record, "machine": {**record["machine"], "memory_bytes": 16 * GIB}}
    larger["distributions"] = {**record["distributions"], "numpy": "9.9", "new": "1"}
    _run(tmp_path, "a", record, "batch_size: 32  # default\nprecision: int8\n")
    _run(tmp_path, "b", larger, "batch_size: 0\nprecision: int8\ngraphs: true\n")
    found = inventory.compare(*(inventory.find_record(name, _nowhere, folder=tmp_path) for name in "ab"))
    numpy = record["distributions"]["numpy"]
    assert found.differences == {
        "machine": {"memory": ("8 GiB", "16 GiB")},
        "packages": {"numpy": (numpy, "9.9"), "new": ("not installed", "1")},
        "settings": {"batch_size": ("32", "0"), "graphs": ("not set", "true")},
    }
    assert not found.equal and not found.one_sided


def test_what_is_here_equals_itself_and_its_own_json(tmp_path: Path, machine: Machine) -> None:
    def here() -> Mapping[str, Any]:
        return inventory.take(machine, libraries=[Component("LoadGen", "6.0")])

    path = tmp_path / "machine.json"
    path.write_text(json.dumps(here()))
    this, written = inventory.find_record("this", here), inventory.find_record(str(path), _nowhere)
    assert inventory.compare(this, written).equal
    assert written.groups["libraries"]["LoadGen"] == "6.0" and written.groups["packages"]["numpy"]


def test_a_runs_record_compares_with_what_is_here(tmp_path: Path, machine: Machine) -> None:
    folder = _run(tmp_path, "a", inventory.environment(machine))
    found = inventory.compare(
        inventory.find_record(str(folder), _nowhere), inventory.find_record("this", lambda: inventory.take(machine))
    )
    assert found.equal
    assert "settings" in found.one_sided and found.one_sided["toolchain"] != []


def test_records_of_before_machine_had_rooms_are_read(tmp_path: Path, machine: Machine) -> None:
    _run(tmp_path, "old", OLD_RECORD)
    old = inventory.find_record("old", _nowhere, folder=tmp_path)
    assert old.groups["machine"]["processor"] == "AMD EPYC, x86_64"
    assert old.groups["machine"]["GPU 0"] == "NVIDIA L4" and old.groups["machine"]["container"] == "docker"
    new = Record("new", {"machine": inventory.machine_in_words(replace(machine, cpu=Cpu("AMD EPYC"), kernel="6.1"))})
    found = inventory.compare(old, new)
    assert found.differences["machine"]["memory"] == ("24 GiB", "8 GiB")
    assert "kernel" not in found.differences["machine"]
    assert "GPU 0" in found.one_sided["machine"] and "packages" in found.one_sided


def test_a_run_is_found_by_any_part_of_its_name_that_only_it_has(tmp_path: Path) -> None:
    for name in ("20260101T1-x-digits-Offline", "20260102T2-x-digits-Server", "20260103T3-x-digits-Offline"):
        _run(tmp_path, name, OLD_RECORD)
    (tmp_path / "20260104T4-x-digits-Server").mkdir()  # without a record
    for name in ("20260102", "Server", "20260102T2-x-digits-Server"):
        assert inventory.find_record(name, _nowhere, folder=tmp_path).name == "20260102T2-x-digits-Server"
    with pytest.raises(RequestError, match="2 runs bear 'Offline'") as several:
        inventory.find_record("Offline", _nowhere, folder=tmp_path)
    assert "20260101T1" in str(several.value) and "20260103T3" in str(several.value)
    with pytest.raises(RequestError, match="no file and no run"):
        inventory.find_record("MultiStream", _nowhere, folder=tmp_path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", "is no JSON"),
        (b"\xff\xfe", "is no JSON"),
        (b"[" * 100_000, "is no JSON"),
        (b"[1]", "has no `machine`"),
        (b'{"machine": 3}', "has no `machine`"),
        (b'{"machine": {}}', "its machine cannot be read"),
        (b'{"machine": {"cpu": {"model": 5}, "memory_bytes": "many"}}', "its machine cannot be read"),
        (b"", "is no JSON"),
    ],
)
def test_a_file_that_is_no_record_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(RequestError, match=re.escape(said)):
        inventory.find_record(str(path), _nowhere)


@pytest.mark.parametrize("name", ["~no_such_user", "~no_such_user/x.json", "x" * 5000, "a\0b"])
def test_a_name_that_can_be_no_files_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(RequestError, match="is no file and no run"):
        inventory.find_record(name, _nowhere, folder=tmp_path)


def test_a_folder_without_a_record_and_a_pipe_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="there is no such file"):
        inventory.find_record(str(tmp_path), _nowhere)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(RequestError, match="it is no regular file"):
        inventory.find_record(str(tmp_path / "pipe"), _nowhere)


# For people


def test_the_tables_show_what_is_here_and_what_is_not(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    show.print_inventory(inventory.take(machine))
    out = capsys.readouterr().out
    for word in ("Test CPU", "Toolchain", "Python packages in", "numpy ", "digits", "openvino", "(PATH)"):
        assert word in out
    assert "None" not in out


def test_a_difference_is_shown_side_by_side(capsys: pytest.CaptureFixture[str]) -> None:
    a = Record("run A", {"settings": {"batch_size": "32", "precision": "int8"}, "made from": {"LoadGen": "6"}})
    b = Record("run B", {"settings": {"batch_size": "64", "precision": "int8"}})
    show.print_difference(inventory.compare(a, b))
    out = capsys.readouterr().out
    assert re.search(r"^batch_size +32 +64$", out, re.MULTILINE)
    assert "precision" not in out and "not compared: made from" in out
    show.print_difference(inventory.compare(b, b))
    assert "Nothing differs" in capsys.readouterr().out
