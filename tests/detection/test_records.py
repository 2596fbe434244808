"""What is found on each recorded machine, against what its makers publish of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engineroom import detection
from engineroom.detection import Machine
from engineroom.detection.machine import Cache

GIB = 1 << 30
ALL = (
    "dgx_h200",
    "h200_mig",
    "l4_workstation",
    "grace_hopper",
    "jetson_agx_orin",
    "gb10",
    "firecracker_vm",
    "pod_1_core",
)
Records = Callable[[str], Any]

X86 = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_bf16", "amx_int8")


@pytest.mark.parametrize(
    ("name", "model", "sockets", "cores", "threads", "usable_cores"),
    [
        ("firecracker_vm", "AMD EPYC", 1, 2, 2, 2),
        ("dgx_h200", "Intel(R) Xeon(R) Platinum 8480C", 2, 112, 224, 112),
        ("h200_mig", "Intel(R) Xeon(R) Platinum 8480+", 1, 8, 16, 8),
        ("l4_workstation", "13th Gen Intel(R) Core(TM) i9-13900K", 1, 24, 31, 24),
        ("grace_hopper", "Neoverse-V2", 1, 72, 72, 72),
        ("jetson_agx_orin", "Cortex-A78AE", 1, 12, 12, 12),
        ("gb10", "Cortex-A725 + Cortex-X925", 1, 20, 20, 20),
        ("pod_1_core", "AMD EPYC 7543 32-Core Processor", 2, 32, 64, 1),
        ("two_sockets", "Intel(R) Xeon(R) Platinum 8480+", 2, 8, 16, 8),
        ("arm64_without_model", "Neoverse-N1", 1, 4, 4, 4),
        ("container_2_cpus", "AMD EPYC 7763 64-Core Processor", 1, 8, 8, 2),
        ("container_cgroup_v1", "Intel(R) Xeon(R) CPU @ 2.20GHz", 1, 4, 8, 1),
        ("hybrid", "12th Gen Intel(R) Core(TM) i3-1220P", 1, 6, 8, 6),
        ("no_limit", "Intel(R) Core(TM) i5-7500 CPU @ 3.40GHz", 1, 4, 4, 4),
    ],
)
def test_processors(
    record: Records, name: str, model: str, sockets: int, cores: int, threads: int, usable_cores: int
) -> None:
    cpu = record(name).detect().cpu
    found = (cpu.model, cpu.sockets, cpu.cores, cpu.threads, cpu.usable_cores)
    assert found == (model, sockets, cores, threads, usable_cores)


@pytest.mark.parametrize(
    ("name", "architecture", "vendor", "isa"),
    [
        ("firecracker_vm", "x86_64", "AuthenticAMD", ("avx2",)),
        ("two_sockets", "x86_64", "GenuineIntel", X86),
        ("dgx_h200", "x86_64", "GenuineIntel", (*X86[:5], "avx512_fp16", *X86[5:])),
        ("l4_workstation", "x86_64", "GenuineIntel", ("avx2", "avx_vnni")),
        ("grace_hopper", "aarch64", "ARM", ("asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2")),
        ("jetson_agx_orin", "aarch64", "ARM", ("asimdhp", "asimddp")),
    ],
)
def test_instruction_sets_that_decide_the_precision(
    record: Records, name: str, architecture: str, vendor: str, isa: tuple[str, ...]
) -> None:
    cpu = record(name).detect().cpu
    assert (cpu.architecture, cpu.vendor, cpu.isa) == (architecture, vendor, isa)


@pytest.mark.parametrize("name", ["dgx_h200", "h200_mig", "l4_workstation", "grace_hopper", "jetson_agx_orin"])
def test_caches_add_up_to_what_lscpu_prints(record: Records, name: str) -> None:
    machine = record(name)
    lines = [line.split() for line in machine.sections["lscpu -C"].splitlines()[1:]]
    found: dict[tuple[str, str], int] = {}
    for cache in machine.detect().cpu.caches:
        key = (str(cache.level), cache.kind.capitalize())
        found[key] = found.get(key, 0) + cache.size_bytes * cache.count
    assert found.keys() == {(level, kind) for _, _, _, _, kind, level, *_ in lines}
    for _, _, all_size, _, kind, level, *_ in lines:
        size = float(all_size[:-1]) * {"K": 1 << 10, "M": 1 << 20}[all_size[-1]]
        # lscpu rounds to a tenth; the E-cores of a hybrid have caches of other sizes than this one line can say.
        if name != "l4_workstation":
            assert found[level, kind] == pytest.approx(size, rel=0.02)


def test_a_shared_cache_counts_once(record: Records) -> None:
    assert record("dgx_h200").detect().cpu.caches == (
        Cache(1, "data", 48 << 10, 112),
        Cache(1, "instruction", 32 << 10, 112),
        Cache(2, "unified", 2 << 20, 112),
        Cache(3, "unified", 105 << 20, 2),
    )


def test_hybrid_processors_tell_their_kinds(record: Records) -> None:
    kinds = {
        name: record(name).detect().cpu.kinds for name in ("l4_workstation", "gb10", "dgx_h200", "jetson_agx_orin")
    }
    assert [(kind.name, kind.cores, kind.max_mhz) for kind in kinds["l4_workstation"]] == [
        ("core", 8, 5800.0),
        ("atom", 16, 4300.0),
    ]
    assert [(kind.name, kind.cores, kind.max_mhz) for kind in kinds["gb10"]] == [
        ("Cortex-A725", 10, 2808.0),
        ("Cortex-X925", 10, 3900.0),
    ]
    assert kinds["dgx_h200"] == kinds["jetson_agx_orin"] == ()


def test_clusters_of_unlike_cores_are_no_sockets(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    part = "processor\t: {}\nCPU implementer\t: 0x41\nCPU part\t: {}\n"
    (tmp_path / "proc/cpuinfo").write_text(part.format(0, "0xd46") + "\n" + part.format(1, "0xd4d"))
    for cpu in (0, 1):
        topology = tmp_path / f"sys/devices/system/cpu/cpu{cpu}/topology"
        topology.mkdir(parents=True)
        (topology / "core_cpus_list").write_text(f"{cpu}\n")
        (topology / "package_cpus_list").write_text(f"{cpu}\n")
    found = detection.detect(tmp_path, environ={}).cpu
    assert (found.sockets, found.cores, found.model) == (1, 2, "Cortex-A510 + Cortex-A715")


def test_two_sockets_of_arm64_whose_firmware_rates_like_cores_unlike(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    block = "processor\t: {}\nCPU implementer\t: 0x41\nCPU part\t: 0xd4f\n"
    (tmp_path / "proc/cpuinfo").write_text("\n".join(block.format(cpu) for cpu in range(4)))
    for cpu in range(4):
        folder = tmp_path / f"sys/devices/system/cpu/cpu{cpu}"
        (folder / "topology").mkdir(parents=True)
        (folder / "topology/core_cpus_list").write_text(f"{cpu}\n")
        (folder / "topology/package_cpus_list").write_text("0-1\n" if cpu < 2 else "2-3\n")
        (folder / "cpu_capacity").write_text("1024\n" if cpu else "1017\n")
    found = detection.detect(tmp_path, environ={}).cpu
    assert (found.sockets, found.cores, found.kinds, found.model) == (2, 4, (), "Neoverse-V2")


def test_a_cpu_that_is_switched_off_is_told_and_not_used(record: Records) -> None:
    cpu = record("l4_workstation").detect().cpu
    assert cpu.offline == 1
    assert cpu.usable == (0, *range(2, 32))


def test_clocks_and_governors(record: Records) -> None:
    found = {name: record(name).detect().cpu for name in ALL}
    assert (found["dgx_h200"].max_mhz, found["dgx_h200"].governor) == (3800.0, "performance")
    assert (found["l4_workstation"].max_mhz, found["l4_workstation"].governor) == (5800.0, "performance, powersave")
    assert (found["firecracker_vm"].max_mhz, found["firecracker_vm"].governor) == (None, None)


def test_numa_nodes_are_those_with_cpus(record: Records) -> None:
    dgx = record("dgx_h200").detect()
    assert [(node.number, len(node.cpus), node.memory_bytes >> 30) for node in dgx.numa] == [
        (0, 112, 1007),
        (1, 112, 1007),
    ]
    assert [node.cpus[0] for node in dgx.numa] == [0, 56]
    assert [gpu.numa_node for gpu in dgx.gpus] == [0, 0, 0, 0, 1, 1, 1, 1]
    hopper = record("grace_hopper").detect()
    assert [node.number for node in hopper.numa] == [0]
    assert [node.number for node in hopper.memory_nodes] == [1]
    assert (hopper.gpus[0].numa_node, hopper.gpus[0].memory_numa_node) == (0, 1)


@pytest.mark.parametrize(
    ("name", "memory_bytes", "memory_total_bytes"),
    [
        ("firecracker_vm", 24684096 << 10, 24684096 << 10),
        ("container_2_cpus", 2 * GIB, 65841000 << 10),
        ("container_cgroup_v1", 4 * GIB, 32880000 << 10),
        ("pod_1_core", 2 * GIB, 263840000 << 10),
        ("no_limit", 8000000 << 10, 8000000 << 10),
        ("grace_hopper", 502214656 << 10, 502214656 << 10),  # the kernel counts the GPU's 95 GiB too
        ("gb10", 125513728 << 10, 125513728 << 10),
    ],
)
def test_memory_is_what_the_machine_has_and_the_container_allows(
    record: Records, name: str, memory_bytes: int, memory_total_bytes: int
) -> None:
    found = record(name).detect()
    assert (found.memory_bytes, found.memory_total_bytes) == (memory_bytes, memory_total_bytes)


def test_a_cpuset_on_the_second_socket_has_that_ones_memory(record: Records, tmp_path: Path) -> None:
    for name in ("sys", "proc"):
        (tmp_path / name).mkdir()
        for path in (record("dgx_h200").root / name).iterdir():
            (tmp_path / name / path.name).symlink_to(path)
    (tmp_path / "proc/self").mkdir()
    (tmp_path / "proc/self/status").write_text("Cpus_allowed_list:\t60\nMems_allowed_list:\t1\n")
    found = detection.detect(tmp_path, environ={})
    assert (found.cpu.usable, found.cpu.usable_cores, found.cpu.sockets) == ((60,), 1, 2)
    assert (found.memory_bytes >> 30, found.memory_total_bytes >> 30) == (1007, 2015)


def test_what_holds_the_clock_down(tmp_path: Path) -> None:
    folder = tmp_path / "sys/devices/system/cpu"
    for name, text in {
        "cpu0/cpufreq/cpuinfo_max_freq": "3800000",
        "cpu0/cpufreq/scaling_max_freq": "2000000",
        "intel_pstate/no_turbo": "1",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"{text}\n")
    found = detection.detect(tmp_path, environ={}).cpu
    assert (found.max_mhz, found.limit_mhz, found.boost) == (3800.0, 2000.0, False)
    (folder / "intel_pstate/no_turbo").unlink()
    assert detection.detect(tmp_path, environ={}).cpu.boost is None
    (folder / "cpufreq").mkdir()
    (folder / "cpufreq/boost").write_text("1\n")
    assert detection.detect(tmp_path, environ={}).cpu.boost is True


def test_swap_and_huge_pages(record: Records) -> None:
    found = record("l4_workstation").detect()
    assert (found.swap_bytes, found.transparent_huge_pages) == (8388604 << 10, "always")
    assert record("dgx_h200").detect().transparent_huge_pages == "madvise"


@pytest.mark.parametrize(
    ("name", "product", "operating_system", "kernel", "virtualization"),
    [
        ("dgx_h200", "NVIDIA DGXH200", "Ubuntu 22.04.5 LTS", "5.15.0-1063-nvidia", None),
        ("h200_mig", "QEMU Standard PC (Q35 + ICH9, 2009)", "Ubuntu 24.04.3 LTS", "6.8.0-79-generic", "hypervisor"),
        ("l4_workstation", "Z790 Pro", "Ubuntu 24.04.3 LTS", "6.14.0-33-generic", None),
        ("gb10", "NVIDIA_DGX_Spark", "DGX OS 7.2.3", "6.11.0-1016-nvidia", None),
        (
            "jetson_agx_orin",
            "NVIDIA Jetson AGX Orin Developer Kit",
            "Ubuntu 22.04.5 LTS",
            "5.15.148-tegra",
            None,
        ),
        ("firecracker_vm", None, "Debian GNU/Linux 12 (bookworm)", "6.18.44", "hypervisor"),
    ],
)
def test_names_of_machine_and_system(
    record: Records, name: str, product: str | None, operating_system: str, kernel: str, virtualization: str | None
) -> None:
    found = record(name).detect()
    named = (found.product, found.operating_system, found.kernel, found.virtualization)
    assert named == (product, operating_system, kernel, virtualization)


def test_physical_network_cards(record: Records) -> None:
    nics = record("dgx_h200").detect().nics
    assert [(nic.name, nic.kind, nic.speed_mbit, nic.driver) for nic in nics[:3]] == [
        ("eno3", "Ethernet", 10000, "i40e"),
        ("ibs8", "InfiniBand", 400000, "mlx5_core"),
        ("ibs9", "InfiniBand", 400000, "mlx5_core"),
    ]
    assert [nic.name for nic in nics[3:]] == [f"mlx5_{number}" for number in range(8)]
    assert {(nic.kind, nic.speed_mbit) for nic in nics[3:]} == {("InfiniBand", 400000)}
    assert [(nic.name, nic.kind, nic.speed_mbit) for nic in record("l4_workstation").detect().nics] == [
        ("enp6s0", "Ethernet", 2500),
        ("wlp5s0", "Wi-Fi", None),
    ]


def test_physical_disks(record: Records) -> None:
    def disks(machine: Machine) -> list[tuple[str, int, str]]:
        return [(disk.name, round(disk.size_bytes / 1e9), disk.kind) for disk in machine.disks]

    assert disks(record("l4_workstation").detect()) == [("nvme0n1", 2000, "NVMe SSD"), ("sda", 4000, "HDD")]
    assert disks(record("jetson_agx_orin").detect()) == [("mmcblk0", 63, "SD or eMMC"), ("nvme0n1", 1000, "NVMe SSD")]
    assert disks(record("firecracker_vm").detect()) == [("vda", 275, "virtual")]
    assert len(record("dgx_h200").detect().disks) == 10


def test_every_record_says_where_it_comes_from() -> None:
    folder = Path(__file__).parents[1] / "spoofs"
    readme = (folder / "README.md").read_text(encoding="utf-8")
    for path in folder.glob("*.txt"):
        head = path.read_text(encoding="utf-8").partition("\n==")[0]
        assert re.search(r"\b(Constructed|Real)\b", head), path.name
        assert f"`{path.stem}`" in readme
