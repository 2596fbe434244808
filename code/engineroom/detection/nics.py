"""Finds the physical network cards: Ethernet and InfiniBand."""

from __future__ import annotations

import re
from pathlib import Path

from engineroom.detection.files import exists, link_name, names, number, text
from engineroom.detection.machine import Nic

# Linux's include/uapi/linux/if_arp.h
KINDS = {"1": "Ethernet", "32": "InfiniBand"}


def detect(root: Path) -> tuple[Nic, ...]:
    """Return every port of a physical card. Virtual functions, bridges, bonds and loopback are none."""
    folder = root / "sys/class/net"
    ports = [_port(folder / name) for name in names(folder) if _is_physical(folder / name)]
    adapters = root / "sys/class/infiniband"
    # One whose network interface is there is already counted.
    ports += [
        _adapter(adapters / name)
        for name in names(adapters)
        if _is_physical(adapters / name) and not names(adapters / name / "device/net")
    ]
    return tuple(ports)


def _is_physical(port: Path) -> bool:
    return exists(port / "device") and not exists(port / "device/physfn")


def _port(port: Path) -> Nic:
    kind = "Wi-Fi" if exists(port / "phy80211") else KINDS.get(text(port / "type"), "other")
    return Nic(port.name, number(text(port / "speed")) or None, link_name(port / "device/driver"), kind)


def _adapter(adapter: Path) -> Nic:
    """Return an InfiniBand adapter without a network interface, by its first port's rate: "400 Gb/sec (4X NDR)"."""
    port = adapter / "ports" / next(iter(names(adapter / "ports")), "1")
    rate = re.match(r"([0-9]{1,6}(?:\.[0-9])?) Gb/sec", text(port / "rate"))
    is_up = "ACTIVE" in text(port / "state")
    speed_mbit = int(float(rate[1]) * 1000) if rate and is_up else None
    kind = text(port / "link_layer") or "InfiniBand"
    return Nic(adapter.name, speed_mbit, link_name(adapter / "device/driver"), kind)
