"""Finds what the control groups allow this process: of CPUs and of memory.

A limit holds for everything below it, so the smallest on the way from the process's group up to the mount counts.
Sources: Linux's admin-guide/cgroup-v2 (cpu.max, memory.max, memory.high) and cgroup-v1 (cpu.cfs_quota_us,
memory.limit_in_bytes).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from engineroom.detection.files import exists, number, text
from engineroom.detection.machine import Limits

# What cgroup v1 says for "no limit": the largest number of bytes in whole pages.
UNLIMITED_BYTES = 1 << 62


def limits(root: Path) -> Limits:
    """Return the smallest limits. memory.high counts too: above it the kernel slows the process down."""
    cpus: list[float] = []
    memory: list[int] = []
    for folder in _folders(root):
        quota, _, period = text(folder / "cpu.max").partition(" ")
        cpus += _quotient(quota, period)
        cpus += _quotient(text(folder / "cpu.cfs_quota_us"), text(folder / "cpu.cfs_period_us"))
        for name in ("memory.max", "memory.high", "memory.limit_in_bytes"):
            memory += _memory(text(folder / name))
        # In a container the groups above its own are hidden, but v1 tells their limit here.
        for line in text(folder / "memory.stat").splitlines():
            if line.startswith("hierarchical_memory_limit "):
                memory += _memory(line.split()[1])
    return Limits(min(cpus, default=None), min(memory, default=None))


def cpu_stats(root: Path) -> tuple[Path, ...]:
    """Return the files that say how long a quota has held this process's groups, and those above them, back."""
    return tuple(path for folder in _folders(root) if exists(path := folder / "cpu.stat"))


def _quotient(quota: str, period: str) -> list[float]:
    microseconds, of = number(quota), number(period)
    return [microseconds / of] if microseconds and of else []


def _memory(limit: str) -> list[int]:
    size = number(limit)
    return [size] if size and size < UNLIMITED_BYTES else []


def _folders(root: Path) -> Iterator[Path]:
    """Yield the folders of this process's groups and of all groups above them, once each."""
    paths = _paths(text(root / "proc/self/cgroup"))
    seen: set[Path] = set()
    for mount, top, controllers in _mounts(text(root / "proc/self/mountinfo")):
        group = _below(top, next((paths[name] for name in controllers if name in paths), "/"))
        for path in (group, *group.parents):
            folder = root / mount.lstrip("/") / path
            if folder not in seen:
                seen.add(folder)
                yield folder


def _paths(cgroup: str) -> dict[str, str]:
    """Return this process's group by controller, and by "" in cgroup v2."""
    found: dict[str, str] = {}
    for line in cgroup.splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        for name in controllers.split(","):
            found.setdefault(name, path)
    return found


def _mounts(mountinfo: str) -> list[tuple[str, str, list[str]]]:
    """Return where control groups are mounted, which group lies there, and the controllers ("" for cgroup v2)."""
    found: list[tuple[str, str, list[str]]] = []
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        fields, kind = before.split(), after.split()
        if len(fields) >= 5 and len(kind) >= 3 and kind[0] in ("cgroup", "cgroup2"):
            controllers = [""] if kind[0] == "cgroup2" else kind[2].split(",")
            found.append((fields[4], fields[3], controllers))
    return found or [
        ("sys/fs/cgroup", "/", [""]),
        ("sys/fs/cgroup/cpu", "/", ["cpu"]),
        ("sys/fs/cgroup/memory", "/", ["memory"]),
    ]


def _below(top: str, path: str) -> PurePosixPath:
    """Return a group's path below the group that is mounted; the mounted one if it does not lie there."""
    try:
        below = PurePosixPath(path).relative_to(top)
    except ValueError:
        return PurePosixPath()
    return PurePosixPath() if ".." in below.parts else below
