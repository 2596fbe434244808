"""MLPerf's system description: each field detected, asserted by a person, or unknown, and where that comes from."""

from __future__ import annotations

import json
import platform
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from engineroom import __version__, registry, versions
from engineroom.detection.gpu_links import UNKNOWN
from engineroom.detection.machine import Cpu, Disk, Gpu, Machine, Nic
from engineroom.systems import System, description_fields

GIBIBYTE = 1 << 30
NONE = "N/A"  # what MLPerf's descriptions say of a field that does not apply

# Where a value is required that says something: SYSTEM_DESC_MEANINGFUL_RESPONSE_REQUIRED_FIELDS of mlcommons/inference,
# tools/submission/submission_checker/constants.py (v6.1). All other fields must be there and may be empty.
REQUIRED = frozenset(
    {
        *("submitter", "division", "system_type", "status", "system_name", "number_of_nodes", "cooling"),
        *("host_processors_per_node", "host_processor_model_name", "host_processor_core_count"),
        *("host_memory_capacity", "host_memory_configuration", "host_storage_capacity", "host_storage_type"),
        *("host_networking", "host_network_card_count", "host_networking_topology"),
        *("accelerators_per_node", "accelerator_model_name", "accelerator_host_interconnect"),
        *("accelerator_interconnect", "accelerator_memory_capacity", "accelerator_memory_configuration"),
        *("framework", "operating_system", "other_software_stack"),
    }
)

# The distributions behind an engine, as MLPerf's results name them.
LIBRARIES = {"openvino": "OpenVINO", "onnxruntime": "ONNX Runtime", "tensorrt": "TensorRT", "torch": "PyTorch"}


class Known(StrEnum):
    """How a value is known."""

    DETECTED = "detected"
    ASSERTED = "asserted"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Value:
    """One field's text ("" if it is unknown), how it is known, and its source: what was looked at, or a file:line."""

    text: str
    known: Known
    source: str


Description = Mapping[str, Value]
Found = tuple[str, str]  # text and source


def describe(machine: Machine, system: System | None = None, *, engine: str | None = None) -> Description:
    """Return every field of MLPerf's system description, in MLPerf's order.

    `system` is what a person says of this machine, and goes before what is detected; `engine` is the plug-in that
    infers. Nothing is made up: what neither knows is unknown.
    """
    detected = {
        name: found
        for name, found in {**_host(machine), **_accelerators(machine), **_software(machine, engine)}.items()
        if found[0]
    }
    asserted = system.description if system else {}
    fields: dict[str, Value] = {}
    for name in description_fields():
        if name in asserted:
            differs = f"; detected: {detected[name][0]}" if name in detected else ""
            fields[name] = Value(asserted[name].text, Known.ASSERTED, asserted[name].where + differs)
        elif name in detected:
            fields[name] = Value(detected[name][0], Known.DETECTED, detected[name][1])
        else:
            fields[name] = Value("", Known.UNKNOWN, "required" if name in REQUIRED else "may be empty")
    return fields


def required_unknown(description: Description) -> list[str]:
    """Return the fields without which a submission is refused and that are not known."""
    return [name for name, value in description.items() if name in REQUIRED and value.known is Known.UNKNOWN]


def for_a_person(description: Description) -> list[str]:
    """Return the fields that a person should fill in for good: what is required and unknown, and the notes.

    The framework is not among them: it is the engine's.
    """
    return [*(name for name in required_unknown(description) if name != "framework"), "hw_notes"]


def to_json(description: Description) -> str:
    """Return the JSON that a submission holds: texts only, "" where nothing is known, every field there.

    MLPerf's checker demands every field, and reads `accelerators_per_node` as a number ("0" without accelerators).
    """
    return json.dumps({name: value.text for name, value in description.items()}, indent=2, ensure_ascii=False) + "\n"


def _host(machine: Machine) -> dict[str, Found]:
    """Return what is found of the machine itself.

    The core count is that of one processor: submission_rules.adoc gives 26 for a host of two Xeon Platinum 8164.
    """
    cpu, processors = machine.cpu, "/proc/cpuinfo"
    cores, rest = divmod(cpu.cores, cpu.sockets)
    offline = f"; {cpu.offline} logical CPUs are offline" if cpu.offline else ""
    return {
        "system_name": (machine.product or "", "firmware"),
        "number_of_nodes": ("1", "Engineroom runs on one machine"),
        "host_processors_per_node": (str(cpu.sockets), processors),
        "host_processor_model_name": (cpu.model, processors),
        "host_processor_core_count": ("" if rest else str(cores), f"{processors}: of one processor{offline}"),
        "host_processor_frequency": (_mhz(cpu.max_mhz), "/sys/devices/system/cpu: the highest"),
        "host_processor_caches": (_caches(cpu), "/sys/devices/system/cpu"),
        "host_processor_interconnect": (NONE if cpu.sockets == 1 else "", "one processor"),
        "host_memory_capacity": (_gib(machine.memory_total_bytes), "/proc/meminfo: without what the kernel keeps"),
        "host_storage_capacity": (_disks(machine.disks), "/sys/block"),
        "host_storage_type": (", ".join(dict.fromkeys(disk.kind for disk in machine.disks)), "/sys/block"),
        "host_networking": (", ".join(dict.fromkeys(nic.kind for nic in machine.nics)), "/sys/class/net"),
        "host_network_card_count": (_nics(machine.nics), "/sys/class/net"),
    }


def _accelerators(machine: Machine) -> dict[str, Found]:
    gpus = machine.gpus
    if not gpus:
        rows = ("model_name", "memory_capacity", "memory_configuration", "frequency", "on-chip_memories")
        links = ("host_interconnect", "interconnect", "interconnect_topology")
        missing = {f"accelerator_{name}": (NONE, "no accelerator") for name in (*rows, *links)}
        return {"accelerators_per_node": ("0", "no accelerator"), **missing}
    source = f"NVIDIA driver {machine.gpu_driver.version}" if machine.gpu_driver else "NVIDIA driver"
    between, topology = _links(machine)
    return {
        "accelerators_per_node": (str(len(gpus)), source),
        "accelerator_model_name": (_one_or_all(_model(gpu) for gpu in gpus), source),
        "accelerator_memory_capacity": (_one_or_all(_gpu_memory(gpu) for gpu in gpus), source),
        "accelerator_frequency": (_one_or_all(_mhz(gpu.max_sm_mhz) for gpu in gpus), f"{source}: the highest"),
        "accelerator_host_interconnect": (_one_or_all(_host_link(gpu) for gpu in gpus), source),
        "accelerator_interconnect": (between, source if len(gpus) > 1 else "one accelerator"),
        "accelerator_interconnect_topology": (topology, source if len(gpus) > 1 else "one accelerator"),
    }


def _software(machine: Machine, engine: str | None) -> dict[str, Found]:
    libraries = _libraries(engine) if engine else []
    driver = machine.gpu_driver
    stack = [
        f"Engineroom {__version__}",
        f"Python {platform.python_version()}",
        f"NVIDIA driver {driver.version}" if driver else "",
        f"CUDA {driver.cuda_version} (the driver's)" if driver and driver.cuda_version else "",
        f"Linux {machine.kernel}" if machine.kernel else "",
        _container(machine),
    ]
    return {
        "framework": (", ".join(libraries), f"installed for the engine {engine}"),
        "operating_system": (machine.operating_system, "/etc/os-release"),
        "other_software_stack": (", ".join(filter(None, stack)), "what is installed"),
    }


def _libraries(engine: str) -> list[str]:
    """Return name and version of each distribution that the engine stands on and that is installed."""
    plugin = registry.get("engines", engine, where="--engine").load().ENGINE
    found = versions.of_distributions(plugin.distributions)
    return [
        f"{LIBRARIES.get(name, name)} {version}" for name, version in found.items() if version != versions.NOT_INSTALLED
    ]


def _container(machine: Machine) -> str:
    if not machine.container:
        return ""
    return f"{machine.container.kind} container" + (f" {machine.container.ngc}" if machine.container.ngc else "")


def _model(gpu: Gpu) -> str:
    """Return the name, with the MIG slices as NVIDIA's results write them: "NVIDIA H200 (3x1g.18gb MIG)"."""
    profiles = Counter(piece.profile for piece in gpu.slices)
    slices = " + ".join(f"{count}x{profile}" for profile, count in sorted(profiles.items()))
    return f"{gpu.name} ({slices} MIG)" if slices else gpu.name


def _host_link(gpu: Gpu) -> str:
    """Return how data reaches the GPU; the PCIe link that the driver reports of one inside a SoC is not it."""
    if gpu.nvlink_c2c:
        return "NVLink-C2C"
    return "" if gpu.shares_host_memory else gpu.pcie or ""


def _gpu_memory(gpu: Gpu) -> str:
    return "shared with the host" if gpu.shares_host_memory else _gib(gpu.memory_bytes)


def _links(machine: Machine) -> tuple[str, str]:
    """Return how the accelerators reach each other, and the pattern of it, in nvidia-smi's words."""
    if len(machine.gpus) == 1:
        return NONE, NONE
    pairs = {link for a, row in enumerate(machine.gpu_links) for b, link in enumerate(row) if a != b}
    if UNKNOWN in pairs:
        return "", ""
    nvlinks = sorted({int(link[2:]) for link in pairs if link.startswith("NV") and link[2:].isdigit()})
    names = [*(f"{count}x NVLink" for count in nvlinks), *(["PCIe"] if len(pairs) > len(nvlinks) else [])]
    topology = f"every pair {next(iter(pairs))}" if len(pairs) == 1 else ", ".join(sorted(pairs))
    return ", ".join(names), topology


def _one_or_all(texts: Iterable[str]) -> str:
    """Return what all have in common, or the number of each; nothing if one is not known."""
    counts = Counter(texts)
    if "" in counts:
        return ""
    return next(iter(counts)) if len(counts) == 1 else " + ".join(f"{n}x {text}" for text, n in counts.items())


def _caches(cpu: Cpu) -> str:
    """Return "112x 48 KiB L1d, 112x 32 KiB L1i, 112x 2 MiB L2, 2x 105 MiB L3"."""
    letters = {"data": "d", "instruction": "i"}
    return ", ".join(
        f"{cache.count}x {_binary(cache.size_bytes)} L{cache.level}{letters.get(cache.kind, '')}"
        for cache in cpu.caches
    )


def _disks(disks: Iterable[Disk]) -> str:
    """Return "1x 960 GB + 8x 3.84 TB"; disks are sold by powers of ten."""
    counts = Counter(_decimal(disk.size_bytes) for disk in disks)
    return " + ".join(f"{count}x {size}" for size, count in counts.items())


def _nics(nics: Iterable[Nic]) -> str:
    """Return "8 ports at 400 Gbit/s + 1 port of unknown speed"; what is seen are ports, not cards."""
    speeds = Counter(nic.speed_mbit or 0 for nic in nics)
    return " + ".join(
        f"{count} {'port' if count == 1 else 'ports'} {_speed(speed)}" for speed, count in sorted(speeds.items())[::-1]
    )


def _speed(mbit: int) -> str:
    if not mbit:
        return "of unknown speed"
    return f"at {mbit / 1000:g} Gbit/s" if mbit >= 1000 else f"at {mbit} Mbit/s"


def _mhz(mhz: float | None) -> str:
    return f"{mhz:.0f} MHz" if mhz else ""


def _gib(size_bytes: int | None) -> str:
    """Return a memory in GiB: three digits are as much as the kernel and the driver leave unchanged."""
    size = (size_bytes or 0) / GIBIBYTE
    return f"{size:.0f} GiB" if size >= 100 else f"{size:.1f} GiB" if size else ""


def _binary(size_bytes: int) -> str:
    mebibytes = size_bytes / (1 << 20)
    return f"{mebibytes:g} MiB" if mebibytes >= 1 else f"{size_bytes / (1 << 10):g} KiB"


def _decimal(size_bytes: int) -> str:
    gigabytes = size_bytes / 1e9
    return f"{gigabytes / 1000:.3g} TB" if gigabytes >= 1000 else f"{gigabytes:.0f} GB"
