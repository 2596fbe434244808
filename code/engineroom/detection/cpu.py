"""Finds the processors: how many cores, of what kind, with which caches, and how many of them may be used."""

from __future__ import annotations

import itertools
import os
import platform
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from engineroom.detection import arm
from engineroom.detection.files import cpu_list, names, number, text, value
from engineroom.detection.machine import Cache, CoreKind, Cpu

# Instruction sets that decide which precision pays, by Linux's names.
ISA_FEATURES = (
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "amx_bf16",
    "amx_int8",
    "amx_fp16",
    "asimdhp",
    "asimddp",
    "i8mm",
    "bf16",
    "sve",
    "sve2",
)
ARM_ARCHITECTURES = ("aarch64", "arm64")

Block = Mapping[str, str]


def detect(root: Path, quota: float | None = None) -> Cpu:
    """Return the processors. `quota` is how many CPUs the control group allows."""
    folder = root / "sys/devices/system/cpu"
    blocks = _blocks(text(root / "proc/cpuinfo"))
    online = cpu_list(text(folder / "online")) or tuple(sorted(blocks)) or _python_knows(root)
    present = cpu_list(text(folder / "present"))
    cores = _groups(folder, online, ("core_cpus_list", "thread_siblings_list")) or _from_cpuinfo(
        blocks, online, ("physical id", "core id")
    )
    usable = _usable(root, online)
    usable_cores = len({cores[cpu] for cpu in usable})
    any_block = next(iter(blocks.values()), {})
    architecture = _architecture(any_block)
    kinds = _kinds(root, blocks, cores, architecture)
    flags = (any_block.get("flags") or any_block.get("Features") or "").split()
    return Cpu(
        model=_model(blocks, architecture),
        vendor=any_block.get("vendor_id") or arm.implementer(any_block.get("CPU implementer", "")),
        architecture=architecture,
        # Sockets hold like processors: unlike cores are clusters of one.
        sockets=_sockets(root, blocks, online, architecture) if len(kinds) < 2 else 1,
        cores=len(set(cores.values())),
        threads=len(online),
        offline=len(set(present) - set(online)),
        usable=usable,
        usable_cores=max(1, min(usable_cores, int(quota) if quota else usable_cores)),
        isa=tuple(name for name in ISA_FEATURES if name in flags),
        caches=_caches(folder, online),
        kinds=kinds,
        max_mhz=_mhz(folder, set(cores.values()), "cpuinfo_max_freq"),
        limit_mhz=_mhz(folder, set(cores.values()), "scaling_max_freq"),
        boost=_boost(folder),
        governor=_governor(folder),
    )


def _blocks(cpuinfo: str) -> dict[int, Block]:
    """Return the fields of each logical CPU. Of a key that stands twice the first counts."""
    found: dict[int, Block] = {}
    for block in cpuinfo.split("\n\n"):
        fields: dict[str, str] = {}
        for line in block.splitlines():
            key, _, value = line.partition(":")
            fields.setdefault(key.strip(), " ".join(value.split()))
        cpu = number(fields.get("processor", ""))
        if cpu is not None:
            found.setdefault(cpu, fields)
    return found


def _python_knows(root: Path) -> tuple[int, ...]:
    return tuple(range(os.cpu_count() or 1)) if root == Path("/") else (0,)


def _groups(folder: Path, online: Iterable[int], files: Iterable[str]) -> dict[int, int]:
    """Return for each CPU the first one of its group, by lists in topology/; {} if there are none.

    A list names all CPUs of the group, so that it is read once for all of them.
    """
    found: dict[int, int] = {}
    for cpu in online:
        if cpu in found:
            continue
        lists = (cpu_list(value(f"{folder}/cpu{cpu}/topology/{name}")) for name in files)
        group = next((members for members in lists if members), ())
        if not group and not found:
            return {}
        for member in (cpu, *group):
            found.setdefault(member, cpu)
    return {cpu: found[cpu] for cpu in online}


def _from_cpuinfo(blocks: Mapping[int, Block], online: Iterable[int], keys: Iterable[str]) -> dict[int, int]:
    """Return the same by /proc/cpuinfo; a CPU of which it does not tell is a group of its own."""
    first: dict[tuple[str | None, ...], int] = {}
    found: dict[int, int] = {}
    for cpu in online:
        ids = tuple(blocks.get(cpu, {}).get(key) for key in keys)
        found[cpu] = cpu if None in ids else first.setdefault(ids, cpu)
    return found


def _sockets(root: Path, blocks: Mapping[int, Block], online: Iterable[int], architecture: str) -> int:
    """Count the packages; in arm64 machines with a device tree older kernels call clusters of cores so."""
    if architecture in ARM_ARCHITECTURES and text(root / "proc/device-tree/model"):
        return 1
    packages = _groups(root / "sys/devices/system/cpu", online, ("package_cpus_list", "core_siblings_list"))
    ids = {block["physical id"] for block in blocks.values() if "physical id" in block}
    return len(set(packages.values())) or len(ids) or 1


def _usable(root: Path, online: tuple[int, ...]) -> tuple[int, ...]:
    """Return the online CPUs on which this process may run: its affinity, which holds the cpuset's limits."""
    if root == Path("/"):
        allowed: Iterable[int] = os.sched_getaffinity(0)
    else:
        match = re.search(r"^Cpus_allowed_list:(.*)$", text(root / "proc/self/status"), re.MULTILINE)
        allowed = cpu_list(match[1]) if match else ()
    return tuple(sorted(set(allowed) & set(online))) or online


def _architecture(block: Block) -> str:
    if "CPU implementer" in block:
        return "aarch64"
    return "x86_64" if "flags" in block else platform.machine()


def _core_name(block: Block) -> str:
    part = block.get("CPU part", "")
    return arm.core_name(block.get("CPU implementer", ""), part) if part else ""


def _model(blocks: Mapping[int, Block], architecture: str) -> str:
    """Return the processor's name; of an arm64 machine the names of its cores, the most numerous first."""
    parts = [name for name in map(_core_name, blocks.values()) if name]
    if parts:
        return " + ".join(sorted(set(parts), key=lambda name: (-parts.count(name), name)))
    block = next(iter(blocks.values()), {})
    return block.get("model name") or block.get("cpu model") or block.get("cpu") or architecture


def _caches(folder: Path, online: tuple[int, ...]) -> tuple[Cache, ...]:
    """Return all caches. One that CPUs share is read for the first of them only, and none counts twice for a CPU."""
    counts: dict[tuple[int, str, int], int] = {}
    covered: set[tuple[int, int]] = set()
    for cpu in online:
        had: set[tuple[int, str]] = set()
        for index in itertools.count():
            if (index, cpu) in covered:
                continue
            cache = f"{folder}/cpu{cpu}/cache/index{index}"
            level, kind = number(value(f"{cache}/level")), value(f"{cache}/type").lower()
            if level is None:
                break
            covered.update((index, sharing) for sharing in cpu_list(value(f"{cache}/shared_cpu_list")))
            size = _size_bytes(value(f"{cache}/size"))
            if size and (level, kind) not in had:
                had.add((level, kind))
                counts[level, kind, size] = counts.get((level, kind, size), 0) + 1
    return tuple(Cache(*key, count=count) for key, count in sorted(counts.items()))


def _size_bytes(written: str) -> int | None:
    match = re.fullmatch(r"([0-9]{1,12})([KMG]?)", written)
    return int(match[1]) << {"": 0, "K": 10, "M": 20, "G": 30}[match[2]] if match else None


def _kinds(
    root: Path, blocks: Mapping[int, Block], cores: Mapping[int, int], architecture: str
) -> tuple[CoreKind, ...]:
    """Return the kinds of cores of a hybrid processor: by Linux's groups of x86, or arm64's parts.

    Linux's cpu_capacity does not tell them: a server's firmware may give like cores unlike ones.
    """
    folder = root / "sys/devices/system/cpu"
    if architecture in ARM_ARCHITECTURES:
        kinds = _by(cores, lambda cpu: _core_name(blocks.get(cpu, {})))
    else:
        units = [name for name in names(root / "sys/devices") if name.startswith("cpu_")]
        listed = {name[len("cpu_") :]: set(cpu_list(text(root / "sys/devices" / name / "cpus"))) for name in units}
        kinds = _by(cores, lambda cpu: next((name for name, cpus in listed.items() if cpu in cpus), ""))
    if len(kinds) < 2 or "" in kinds:
        return ()
    return tuple(CoreKind(name, len(first), _mhz(folder, first, "cpuinfo_max_freq")) for name, first in kinds.items())


def _by(cores: Mapping[int, int], kind: Callable[[int], str]) -> dict[str, set[int]]:
    """Return the first CPU of every core by the kind of the core."""
    found: dict[str, set[int]] = {}
    for cpu in sorted(set(cores.values())):
        found.setdefault(kind(cpu), set()).add(cpu)
    return found


def _mhz(folder: Path, cpus: Iterable[int], name: str) -> float | None:
    """Return the highest of a clock that each CPU has a file of."""
    khz = (number(value(f"{folder}/cpu{cpu}/cpufreq/{name}")) for cpu in cpus)
    return max((clock / 1000 for clock in khz if clock), default=None)


def _boost(folder: Path) -> bool | None:
    """Say whether clocks above the nominal one are allowed: Intel's driver tells the opposite, the others the thing."""
    told = {"intel_pstate/no_turbo": "0", "cpufreq/boost": "1"}
    return next((found == on for name, on in told.items() if (found := value(f"{folder}/{name}"))), None)


def _governor(folder: Path) -> str | None:
    """Return how clocks are governed; where policies differ, all ways: "performance, powersave"."""
    policies = [name for name in names(folder / "cpufreq") if name.startswith("policy")]
    found = {value(f"{folder}/cpufreq/{name}/scaling_governor") for name in policies} - {""}
    return ", ".join(sorted(found)) or None
