"""Expands the machine records of tests/spoofs, and stands in for the NVML of a machine that cannot be here."""
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
import pytest

from engineroom import detection
from engineroom.detection import Machine

SPOOFS = Path(__file__).parents[1] / "spoofs"
NOT_SUPPORTED, NOT_FOUND, INVALID_ARGUMENT = 3, 6, 2


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


@pytest.fixture(scope="session")
def record(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Record]:
    """Return the function that expands a record by its name, once."""
    found: dict[str, Record] = {}

    def expanded(name: str) -> Record:
        if name not in found:
            sections = _sections((SPOOFS / f"{name}.txt").read_text(encoding="utf-8"))
            root = tmp_path_factory.mktemp(name)
            _expand(root, sections)
            found[name] = Record(root, sections)
        return found[name]

    return expanded


def _sections(text: str) -> dict[str, str]:
    parts = re.split(r"^== (.*)\n", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def _expand(root: Path, sections: Mapping[str, str]) -> None:
    """Write the files of /proc, /sys and /etc, those of `lscpu -p` first: what a section gives itself wins."""
    files = _topology(sections) if "lscpu -p" in sections else {}
    files.update({name: text for name, text in sections.items() if "/" in name or name.startswith(".")})
    if "lscpu -p" in sections and sections["proc/cpuinfo"].count("processor") == 1:
        files["proc/cpuinfo"] = _cpuinfo(sections)
    for name, text in files.items():
        path, arrow, target = name.partition(" -> ")
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        if arrow:
            (root / path).symlink_to(target)
        else:
            (root / path).write_text(text.replace("\\0", "\0"), encoding="utf-8")


def _rows(table: str) -> list[list[int]]:
    """Return CPU, core, socket, node and caches of each line of `lscpu -p`."""
    lines = (line for line in table.splitlines() if line and not line.startswith("#"))
    return [[int(field) for field in line.split(",") if field] for line in lines]


def _topology(sections: Mapping[str, str]) -> dict[str, str]:
    """Return what /sys/devices/system/cpu holds where `lscpu -p` and `lscpu -C` print this."""
    rows = _rows(sections["lscpu -p"])
    folder = "sys/devices/system/cpu"
    online = _ranges([row[0] for row in rows])
    files = {f"{folder}/online": online, f"{folder}/present": online}
    caches = [line.split() for line in sections.get("lscpu -C", "").splitlines()[1:]]
    columns = {"core_cpus_list": 1, "package_cpus_list": 2}
    shared = {
        column: {
            number: _ranges([row[0] for row in rows if row[column] == number])
            for number in {row[column] for row in rows}
        }
        for column in (1, 2, *range(4, 4 + len(caches)))
    }
    for row in rows:
        cpu = f"{folder}/cpu{row[0]}"
        files.update({f"{cpu}/topology/{name}": shared[column][row[column]] for name, column in columns.items()})
        for index, cache in enumerate(caches):
            here = f"{cpu}/cache/index{index}"
            files[f"{here}/level"], files[f"{here}/type"] = cache[5], cache[4]
            files[f"{here}/size"] = f"{_kib(cache[1]):.0f}K"
            files[f"{here}/shared_cpu_list"] = shared[4 + index][row[4 + index]]
    return files


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

    def nvmlDeviceGetPowerManagementLimitConstraints(self, handle: ElementTree.Element) -> list[int]:
        return [1000 * _number(handle, f"gpu_power_readings/{end}_power_limit") for end in ("min", "max")]

    def nvmlDeviceGetMaxClockInfo(self, handle: ElementTree.Element, clock: int) -> int:
        return _number(handle, {1: "max_clocks/sm_clock", 2: "max_clocks/mem_clock"}[clock])

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
