"""Says in words what a machine is: one line a fact, and no line for what is not known."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby

from engineroom.detection import Cpu, Gpu, Machine
from engineroom.detection.machine import Cache, Nic, NumaNode, Slice

GIBIBYTE = 1 << 30
KINDS = {"core": "P-cores", "atom": "E-cores", "lowpower": "LP E-cores"}  # Linux's names and Intel's
UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


def machine_in_words(machine: Machine) -> dict[str, str]:
    """Return what is known of a machine, by the fact's name."""
    facts = {**_of_processor(machine), **_of_memory(machine), **_of_gpus(machine), **_of_system(machine)}
    return {name: words for name, words in facts.items() if words}


def size(count: int) -> str:
    """Write a number of bytes in the unit that suits it: 512 bytes, 64 KiB, 23.5 GiB."""
    value, unit = float(count), 0
    while value >= 1024 and unit < len(UNITS) - 1:
        value, unit = value / 1024, unit + 1
    digits = 0 if unit < 2 or value == int(value) or value >= 100 else 1
    return f"{value:.{digits}f} {UNITS[unit]}"


def number_ranges(numbers: Iterable[int]) -> str:
    """Write whole numbers as ranges: 0-3,8."""
    runs = groupby(enumerate(sorted(numbers)), lambda pair: pair[1] - pair[0])
    spans = [[number for _, number in run] for _, run in runs]
    return ",".join(str(span[0]) if len(span) == 1 else f"{span[0]}-{span[-1]}" for span in spans)


def _of_processor(machine: Machine) -> dict[str, str | None]:
    cpu, limits = machine.cpu, machine.limits
    counts = [_count(cpu.sockets, "socket"), _count(cpu.cores, "core"), _count(cpu.threads, "thread")]
    if cpu.offline:
        counts.append(f"{cpu.offline} more offline")
    usable = f"{_count(cpu.usable_cores, 'core')} on CPUs {number_ranges(cpu.usable)}" if cpu.usable else None
    if limits.cpus is not None:
        usable = f"{usable or _count(cpu.usable_cores, 'core')}, quota of {limits.cpus:g} CPUs"
    kinds = [f"{kind.cores} {KINDS.get(kind.name, kind.name)}" for kind in cpu.kinds] if len(cpu.kinds) > 1 else []
    return {
        "system": machine.system,
        "product": machine.product,
        "processor": ", ".join(dict.fromkeys(filter(None, (cpu.model, cpu.architecture)))),
        "cores": ", ".join(counts),
        "kinds of cores": ", ".join(kinds),
        "usable here": usable,
        "instruction sets": " ".join(cpu.isa),
        "caches": ", ".join(map(_cache, cpu.caches)),
        "highest clock": _clock(cpu),
        "governor": cpu.governor,
    }


def _clock(cpu: Cpu) -> str | None:
    if not cpu.max_mhz:
        return None
    held = f", held to {cpu.limit_mhz:,.0f} MHz" if cpu.limit_mhz and cpu.limit_mhz < cpu.max_mhz else ""
    return f"{cpu.max_mhz:,.0f} MHz{held}{', boost off' if cpu.boost is False else ''}"


def _of_memory(machine: Machine) -> dict[str, str | None]:
    memory = size(machine.memory_bytes)
    if machine.memory_total_bytes > machine.memory_bytes:
        memory += f" usable of {size(machine.memory_total_bytes)}"
    nodes = map(_node, (*machine.numa, *machine.memory_nodes))
    return {
        "memory": memory,
        "swap": size(machine.swap_bytes) if machine.swap_bytes else "none",
        "NUMA": "\n".join(nodes),
        "transparent huge pages": machine.transparent_huge_pages,
    }


def _of_gpus(machine: Machine) -> dict[str, str | None]:
    facts: dict[str, str | None] = {}
    for numbers, gpu in _alike(machine.gpus):
        facts[f"GPU {numbers}"] = ", ".join(_of_gpu(gpu))
    for gpu in machine.gpus:
        facts[f"GPU {gpu.index} now"] = ", ".join(_of_gpu_now(gpu))
        facts[f"MIG of GPU {gpu.index}"] = "\n".join(_slices(gpu.slices))
    if not machine.gpus:
        facts["GPU"] = "none that can be seen"
    driver = machine.gpu_driver
    return {
        **facts,
        "GPUs hidden": f"{machine.gpus_hidden}, by CUDA_VISIBLE_DEVICES" if machine.gpus_hidden else None,
        "GPU links": _links(machine.gpu_links),
        "GPU driver": f"{driver.version}{f', serves CUDA {driver.cuda_version}' if driver.cuda_version else ''}"
        if driver
        else None,
        "GPU problem": machine.gpu_problem,
    }


def _of_system(machine: Machine) -> dict[str, str | None]:
    container = machine.container
    return {
        "network": ", ".join(map(_nic, machine.nics)),
        "disks": ", ".join(f"{disk.name} {disk.kind} {size(disk.size_bytes)}" for disk in machine.disks),
        "operating system": machine.operating_system,
        "kernel": machine.kernel,
        "container": f"{container.kind}{f', NGC {container.ngc}' if container.ngc else ''}" if container else None,
        "virtualization": machine.virtualization,
    }


def _links(rows: Sequence[Sequence[str]]) -> str:
    """Return which GPUs are joined how: "NV18: each to each", or "NV18: 0-1, 2-3; SYS: 0-2, ..."."""
    pairs: dict[str, list[str]] = {}
    for a, row in enumerate(rows):
        for b, link in enumerate(row[a + 1 :], start=a + 1):
            pairs.setdefault(link, []).append(f"{a}-{b}")
    if len(pairs) == 1 and len(rows) > 2:
        return f"{next(iter(pairs))}: each to each"
    return "; ".join(f"{link}: {', '.join(joined)}" for link, joined in pairs.items())


def _alike(gpus: Sequence[Gpu]) -> Iterator[tuple[str, Gpu]]:
    """Yield (numbers, one of them) for neighbours that differ only in what is each one's own."""

    def common(gpu: Gpu) -> Gpu:
        own = replace(gpu, index=0, uuid="", pci_bus_id="", numa_node=None, memory_numa_node=None, slices=())
        return replace(own, held_sm_mhz=None, slowed_by=None)

    for _, group in groupby(gpus, common):
        alike = list(group)
        yield number_ranges(gpu.index for gpu in alike), alike[0]


def _of_gpu(gpu: Gpu) -> Iterator[str]:
    yield gpu.name
    if gpu.memory_bytes:
        yield size(gpu.memory_bytes)
    if gpu.shares_host_memory:
        yield "shares the host's memory"
    if gpu.compute_capability:
        yield f"compute capability {gpu.compute_capability}"
    if gpu.ecc is not None:
        yield f"ECC {_on(gpu.ecc)}"
    if gpu.power_limit_w:
        most = gpu.power_limit_default_w or gpu.power_limit_max_w
        yield f"{gpu.power_limit_w:.0f} W{f' of {most:.0f} W' if most and most != gpu.power_limit_w else ''}"
    if gpu.max_sm_mhz:
        yield f"up to {gpu.max_sm_mhz:,} MHz{f', held to {gpu.limit_sm_mhz:,} MHz' if gpu.limit_sm_mhz else ''}"
    if gpu.limit_memory_mhz and gpu.max_memory_mhz:
        yield f"memory held to {gpu.limit_memory_mhz:,} of {gpu.max_memory_mhz:,} MHz"
    if gpu.persistence is not None:
        yield f"persistence mode {_on(gpu.persistence)}"
    if gpu.pcie:
        yield gpu.pcie
    if gpu.nvlink_c2c:
        yield "NVLink-C2C to the CPU"
    if gpu.mig is not None:
        yield f"MIG {_on(gpu.mig)}"


def _of_gpu_now(gpu: Gpu) -> Iterator[str]:
    if gpu.held_sm_mhz:
        yield f"held to {gpu.held_sm_mhz:,} MHz by a setting"
    if gpu.slowed_by:
        yield f"slowed by {' and '.join(gpu.slowed_by)}"


def _slices(slices: Sequence[Slice]) -> list[str]:
    memory = [f", {size(item.memory_bytes)}" if item.memory_bytes else "" for item in slices]
    return [f"{item.profile}{known}, {item.uuid}" for item, known in zip(slices, memory, strict=True)]


def _node(node: NumaNode) -> str:
    cpus = f"CPUs {number_ranges(node.cpus)}" if node.cpus else "no CPUs"
    return f"node {node.number}: {cpus}, {size(node.memory_bytes)}"


def _nic(nic: Nic) -> str:
    speed = f", {nic.speed_mbit:,} Mbit/s" if nic.speed_mbit else ""
    return f"{nic.name} {nic.kind}{speed}"


def _cache(cache: Cache) -> str:
    letter = {"data": "d", "instruction": "i"}.get(cache.kind, "")
    return f"L{cache.level}{letter} {cache.count} x {size(cache.size_bytes)}"


def _on(value: bool) -> str:
    return "on" if value else "off"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
