"""Reads the machine's own files under /proc and /sys."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path
from typing import Any

from engineroom.detection.machine import Container, Cpu, Gpu, Machine

# Instruction sets that decide which precision pays on a CPU.
ISA_FEATURES = (
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx_vnni",
    "avx512_bf16",
    "amx_bf16",
    "amx_int8",
    "asimddp",
    "i8mm",
    "bf16",
    "sve",
)


def detect(root: Path = Path("/")) -> Machine:
    """Return this machine, without its id. `root` is where /proc and /sys are read from."""
    cpu = _cpuinfo(_read(root / "proc/cpuinfo"))
    cpus = sorted(os.sched_getaffinity(0)) if root == Path("/") else list(range(cpu["logical"]))
    # In proportion: of a hybrid CPU only some cores have two threads.
    usable = max(1, int(min(len(cpus) * cpu["cores"] // cpu["logical"], _cgroup_cpus(root))))
    return Machine(
        cpu=Cpu(
            model=cpu["model"],
            architecture=platform.machine(),
            sockets=cpu["sockets"],
            cores=cpu["cores"],
            threads=cpu["logical"],
            usable=tuple(cpus),
            usable_cores=usable,
            isa=tuple(name for name in ISA_FEATURES if name in cpu["flags"]),
        ),
        memory_bytes=_memory_bytes(root),
        gpus=_gpus(root),
        operating_system=_operating_system(_read(root / "etc/os-release")),
        kernel=platform.release(),
        container=_container(root),
    )


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _cpuinfo(text: str) -> dict[str, Any]:
    """Read /proc/cpuinfo; arm64 kernels give no model name and no core ids there."""
    fields: dict[str, list[str]] = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            fields.setdefault(key.strip(), []).append(value.strip())
    logical = len(fields.get("processor", [])) or os.cpu_count() or 1
    sockets = len(set(fields.get("physical id", ["0"])))
    pairs = set(zip(fields.get("physical id", []), fields.get("core id", []), strict=False))
    model = (fields.get("model name") or fields.get("Model") or fields.get("CPU part") or [platform.machine()])[0]
    flags = (fields.get("flags") or fields.get("Features") or [""])[0]
    return {
        "model": " ".join(model.split()),
        "logical": logical,
        "sockets": sockets,
        "cores": len(pairs) or logical,
        "flags": frozenset(flags.split()),
    }


def _cgroup_cpus(root: Path) -> float:
    """Return the CPU quota of a container in CPUs (cgroup v2, else v1), or infinity."""
    quota, _, period = _read(root / "sys/fs/cgroup/cpu.max").partition(" ")
    if not quota:
        quota = _read(root / "sys/fs/cgroup/cpu/cpu.cfs_quota_us")
        period = _read(root / "sys/fs/cgroup/cpu/cpu.cfs_period_us")
    microseconds, of = _whole_number(quota), _whole_number(period)
    return microseconds / of if microseconds and of else float("inf")


def _memory_bytes(root: Path) -> int:
    match = re.search(r"^MemTotal:\s+([0-9]+) kB", _read(root / "proc/meminfo"), re.MULTILINE)
    total = int(match[1]) * 1024 if match else 0
    limit = _whole_number(_read(root / "sys/fs/cgroup/memory.max")) or _whole_number(
        _read(root / "sys/fs/cgroup/memory/memory.limit_in_bytes")
    )
    return min(total, limit) if limit and total else total


def _whole_number(text: str) -> int | None:
    """Return the number that a file of /sys holds, or None: "max" and "-1" mean that there is no limit."""
    return int(text) if re.fullmatch(r"\s*[0-9]{1,19}\s*", text) else None


def _gpus(root: Path) -> tuple[Gpu, ...]:
    gpus: list[Gpu] = []
    for information in sorted((root / "proc/driver/nvidia/gpus").glob("*/information")):
        match = re.search(r"^Model:\s*(.+)$", _read(information), re.MULTILINE)
        gpus.append(Gpu(match[1].strip() if match else "an NVIDIA GPU", len(gpus)))
    return tuple(gpus)


def _operating_system(os_release: str) -> str:
    match = re.search(r'^PRETTY_NAME="?([^"\n]+)', os_release, re.MULTILINE)
    return match[1] if match else platform.system()


def _container(root: Path) -> Container | None:
    if (root / ".dockerenv").exists():
        return Container("docker")
    if (root / "run/.containerenv").exists():
        return Container("podman")
    return Container("apptainer") if os.environ.get("APPTAINER_CONTAINER") else None
