"""Expands the machine records of this folder, and stands in for the NVML of a machine that cannot be here."""
# ruff: noqa: N802 (the names of functions are NVML's)

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import pynvml

from engineroom import detection
from engineroom.detection import Machine

NOT_SUPPORTED, NOT_FOUND, INVALID_ARGUMENT = 3, 6, 2
CLOCKS = {0: "graphics_clock", 1: "sm_clock", 2: "mem_clock"}
EVENT_REASONS = {  # nvidia-smi's words for the bits of NVML
    "gpu_idle": pynvml.nvmlClocksEventReasonGpuIdle,
    "applications_clocks_setting": pynvml.nvmlClocksEventReasonApplicationsClocksSetting,
    "sw_power_cap": pynvml.nvmlClocksEventReasonSwPowerCap,
    "hw_slowdown": pynvml.nvmlClocksEventReasonHwSlowdown,
    "hw_thermal_slowdown": pynvml.nvmlClocksEventReasonHwThermalSlowdown,
    "hw_power_brake_slowdown": pynvml.nvmlClocksEventReasonHwPowerBrakeSlowdown,
    "sync_boost": pynvml.nvmlClocksEventReasonSyncBoost,
    "sw_thermal_slowdown": pynvml.nvmlClocksEventReasonSwThermalSlowdown,
    "display_clocks_setting": pynvml.nvmlClocksEventReasonDisplayClockSetting,
}


@dataclass(frozen=True)
class Record:
    """One machine: where its files lie, and its sections by name."""

    root: Path
    sections: Mapping[str, str]

    def nvml(self) -> NvmlDouble | None:
        """Return what answers for this machine's NVML, None if it has none."""
        return NvmlDouble(self.sections) if "nvidia-smi -q -x" in self.sections else None

    def detect(self, **environ: str) -> Machine:
        """Return what is detected with this environment."""
        return detection.detect(self.root, environ=environ, nvml=self.nvml())


def expand(name: str, root: Path) -> Record:
    """Write the files of a machine's /proc, /sys and /etc below `root`, and return it."""
    sections = _sections((Path(__file__).parent / f"{name}.txt").read_text(encoding="utf-8"))
    if "lscpu -p" in sections:
        _write_topology(root / "sys/devices/system/cpu", sections)
    # After those of `lscpu -p`: what a section gives itself wins.
    files = {name: text for name, text in sections.items() if "/" in name or name.startswith(".")}
    if "lscpu -p" in sections and sections["proc/cpuinfo"].count("processor") == 1:
        files["proc/cpuinfo"] = _cpuinfo(sections)
    for name, text in files.items():
        path, arrow, target = name.partition(" -> ")
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        if arrow:
            (root / path).symlink_to(target)
        else:
            (root / path).unlink(missing_ok=True)  # not through a link to another CPU's
            (root / path).write_text(text.replace("\\0", "\0"), encoding="utf-8")
    return Record(root, sections)


def _sections(text: str) -> dict[str, str]:
    parts = re.split(r"^== (.*)\n", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def _rows(table: str) -> list[list[int]]:
    """Return CPU, core, socket, node and caches of each line of `lscpu -p`."""
    lines = (line for line in table.splitlines() if line and not line.startswith("#"))
    return [[int(field) for field in line.split(",") if field] for line in lines]


def _write_topology(folder: Path, sections: Mapping[str, str]) -> None:
    """Write /sys/devices/system/cpu of a machine where `lscpu -p` and `lscpu -C` print this.

    A file costs half a millisecond on some disks, and a large machine has thousands that say the same. So a text is
    written once and linked, and a thread that shares its core and all caches with an earlier one is a link to that.
    """
    rows = _rows(sections["lscpu -p"])
    own = {name.split("/")[4] for name in sections if re.match(r"sys/devices/system/cpu/cpu[0-9]+/", name)}
    caches = [line.split() for line in sections.get("lscpu -C", "").splitlines()[1:]]
    columns = (1, 2, *range(4, 4 + len(caches)))
    shared: dict[tuple[int, int], str] = {}
    for column, number in {(column, row[column]) for row in rows for column in columns}:
        shared[column, number] = _ranges([row[0] for row in rows if row[column] == number])
    texts: dict[str, Path] = {}
    folders: dict[tuple[int, ...], str] = {}

    def write(path: Path, text: str) -> None:
        if text in texts:
            path.hardlink_to(texts[text])
        else:
            path.write_text(text, encoding="utf-8")
            texts[text] = path

    folder.mkdir(parents=True)
    for name in ("online", "present"):
        write(folder / name, _ranges([row[0] for row in rows]))
    for row in rows:
        cpu = folder / f"cpu{row[0]}"
        if cpu.name not in own:
            first = folders.setdefault(tuple(row[column] for column in columns), cpu.name)
            if first != cpu.name:
                cpu.symlink_to(first)
                continue
        (cpu / "topology").mkdir(parents=True)
        write(cpu / "topology/core_cpus_list", shared[1, row[1]])
        write(cpu / "topology/package_cpus_list", shared[2, row[2]])
        for index, cache in enumerate(caches):
            here = cpu / f"cache/index{index}"
            here.mkdir(parents=True)
            write(here / "level", cache[5])
            write(here / "type", cache[4])
            write(here / "size", f"{_kib(cache[1]):.0f}K")
            write(here / "shared_cpu_list", shared[4 + index, row[4 + index]])


def _cpuinfo(sections: Mapping[str, str]) -> str:
    """Return /proc/cpuinfo with a block like the given one for every CPU."""
    block = sections["proc/cpuinfo"].strip()
    blocks = []
    for cpu, core, socket, *_ in _rows(sections["lscpu -p"]):
        for key, value in (("processor", cpu), ("physical id", socket), ("core id", core)):
            block = re.sub(rf"^({key}\s*): .*$", rf"\1: {value}", block, flags=re.MULTILINE)
        blocks.append(block)
    return "\n\n".join(blocks) + "\n\n"


def _ranges(numbers: list[int]) -> str:
    """Return a list as Linux writes it: "0-3,8"."""
    runs = itertools.groupby(enumerate(sorted(numbers)), key=lambda pair: pair[1] - pair[0])
    spans = ([number for _, number in run] for _, run in runs)
    return ",".join(f"{span[0]}-{span[-1]}" if len(span) > 1 else str(span[0]) for span in spans)


def _kib(size: str) -> float:
    return float(size[:-1]) * {"K": 1, "M": 1024, "G": 1024 * 1024}[size[-1]]


class NvmlDouble:
    """Answers as pynvml would where nvidia-smi prints a record's texts. `refuse` fails chosen functions with a code.

    A GPU's handle is its element of `nvidia-smi -q -x`, a MIG device's the element of that.
    """

    def __init__(self, sections: Mapping[str, str]) -> None:
        self.log = ElementTree.fromstring(sections["nvidia-smi -q -x"].strip())
        self.gpus = self.log.findall("gpu")
        self.names = [re.findall(r"MIG (\S+) .*UUID: (\S+)\)", part) for part in _listed(sections)]
        self.capabilities = sections["nvidia-smi --query-gpu=compute_cap --format=csv"].split()[1:]
        self.words, self.nodes = _matrix(sections["nvidia-smi topo -m"], len(self.gpus))
        self.refuse: Callable[[str], int | None] = lambda function: None
        self.calls: list[str] = []

    def __getattribute__(self, name: str) -> Any:
        if not name.startswith("nvml"):
            return object.__getattribute__(self, name)
        self.calls.append(name)
        code = self.refuse(name)
        if code is not None:
            raise pynvml.NVMLError(code)
        return object.__getattribute__(self, name)

    def activate(self, *reasons: str) -> None:
        """Let these be the clock event reasons of every GPU, in nvidia-smi's words."""
        for gpu in self.gpus:
            for name in EVENT_REASONS:
                self.change(gpu, f"clocks_event_reasons/clocks_event_reason_{name}", name in reasons)

    @staticmethod
    def change(gpu: ElementTree.Element, path: str, value: int | bool) -> None:
        """Let nvidia-smi print another clock in MHz, or another state of a reason, for a GPU."""
        element = gpu.find(path)
        assert element is not None
        element.text = ("Active" if value else "Not Active") if isinstance(value, bool) else f"{value} MHz"

    def nvmlInit(self) -> None: ...

    def nvmlShutdown(self) -> None: ...

    def nvmlSystemGetDriverVersion(self) -> str:
        return _said(self.log, "driver_version")

    def nvmlSystemGetCudaDriverVersion_v2(self) -> int:
        major, minor = _said(self.log, "cuda_version").split(".")
        return int(major) * 1000 + int(minor) * 10

    def nvmlDeviceGetCount(self) -> int:
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> ElementTree.Element:
        return self.gpus[index]

    def nvmlDeviceGetName(self, handle: ElementTree.Element) -> str:
        if handle.tag == "gpu":
            return _said(handle, "product_name")
        gpu, place = self._place(handle)
        return f"{_said(gpu, 'product_name')} MIG {self.names[self.gpus.index(gpu)][place][0]}"

    def nvmlDeviceGetUUID(self, handle: ElementTree.Element) -> str:
        if handle.tag == "gpu":
            return _said(handle, "uuid")
        gpu, place = self._place(handle)
        return str(self.names[self.gpus.index(gpu)][place][1])

    def nvmlDeviceGetMemoryInfo(self, handle: ElementTree.Element) -> Any:
        return SimpleNamespace(total=_number(handle, "fb_memory_usage/total") << 20)

    def nvmlDeviceGetCudaComputeCapability(self, handle: ElementTree.Element) -> tuple[int, int]:
        major, minor = self.capabilities[self.gpus.index(handle)].split(".")
        return int(major), int(minor)

    def nvmlDeviceGetPciInfo(self, handle: ElementTree.Element) -> Any:
        return SimpleNamespace(busId=_said(handle, "pci/pci_bus_id"))

    def nvmlDeviceGetNumaNodeId(self, handle: ElementTree.Element) -> int:
        node = self.nodes[self.gpus.index(handle)]
        if node == "N/A":
            raise pynvml.NVMLError(NOT_SUPPORTED)
        return int(node)

    def nvmlDeviceGetEccMode(self, handle: ElementTree.Element) -> list[int]:
        return [_said(handle, f"ecc_mode/{when}_ecc") == "Enabled" for when in ("current", "pending")]

    def nvmlDeviceGetMigMode(self, handle: ElementTree.Element) -> list[int]:
        return [_said(handle, f"mig_mode/{when}_mig") == "Enabled" for when in ("current", "pending")]

    def nvmlDeviceGetC2cModeInfoV(self, handle: ElementTree.Element) -> Any:
        return SimpleNamespace(isC2cEnabled=_said(handle, "c2c_mode") == "Enabled")

    def nvmlDeviceGetPowerManagementLimit(self, handle: ElementTree.Element) -> int:
        return 1000 * _number(handle, "gpu_power_readings/current_power_limit")

    def nvmlDeviceGetPowerManagementDefaultLimit(self, handle: ElementTree.Element) -> int:
        return 1000 * _number(handle, "gpu_power_readings/default_power_limit")

    def nvmlDeviceGetPowerManagementLimitConstraints(self, handle: ElementTree.Element) -> list[int]:
        return [1000 * _number(handle, f"gpu_power_readings/{end}_power_limit") for end in ("min", "max")]

    def nvmlDeviceGetMaxClockInfo(self, handle: ElementTree.Element, clock: int) -> int:
        return _number(handle, f"max_clocks/{CLOCKS[clock]}")

    def nvmlDeviceGetClockInfo(self, handle: ElementTree.Element, clock: int) -> int:
        return _number(handle, f"clocks/{CLOCKS[clock]}")

    def nvmlDeviceGetApplicationsClock(self, handle: ElementTree.Element, clock: int) -> int:
        return _number(handle, f"applications_clocks/{CLOCKS[clock]}")

    def nvmlDeviceGetDefaultApplicationsClock(self, handle: ElementTree.Element, clock: int) -> int:
        return _number(handle, f"default_applications_clocks/{CLOCKS[clock]}")

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle: ElementTree.Element) -> int:
        said = {name: _said(handle, f"clocks_event_reasons/clocks_event_reason_{name}") for name in EVENT_REASONS}
        return sum(bit for name, bit in EVENT_REASONS.items() if said[name] == "Active")

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle: ElementTree.Element) -> int:
        return NvmlDouble.nvmlDeviceGetCurrentClocksEventReasons(self, handle)

    def nvmlDeviceGetPersistenceMode(self, handle: ElementTree.Element) -> int:
        return _said(handle, "persistence_mode") == "Enabled"

    def nvmlDeviceGetMaxPcieLinkGeneration(self, handle: ElementTree.Element) -> int:
        return _number(handle, "pci/pci_gpu_link_info/pcie_gen/max_link_gen")

    def nvmlDeviceGetMaxPcieLinkWidth(self, handle: ElementTree.Element) -> int:
        return _number(handle, "pci/pci_gpu_link_info/link_widths/max_link_width")

    def nvmlDeviceGetMaxMigDeviceCount(self, handle: ElementTree.Element) -> int:
        return 7 if self.nvmlDeviceGetMigMode(handle)[0] else 0

    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle: ElementTree.Element, index: int) -> ElementTree.Element:
        found = [slice_ for slice_ in handle.iter("mig_device") if _said(slice_, "index") == str(index)]
        if not found:
            raise pynvml.NVMLError(NOT_FOUND)
        return found[0]

    def nvmlDeviceGetGpuInstanceId(self, handle: ElementTree.Element) -> int:
        return _number(handle, "gpu_instance_id")

    def nvmlDeviceGetComputeInstanceId(self, handle: ElementTree.Element) -> int:
        return _number(handle, "compute_instance_id")

    def nvmlDeviceGetAttributes(self, handle: ElementTree.Element) -> Any:
        return SimpleNamespace(
            multiprocessorCount=_number(handle, "device_attributes/shared/multiprocessor_count"),
            memorySizeMB=_number(handle, "fb_memory_usage/total"),
        )

    def nvmlDeviceGetNvLinkState(self, handle: ElementTree.Element, link: int) -> int:
        active = self._nvlinks(handle)
        if not active:
            raise pynvml.NVMLError(NOT_SUPPORTED)
        if link >= len(active):
            raise pynvml.NVMLError(INVALID_ARGUMENT)
        return 1

    def nvmlDeviceGetNvLinkRemoteDeviceType(self, handle: ElementTree.Element, link: int) -> int:
        return 2 if len(self.gpus) > 2 else 0

    def nvmlDeviceGetNvLinkRemotePciInfo(self, handle: ElementTree.Element, link: int) -> Any:
        return SimpleNamespace(busId=_said(self.gpus[self._nvlinks(handle)[link]], "pci/pci_bus_id"))

    def nvmlDeviceGetTopologyCommonAncestor(self, a: ElementTree.Element, b: ElementTree.Element) -> int:
        word = self.words[self.gpus.index(a)][self.gpus.index(b)]
        return {"PIX": 10, "PXB": 20, "PHB": 30, "NODE": 40}.get(word, 50)

    def _nvlinks(self, handle: ElementTree.Element) -> list[int]:
        """Return at which GPU each link ends; through switches, all links reach all GPUs."""
        words = self.words[self.gpus.index(handle)]
        ends = [(other, int(word[2:])) for other, word in enumerate(words) if word.startswith("NV")]
        return [other for other, links in ends[:1] for _ in range(links)]

    def _place(self, handle: ElementTree.Element) -> tuple[ElementTree.Element, int]:
        """Return a MIG device's GPU and its place among that one's."""
        for gpu in self.gpus:
            slices = list(gpu.iter("mig_device"))
            if handle in slices:
                return gpu, slices.index(handle)
        raise pynvml.NVMLError(INVALID_ARGUMENT)


def _listed(sections: Mapping[str, str]) -> list[str]:
    """Return the part of `nvidia-smi -L` of each GPU."""
    return re.split(r"^GPU [0-9]+:", sections.get("nvidia-smi -L", ""), flags=re.MULTILINE)[1:]


def _matrix(text: str, count: int) -> tuple[list[list[str]], list[str]]:
    """Return the words between GPUs, and each GPU's NUMA id, of `nvidia-smi topo -m`; network cards are left out."""
    rows = [re.split(r"\t+", line.rstrip()) for line in text.splitlines() if re.match(r"GPU[0-9]+\t", line)]
    return [[word.strip() for word in row[1 : count + 1]] for row in rows], [row[-1] for row in rows]


def _said(element: ElementTree.Element, path: str) -> str:
    text = element.findtext(path)
    if text is None or text == "N/A":
        raise pynvml.NVMLError(NOT_SUPPORTED)
    return text


def _number(element: ElementTree.Element, path: str) -> int:
    match = re.match(r"[0-9]+", _said(element, path))
    assert match
    return int(match[0])
