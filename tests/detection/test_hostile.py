"""Nothing that /proc, /sys and /etc hold, and nothing that is missing there, breaks detection."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engineroom import detection
from engineroom.detection import Machine, gpu
from engineroom.detection.files import cpu_list, number, text

CPU = "sys/devices/system/cpu"
FILES = (
    ".dockerenv",
    "etc/os-release",
    "proc/cpuinfo",
    "proc/meminfo",
    "proc/device-tree/compatible",
    "proc/device-tree/model",
    "proc/driver/nvidia/gpus/0000:01:00.0/information",
    "proc/driver/nvidia/version",
    "proc/self/cgroup",
    "proc/self/mountinfo",
    "proc/self/status",
    "proc/sys/kernel/osrelease",
    f"{CPU}/online",
    f"{CPU}/present",
    f"{CPU}/cpu0/topology/core_cpus_list",
    f"{CPU}/cpu0/topology/package_cpus_list",
    f"{CPU}/cpu1/topology/core_cpus_list",
    f"{CPU}/cpu0/cache/index0/level",
    f"{CPU}/cpu0/cache/index0/size",
    f"{CPU}/cpu0/cache/index0/shared_cpu_list",
    f"{CPU}/cpu0/cpufreq/cpuinfo_max_freq",
    f"{CPU}/cpu0/cpufreq/scaling_max_freq",
    f"{CPU}/cpufreq/boost",
    f"{CPU}/cpufreq/policy0/scaling_governor",
    "sys/block/nvme0n1/device/model",
    "sys/block/nvme0n1/size",
    "sys/bus/pci/devices/0000:01:00.0/class",
    "sys/bus/pci/devices/0000:01:00.0/numa_node",
    "sys/bus/pci/devices/0000:01:00.0/vendor",
    "sys/class/dmi/id/product_name",
    "sys/class/infiniband/mlx5_0/device/vendor",
    "sys/class/infiniband/mlx5_0/ports/1/rate",
    "sys/class/infiniband/mlx5_0/ports/1/state",
    "sys/class/net/eth0/device/vendor",
    "sys/class/net/eth0/speed",
    "sys/devices/cpu_atom/cpus",
    "sys/devices/cpu_core/cpus",
    "sys/devices/system/node/node0/cpulist",
    "sys/devices/system/node/node0/meminfo",
    "sys/fs/cgroup/cpu.max",
    "sys/fs/cgroup/memory.max",
    "sys/fs/cgroup/cpu/cpu.cfs_period_us",
    "sys/fs/cgroup/cpu/cpu.cfs_quota_us",
    "sys/fs/cgroup/memory/memory.stat",
    "sys/kernel/mm/transparent_hugepage/enabled",
)
LINES = st.from_regex(
    r"((processor|physical id|core id|model name|flags|Features|CPU implementer|CPU part)\t: [0-9a-fx²]{1,3}\n){1,6}",
    fullmatch=True,
).map(str.encode)
KNOWN = st.sampled_from(
    [
        *(
            b"0",
            b"-1",
            b"0 0",
            b"1 0",
            b"max",
            b"max 100000",
            b"100000 100000\n",
            b"0-1",
            b"1-0",
            b"0-99999999999",
            b"3,,-",
        ),
        *(
            b"\xc2\xb2",
            b"\xff\xfe\0",
            b"MemTotal: 0 kB",
            b"MemTotal: 99999999999999999999 kB",
            b"9" * 400,
            b"K",
            b"32K",
        ),
        *(b"0x10de", b"0x030000", b"nvidia,tegra234\0", b"400 Gb/sec (4X NDR)", b"4: ACTIVE", b"[always", b"[]"),
        *(b"hierarchical_memory_limit \n", b"hierarchical_memory_limit", b"0::/a/../../..", b"4:cpu", b":", b"\n\n\n"),
        *(
            b"Cpus_allowed_list:\t4-7\nMems_allowed_list:\t1",
            b"1 2 3 4 5 - cgroup2 a b",
            b"1 2 3 / /sys/fs/cgroup - cgroup cgroup cpu,",
        ),
    ]
)
CONTENTS = st.binary(max_size=40) | LINES | KNOWN


def _is_sound(found: Machine) -> bool:
    """Say whether what everything else divides by and counts with is there."""
    cpu = found.cpu
    return (
        1 <= cpu.usable_cores <= max(1, cpu.cores) <= cpu.threads
        and set(cpu.usable) <= set(range(8192))
        and len(cpu.usable) >= 1
        and cpu.sockets >= 1
        and bool(cpu.model)
        and 0 <= found.memory_bytes <= max(found.memory_total_bytes, found.memory_bytes)
        and all(gpu.name for gpu in found.gpus)
    )


@given(files=st.dictionaries(st.sampled_from(FILES), CONTENTS, max_size=12))
def test_no_content_of_the_files_breaks_detection(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]
) -> None:
    root = tmp_path_factory.mktemp("machine")
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    assert _is_sound(detection.detect(root, environ={}))


@given(environ=st.dictionaries(st.text(max_size=20), st.text(max_size=20), max_size=4), wanted=st.text(max_size=30))
def test_no_environment_breaks_detection(
    tmp_path_factory: pytest.TempPathFactory, environ: dict[str, str], wanted: str
) -> None:
    root = tmp_path_factory.getbasetemp() / "gpu"
    information = root / "proc/driver/nvidia/gpus/0000:01:00.0/information"
    information.parent.mkdir(parents=True, exist_ok=True)
    information.write_text("Model: NVIDIA L4\n")
    environ = {**environ, "CUDA_VISIBLE_DEVICES": wanted, "NVIDIA_PRODUCT_NAME": wanted}
    assert _is_sound(detection.detect(root, environ=environ))


def _folder(path: Path) -> None:
    path.mkdir()


def _loop(path: Path) -> None:
    path.symlink_to(path.name)


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _huge(path: Path) -> None:
    path.write_bytes(b"processor\t: 0\n" * 700_000)


def _file_for_a_folder(path: Path) -> None:
    path.parent.rmdir()
    path.parent.write_text("")


@pytest.mark.parametrize("make", [_folder, _loop, _pipe, _endless, _huge, _file_for_a_folder])
@pytest.mark.parametrize("name", ["proc/cpuinfo", f"{CPU}/online", "proc/self/cgroup", "sys/class/net/eth0/device"])
def test_what_is_no_file_is_read_as_empty(tmp_path: Path, name: str, make: object) -> None:
    assert callable(make)
    (tmp_path / name).parent.mkdir(parents=True)
    make(tmp_path / name)
    assert _is_sound(detection.detect(tmp_path, environ={}))


def test_an_nvml_that_never_answers_does_not_stop_detection(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    information = tmp_path / "proc/driver/nvidia/gpus/0000:01:00.0/information"
    information.parent.mkdir(parents=True)
    information.write_text("Model: NVIDIA L4\n")
    monkeypatch.setattr(gpu, "ANSWER_S", 0.05)
    released = threading.Event()
    try:
        found = detection.detect(tmp_path, environ={}, nvml=SimpleNamespace(nvmlInit=released.wait))
    finally:
        released.set()
    assert [each.name for each in found.gpus] == ["NVIDIA L4"]
    assert found.gpu_problem and "NVML cannot be asked (no answer within 0.05 s)" in found.gpu_problem


def test_an_empty_machine_still_has_a_core(tmp_path: Path) -> None:
    found = detection.detect(tmp_path, environ={})
    assert _is_sound(found)
    assert (found.cpu.cores, found.cpu.usable, found.memory_bytes, found.numa) == (1, (0,), 0, ())


def test_of_a_key_that_stands_twice_the_first_counts(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text(
        "processor\t: 0\nmodel name\t: A\nmodel name\t: B\nprocessor\t: 9\n\nprocessor\t: 0\nmodel name\t: C\n"
    )
    found = detection.detect(tmp_path, environ={}).cpu
    assert (found.model, found.threads) == ("A", 1)


@given(st.sets(st.integers(0, 300), min_size=1))
def test_lists_of_cpus_are_read_as_linux_writes_them(cpus: set[int]) -> None:
    assert cpu_list(",".join(f"{cpu}-{cpu}" if cpu % 2 else str(cpu) for cpu in sorted(cpus))) == tuple(sorted(cpus))


def test_lists_and_numbers_have_bounds() -> None:
    assert cpu_list("0-3,8\n") == (0, 1, 2, 3, 8)
    assert len(cpu_list("0-999999999999")) == 8192
    assert cpu_list("") == cpu_list("max") == cpu_list("-") == cpu_list("3-1") == ()
    assert (number(" 12\n"), number("²"), number("-1"), number("1" * 20), number("")) == (12, None, None, None, None)


def test_a_file_that_may_not_be_read_is_empty(tmp_path: Path) -> None:
    secret = tmp_path / "product_serial"
    secret.write_text("1234")
    secret.chmod(0)
    if os.access(secret, os.R_OK):
        pytest.skip("root may read everything")
    assert text(secret) == ""
