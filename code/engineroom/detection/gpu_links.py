"""Finds how each GPU reaches each other one, in the words of `nvidia-smi topo -m`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from engineroom.detection import bus
from engineroom.detection.nvml import Nvml

MOST_LINKS = 36  # NVML_NVLINK_MAX_LINKS
SWITCH = 2  # NVML_NVLINK_DEVICE_TYPE_SWITCH
# nvmlGpuTopologyLevel_t: what two GPUs have in common on the way to the CPU.
LEVELS = {0: "PIX", 10: "PIX", 20: "PXB", 30: "PHB", 40: "NODE", 50: "SYS"}
ITSELF, UNKNOWN = "X", "N/A"


@dataclass
class NvLinks:
    """The active NVLinks of one GPU: how many lead into NVSwitches, and how many to each other device."""

    to_switches: int = 0
    to_devices: dict[str, int] = field(default_factory=dict)


def links(library: Nvml, handles: Sequence[Any], addresses: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Return the matrix of words. `addresses` are the GPUs' on the PCI bus; a handle is None if a GPU is lost."""
    found = [_nvlinks(library, handle) if len(handles) > 1 else NvLinks() for handle in handles]
    count = range(len(handles))
    return tuple(
        tuple(
            ITSELF if a == b else _nvlink(found, addresses, a, b) or _pcie(library, handles[a], handles[b])
            for b in count
        )
        for a in count
    )


def _nvlinks(library: Nvml, handle: Any) -> NvLinks:
    found = NvLinks()
    if handle is None:
        return found
    for link in range(MOST_LINKS):
        state, refusal = library.answer("nvmlDeviceGetNvLinkState", handle, link)
        if refusal and link == 0:  # no NVLink at all
            break
        if state != 1:
            continue
        if library.ask("nvmlDeviceGetNvLinkRemoteDeviceType", handle, link) == SWITCH:
            found.to_switches += 1
            continue
        remote = library.ask("nvmlDeviceGetNvLinkRemotePciInfo", handle, link)
        if remote is not None:
            written = remote.busId.decode("ascii", "replace") if isinstance(remote.busId, bytes) else str(remote.busId)
            address = bus.address(written)
            found.to_devices[address] = found.to_devices.get(address, 0) + 1
    return found


def _nvlink(found: Sequence[NvLinks], addresses: Sequence[str], a: int, b: int) -> str | None:
    """Return "NV" and the number of links, straight or through NVSwitches, which join all GPUs of a machine."""
    straight = found[a].to_devices.get(addresses[b], 0) if addresses[b] else 0
    number = straight or min(found[a].to_switches, found[b].to_switches)
    return f"NV{number}" if number else None


def _pcie(library: Nvml, a: Any, b: Any) -> str:
    if a is None or b is None:
        return UNKNOWN
    return LEVELS.get(library.ask("nvmlDeviceGetTopologyCommonAncestor", a, b), UNKNOWN)
