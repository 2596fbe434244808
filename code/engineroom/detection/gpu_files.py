"""Tells of NVIDIA's GPUs without NVML, by the driver's files, and says why NVML cannot be asked and how to mend it."""

from __future__ import annotations

import re
from pathlib import Path

from engineroom.detection import bus, host, nvml
from engineroom.detection.files import exists, names, text
from engineroom.detection.machine import Gpu
from engineroom.detection.nvml import Refusal

IN_CONTAINER = "in a container, start it with the NVIDIA Container Toolkit (docker run --gpus=all)"


def gpus(root: Path) -> tuple[Gpu, ...]:
    """Return the GPUs that the driver lists in /proc, or the one that belongs to a Jetson's chip."""
    folder = root / "proc/driver/nvidia/gpus"
    found = tuple(
        Gpu(
            name=fields.get("Model") or "an NVIDIA GPU",
            index=index,
            uuid=fields.get("GPU UUID", ""),
            pci_bus_id=bus.address(name),
            numa_node=bus.numa_node(root, bus.address(name)),
        )
        for index, name in enumerate(names(folder))
        if (fields := _fields(text(folder / name / "information"))) is not None
    )
    if found or "nvidia,tegra" not in text(root / "proc/device-tree/compatible"):
        return found
    return (Gpu(f"{host.device_tree_model(root)} integrated GPU".strip(), shares_host_memory=True),)


def driver_version(root: Path) -> str:
    """Return the version of the loaded kernel module, "" if there is none."""
    match = re.search(
        r"Kernel Module\b.*?\s([0-9]+(?:\.[0-9]+){1,2})\s", f"{text(root / 'proc/driver/nvidia/version')} "
    )
    return match[1] if match else ""


def problem(root: Path, found: tuple[Gpu, ...], refusal: Refusal | None) -> str | None:
    """Say in one sentence why GPUs that are there could not be asked, and how to mend it; None if there are none."""
    if found and found[0].shares_host_memory:
        return "the GPU is known by the device tree only: this Jetson's system has no NVML" if refusal is None else None
    on_bus = bus.nvidia_gpus(root)
    if found:
        return _no_nvml(root, refusal)
    if refusal and exists(root / nvml.WSL_LIBRARY):
        return (
            f"NVIDIA's driver in Windows does not answer ({refusal.words}); update it there, then run `wsl --shutdown`"
        )
    return _not_driven(root, on_bus[0]) if on_bus else None


def none_given(root: Path) -> str | None:
    """Say why NVML counts no GPU though the machine has some."""
    if not gpus(root) and not bus.nvidia_gpus(root):
        return None
    return f"the NVIDIA driver shows none of the GPUs to this process; {IN_CONTAINER}"


def no_answer(index: int, refusal: Refusal) -> str:
    """Say that a GPU does not answer."""
    return f"GPU {index} does not answer ({refusal.words}); see `nvidia-smi` and `dmesg`, reset it or reboot"


def _not_driven(root: Path, pci_bus_id: str) -> str:
    driver = bus.driver(root, pci_bus_id)
    if driver == "nvidia":
        return f"NVIDIA's driver could not start the GPU {pci_bus_id}; see `dmesg`"
    if driver == "vfio-pci":
        return f"the NVIDIA GPU {pci_bus_id} is set aside for a virtual machine: its driver is vfio-pci"
    why = f"its driver is {driver}, not NVIDIA's" if driver else "no NVIDIA driver is loaded"
    return f"an NVIDIA GPU is on the PCI bus ({pci_bus_id}), but {why}; install NVIDIA's and reboot"


def _no_nvml(root: Path, refusal: Refusal | None) -> str:
    code = refusal.code if refusal else nvml.LIBRARY_NOT_FOUND
    if code == nvml.VERSION_MISMATCH:
        loaded = driver_version(root)
        return (
            f"the NVIDIA driver was updated, but its old kernel module{f' {loaded}'.rstrip()} is still loaded; reboot"
        )
    if code == nvml.LIBRARY_NOT_FOUND:
        return (
            f"the NVIDIA driver is loaded, but its library {nvml.LIBRARY} is not found; {IN_CONTAINER}; "
            "elsewhere, install the driver's libraries"
        )
    if code in (nvml.DRIVER_NOT_LOADED, nvml.NO_PERMISSION):
        return (
            f"this process may not use the devices /dev/nvidia*; {IN_CONTAINER}; elsewhere, look at their permissions"
        )
    words = refusal.words if refusal else "no answer"
    return f"NVML cannot be asked ({words}); in a container, start it anew; elsewhere, see `nvidia-smi` and `dmesg`"


def _fields(information: str) -> dict[str, str] | None:
    """Return the lines `Key:  value` of a GPU's information, or None if it is no such file."""
    lines = (line.partition(":") for line in information.splitlines())
    return {key.strip(): " ".join(value.split()) for key, _, value in lines} if information else None
