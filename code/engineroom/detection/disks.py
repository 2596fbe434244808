"""Finds the physical disks."""

from __future__ import annotations

import re
from pathlib import Path

from engineroom.detection.files import exists, names, number, text
from engineroom.detection.machine import Disk

SECTOR_BYTES = 512  # the unit of /sys/block/*/size, whatever the disk's own sectors are


def detect(root: Path) -> tuple[Disk, ...]:
    """Return the disks that a device stands behind: no partitions, loops, RAM disks, RAIDs or removable ones."""
    folder = root / "sys/block"
    found = (_disk(folder / name) for name in names(folder) if exists(folder / name / "device"))
    return tuple(disk for disk in found if disk)


def _disk(block: Path) -> Disk | None:
    sectors = number(text(block / "size"))
    # A disk with several paths hides each of them behind the one that is used.
    left_out = text(block / "removable") == "1" or text(block / "hidden") == "1"
    if not sectors or left_out or re.match(r"sr|mmcblk[0-9]+(boot|rpmb)", block.name):
        return None
    return Disk(block.name, sectors * SECTOR_BYTES, _kind(block))


def _kind(block: Path) -> str:
    maker = f"{text(block / 'device/vendor')} {text(block / 'device/model')}"
    if block.name.startswith(("vd", "xvd")) or re.search(r"QEMU|VMware|VBOX|Msft|Google|Elastic Block", maker):
        return "virtual"
    if block.name.startswith("nvme"):
        return "NVMe SSD"
    if block.name.startswith("mmcblk"):
        return "SD or eMMC"
    return "HDD" if text(block / "queue/rotational") == "1" else "SSD"
