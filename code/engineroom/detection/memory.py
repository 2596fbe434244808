"""Finds the memory: how much, swap, huge pages, and on which NUMA nodes it lies."""

from __future__ import annotations

import re
from pathlib import Path

from engineroom.detection.files import cpu_list, names, text
from engineroom.detection.machine import NumaNode


def total_bytes(root: Path) -> int:
    """Return what the kernel manages, 0 if it does not say."""
    return _bytes(text(root / "proc/meminfo"), "MemTotal")


def swap_bytes(root: Path) -> int:
    """Return the size of all swap space."""
    return _bytes(text(root / "proc/meminfo"), "SwapTotal")


def numa_nodes(root: Path) -> tuple[NumaNode, ...]:
    """Return the NUMA nodes that have CPUs or memory; none where the kernel knows of no NUMA."""
    folder = root / "sys/devices/system/node"
    numbers = [int(name[4:]) for name in names(folder) if re.fullmatch(r"node[0-9]{1,5}", name)]
    nodes = [
        NumaNode(
            number,
            cpu_list(text(folder / f"node{number}/cpulist")),
            _bytes(text(folder / f"node{number}/meminfo"), "MemTotal"),
        )
        for number in numbers
    ]
    return tuple(node for node in nodes if node.cpus or node.memory_bytes)


def has_no_cpus(root: Path, node: int) -> bool:
    """Say whether a NUMA node is there and memory only."""
    folder = root / f"sys/devices/system/node/node{node}"
    return bool(names(folder)) and not cpu_list(text(folder / "cpulist"))


def allowed_nodes(root: Path) -> tuple[int, ...]:
    """Return the NUMA nodes whose memory this process may use (its cpuset's), () where the kernel does not say."""
    match = re.search(r"^Mems_allowed_list:(.*)$", text(root / "proc/self/status"), re.MULTILINE)
    return cpu_list(match[1]) if match else ()


def transparent_huge_pages(root: Path) -> str | None:
    """Return the mode that is chosen, which stands in brackets: "always [madvise] never"."""
    match = re.search(r"\[(\w+)\]", text(root / "sys/kernel/mm/transparent_hugepage/enabled"))
    return match[1] if match else None


def _bytes(meminfo: str, key: str) -> int:
    """Return a field of a meminfo file; a NUMA node's has "Node 0" before it."""
    match = re.search(rf"^(?:Node [0-9]+ )?{key}:\s+([0-9]{{1,16}}) kB", meminfo, re.MULTILINE)
    return int(match[1]) * 1024 if match else 0
