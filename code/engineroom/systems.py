"""Detects the machine, without privileges and without any library, and finds its id in systems/."""

from __future__ import annotations

import fnmatch
import os
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from engineroom.errors import Mistakes, RequestError, did_you_mean, plain, shown
from engineroom.paths import SYSTEMS, display
from engineroom.yaml_file import entries

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


@dataclass(frozen=True)
class Machine:
    """What was found. `usable_cores` respects affinity and cgroup quota; `gpus` are names of NVIDIA GPUs."""

    system: str
    cpu_model: str
    sockets: int
    cores: int
    logical_cpus: int
    usable_cores: int
    isa: tuple[str, ...]
    memory_bytes: int
    gpus: tuple[str, ...]
    architecture: str
    operating_system: str
    kernel: str
    container: str | None
    cpus: tuple[int, ...] = ()  # numbers of the CPUs that this process may use


def detect(root: Path = Path("/"), systems: Path = SYSTEMS) -> Machine:
    """Return this machine. `root` is where /proc and /sys are read from. Raises RequestError if two systems match."""
    cpu = _cpuinfo(_read(root / "proc/cpuinfo"))
    cpus = sorted(os.sched_getaffinity(0)) if root == Path("/") else list(range(cpu["logical"]))
    # In proportion: of a hybrid CPU only some cores have two threads.
    usable = max(1, int(min(len(cpus) * cpu["cores"] // cpu["logical"], _cgroup_cpus(root))))
    machine = Machine(
        system="",
        cpu_model=cpu["model"],
        sockets=cpu["sockets"],
        cores=cpu["cores"],
        logical_cpus=cpu["logical"],
        usable_cores=usable,
        isa=tuple(name for name in ISA_FEATURES if name in cpu["flags"]),
        memory_bytes=_memory_bytes(root),
        gpus=_gpus(root),
        architecture=platform.machine(),
        operating_system=_operating_system(_read(root / "etc/os-release")),
        kernel=platform.release(),
        container=_container(root),
        cpus=tuple(cpus),
    )
    return replace(machine, system=_match(machine, systems) or _derived_id(machine))


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


def _gpus(root: Path) -> tuple[str, ...]:
    names = []
    for information in sorted((root / "proc/driver/nvidia/gpus").glob("*/information")):
        match = re.search(r"^Model:\s*(.+)$", _read(information), re.MULTILINE)
        names.append(match[1].strip() if match else "an NVIDIA GPU")
    return tuple(names)


def _operating_system(os_release: str) -> str:
    match = re.search(r'^PRETTY_NAME="?([^"\n]+)', os_release, re.MULTILINE)
    return match[1] if match else platform.system()


def _container(root: Path) -> str | None:
    if (root / ".dockerenv").exists():
        return "docker"
    if (root / "run/.containerenv").exists():
        return "podman"
    return "apptainer" if os.environ.get("APPTAINER_CONTAINER") else None


def _derived_id(machine: Machine) -> str:
    """Name a machine that systems/ does not know after its CPU: "AMD_EPYC_7763-64c", "2x..." for two sockets."""
    name = re.sub(r"\((R|TM)\)|\bCPU\b|\bProcessor\b|@.*|\b\d+-Core\b", " ", machine.cpu_model)
    words = re.sub(r"[^A-Za-z0-9.]+", "_", name).strip("_") or "cpu"
    sockets = f"{machine.sockets}x" if machine.sockets > 1 else ""
    return f"{sockets}{words}-{machine.usable_cores}c"


def _match(machine: Machine, systems: Path) -> str | None:
    """Return the id of the system whose `match:` holds with the most conditions. A tie is an error naming both."""
    facts: dict[str, Any] = {
        "cpu_model": machine.cpu_model,
        "sockets": machine.sockets,
        "cores": machine.cores,
        "gpu": machine.gpus[0] if machine.gpus else "",
        "gpu_count": len(machine.gpus),
    }
    matches: dict[str, int] = {}
    mistakes: list[RequestError] = []
    for path in sorted(systems.glob("*.yaml")):
        try:
            conditions = _conditions(path, facts, mistakes)
        except RequestError as error:
            mistakes.append(error)
            continue
        if conditions and all(_holds(wanted, facts[name]) for name, wanted in conditions.items()):
            matches[path.stem] = len(conditions)
    if mistakes:
        raise Mistakes(mistakes)
    best = [name for name, count in matches.items() if count == max(matches.values())]
    if len(best) > 1:
        raise RequestError(
            f"this machine matches {' and '.join(best)} equally well",
            where=display(systems),
            mend="add a condition to the `match:` of one of them",
        )
    return best[0] if best else None


def _conditions(path: Path, facts: Mapping[str, Any], mistakes: list[RequestError]) -> dict[str, Any]:
    """Return what stands under `match:` in a system's file, and note what cannot stand there."""
    conditions: dict[str, Any] = {}
    for entry in (entry for entry in entries(path, mistakes) if entry.key == "match"):
        if not entry.is_mapping:
            where = f"{display(path)}:{entry.line}"
            mistakes.append(RequestError("match must hold `condition: value` lines", where=where))
        for condition in entry.children():
            name, value = condition.key, condition.value()
            where = f"{display(path)}:{condition.line}"
            if name not in facts:
                mend = did_you_mean(name, facts)
                mistakes.append(RequestError(f"match.{plain(name)}: unknown condition", where=where, mend=mend))
            elif type(value) is not type(facts[name]):
                wanted = "a whole number" if isinstance(facts[name], int) else 'a text; "*" in it stands for anything'
                mistakes.append(RequestError(f"match.{name} is {shown(value)}, must be {wanted}", where=where))
            else:
                conditions[name] = value
    return conditions


def _holds(wanted: object, fact: object) -> bool:
    return fnmatch.fnmatchcase(str(fact), wanted) if isinstance(wanted, str) else fact == wanted
