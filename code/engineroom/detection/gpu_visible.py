"""Honours CUDA_VISIBLE_DEVICES, by which a user gives a process some of the GPUs.

NVIDIA_VISIBLE_DEVICES is not looked at: the container runtime acts on it, and the driver does not show in a container
what it leaves out. Source: CUDA C++ Programming Guide, "CUDA Environment Variables".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from engineroom.detection.files import number
from engineroom.detection.machine import Gpu, Slice


def visible(gpus: Sequence[Gpu], wanted: str) -> tuple[Gpu, ...]:
    """Return the GPUs that are named, in that order: by number, by UUID or its beginning, or by a slice's UUID.

    As in CUDA, the first name that fits nothing ends the list. Numbers are NVML's; of unlike GPUs CUDA has the same
    ones only with CUDA_DEVICE_ORDER=PCI_BUS_ID.
    """
    chosen: dict[int, Gpu] = {}
    for name in wanted.split(","):
        gpu = _named(gpus, name.strip())
        if gpu is None:
            break
        before = chosen.get(gpu.index)
        chosen[gpu.index] = replace(gpu, slices=before.slices + gpu.slices) if before and gpu != before else gpu
    return tuple(chosen.values())


def _named(gpus: Sequence[Gpu], name: str) -> Gpu | None:
    index = number(name)
    if index is not None:
        return next((gpu for gpu in gpus if gpu.index == index), None)
    if name.startswith("MIG-"):
        found = ((gpu, part) for gpu in gpus for part in gpu.slices if _is(part, gpu, name))
        return next((replace(gpu, slices=(part,)) for gpu, part in found), None)
    fitting = [gpu for gpu in gpus if name.startswith("GPU-") and gpu.uuid.startswith(name)]
    return fitting[0] if len(fitting) == 1 else None


def _is(part: Slice, gpu: Gpu, name: str) -> bool:
    """Say whether a name means this slice; drivers before 470 name it by its GPU and instances."""
    return name in (part.uuid, f"MIG-{gpu.uuid}/{part.gpu_instance}/{part.compute_instance}")
