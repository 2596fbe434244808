"""Any machine is recognised or named; limits of containers count; records of machines lie in tests/spoofs."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engineroom.paths import SYSTEMS
from engineroom.systems import detect

SPOOFS = Path(__file__).parent / "spoofs"
GIB = 1 << 30


@pytest.mark.parametrize(
    ("record", "system", "sockets", "cores", "logical", "usable", "isa"),
    [
        ("vm_2_cores", "AMD_EPYC-2c", 1, 2, 2, 2, ("avx2",)),
        (
            "two_sockets",
            "2xIntel_Xeon_Platinum_8480-8c",
            2,
            8,
            16,
            8,
            ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_bf16", "amx_int8"),
        ),
        ("arm64_without_model", "0xd0c-4c", 1, 4, 4, 4, ("asimddp",)),
        ("container_2_cpus", "AMD_EPYC_7763-2c", 1, 8, 8, 2, ("avx2",)),
        ("container_cgroup_v1", "Intel_Xeon-1c", 1, 4, 8, 1, ("avx2",)),
        ("hybrid", "12th_Gen_Intel_Core_i3_1220P-6c", 1, 6, 8, 6, ("avx2", "avx_vnni")),
        ("no_limit", "Intel_Core_i5_7500-4c", 1, 4, 4, 4, ("avx2",)),
    ],
)
def test_processors(
    record: str, system: str, sockets: int, cores: int, logical: int, usable: int, isa: tuple[str, ...]
) -> None:
    found = detect(SPOOFS / record, SYSTEMS)
    assert (
        found.system,
        found.cpu.sockets,
        found.cpu.cores,
        found.cpu.threads,
        found.cpu.usable_cores,
        found.cpu.isa,
    ) == (
        system,
        sockets,
        cores,
        logical,
        usable,
        isa,
    )


@pytest.mark.parametrize(
    ("record", "memory_bytes", "container"),
    [
        ("vm_2_cores", 24684096 * 1024, None),
        ("container_2_cpus", 2 * GIB, "docker"),
        ("container_cgroup_v1", 4 * GIB, "podman"),
        ("no_limit", 8000000 * 1024, None),
    ],
)
def test_memory_is_what_the_container_allows(record: str, memory_bytes: int, container: str | None) -> None:
    found = detect(SPOOFS / record)
    assert (found.memory_bytes, found.container and found.container.kind) == (memory_bytes, container)


def test_a_gpu_is_seen_without_any_library() -> None:
    assert [gpu.name for gpu in detect(SPOOFS / "one_h200").gpus] == ["NVIDIA H200"]
    assert detect(SPOOFS / "vm_2_cores").gpus == ()


def test_the_operating_system_is_named() -> None:
    assert detect(SPOOFS / "vm_2_cores").operating_system == "Debian GNU/Linux 12 (bookworm)"
    assert detect(SPOOFS / "two_sockets").operating_system == "Ubuntu 24.04.2 LTS"


def test_this_machine_is_detected_quickly() -> None:
    begin = time.perf_counter()
    found = detect()
    assert time.perf_counter() - begin < 0.3
    assert 1 <= found.cpu.usable_cores <= found.cpu.threads
    assert found.memory_bytes > 100 << 20


def test_an_empty_machine_still_runs(tmp_path: Path) -> None:
    found = detect(tmp_path)
    assert found.cpu.usable_cores >= 1
    assert found.system


@given(
    st.dictionaries(
        st.sampled_from(
            [
                "proc/cpuinfo",
                "proc/meminfo",
                "sys/fs/cgroup/cpu.max",
                "sys/fs/cgroup/memory.max",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us",
                "proc/driver/nvidia/gpus/0/information",
            ]
        ),
        st.binary(max_size=40)
        | st.from_regex(r"(processor|physical id|core id|model name)\t: [0-9a-z²]{1,3}\n", fullmatch=True).map(
            str.encode
        )
        | st.sampled_from([b"0 0", b"max", b"-1", b"0", b"1 0", b"\xc2\xb2", b"MemTotal: 0 kB", b"100000 100000\n"]),
    )
)
def test_no_content_of_proc_and_sys_breaks_detection(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]
) -> None:
    root = tmp_path_factory.mktemp("machine")
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    found = detect(root)
    assert found.cpu.usable_cores >= 1
    assert found.system.replace("_", "").replace("-", "").replace(".", "").isalnum()
