"""Reads what the PCI bus says of NVIDIA's GPUs, which needs no driver."""

from __future__ import annotations

import re
from pathlib import Path

from engineroom.detection.files import link_name, names, number, text

NVIDIA = "0x10de"
# PCI classes of display controllers: VGA and 3D. NVIDIA's bridges, sound and USB devices have others.
GPU_CLASSES = ("0x0300", "0x0302")


def address(written: str) -> str:
    """Return a bus address as /sys writes it: "0000:1b:00.0" for NVML's "00000000:1B:00.0". "" if it is none."""
    match = re.fullmatch(r"([0-9a-f]{4,8}):([0-9a-f]{2}:[0-9a-f]{2}\.[0-7])", written.strip().lower())
    return f"{int(match[1], 16):04x}:{match[2]}" if match else ""


def nvidia_gpus(root: Path) -> list[str]:
    """Return the addresses of NVIDIA's GPUs."""
    folder = root / "sys/bus/pci/devices"
    return [
        name
        for name in names(folder)
        if text(folder / name / "vendor") == NVIDIA and text(folder / name / "class").startswith(GPU_CLASSES)
    ]


def numa_node(root: Path, pci_bus_id: str) -> int | None:
    """Return the NUMA node whose CPUs are near a device; None where there is only one, or in a virtual machine."""
    return number(text(root / "sys/bus/pci/devices" / pci_bus_id / "numa_node")) if pci_bus_id else None


def driver(root: Path, pci_bus_id: str) -> str | None:
    """Return the name of the driver that has a device."""
    return link_name(root / "sys/bus/pci/devices" / pci_bus_id / "driver")
