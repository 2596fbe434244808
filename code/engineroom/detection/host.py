"""Finds what the machine is called, and what runs on it: system, kernel, firmware's names, a hypervisor."""

from __future__ import annotations

import platform
import re
from pathlib import Path

from engineroom.detection.files import exists, text

# What firmware says where its maker has filled in nothing.
BLANK = re.compile(r"to be filled|default string|system (product|manufacturer)|not (specified|available)|^none$", re.I)
# What the firmware of virtual machines calls itself; x86's flag `hypervisor` has no counterpart on arm64.
VIRTUAL = re.compile(r"qemu|kvm|vmware|virtual machine|amazon ec2 (?!.*metal)|google compute engine|openstack", re.I)


def operating_system(root: Path) -> str:
    """Return the distribution's own name: "Ubuntu 24.04.2 LTS"."""
    release = text(root / "etc/os-release") or text(root / "usr/lib/os-release")
    match = re.search(r'^PRETTY_NAME="?([^"\n]+)', release, re.MULTILINE)
    return match[1] if match else platform.system()


def kernel(root: Path) -> str:
    """Return the kernel's release."""
    return text(root / "proc/sys/kernel/osrelease") or (platform.release() if root == Path("/") else "")


def product(root: Path) -> str | None:
    """Return maker and model of the whole machine, from its firmware (DMI) or its device tree."""
    dmi = root / "sys/class/dmi/id"
    maker, model = (_filled_in(text(dmi / name)) for name in ("sys_vendor", "product_name"))
    if model.startswith(maker):
        maker = ""
    return f"{maker} {model}".strip() or device_tree_model(root) or None


def device_tree_model(root: Path) -> str:
    """Return the model that a device tree names: "NVIDIA Jetson AGX Orin Developer Kit"."""
    return text(root / "proc/device-tree/model")


def virtualization(root: Path, kernel_release: str) -> str | None:
    """Return "wsl2", "hypervisor", or None on bare metal, as far as the machine tells."""
    if "microsoft" in kernel_release.lower():
        return "wsl2"
    flags = re.search(r"^flags\s*:(.*)$", text(root / "proc/cpuinfo"), re.MULTILINE)
    told = (flags and "hypervisor" in flags[1].split()) or exists(root / "proc/device-tree/hypervisor")
    return "hypervisor" if told or VIRTUAL.search(product(root) or "") else None


def _filled_in(name: str) -> str:
    return "" if BLANK.search(name) else " ".join(name.split())
