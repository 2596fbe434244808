"""Puts together what the other files find out about a machine."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engineroom.detection import cgroup, container, cpu, disks, gpu, host, memory, nics
from engineroom.detection.machine import Machine


def detect(root: Path = Path("/"), *, environ: Mapping[str, str] | None = None, nvml: Any = None) -> Machine:
    """Return the machine, without its id, as far as it can be seen without privileges; nothing it holds is an error.

    `root` is where /proc, /sys and /etc are read from. `environ` (None: this process's) tells of containers and of
    CUDA_VISIBLE_DEVICES. `nvml` is what stands for the module pynvml; without it, only this machine's NVML is asked.
    """
    if environ is None:
        environ = os.environ
    limits = cgroup.limits(root)
    gpus = gpu.detect(root, environ, nvml)
    nodes = memory.numa_nodes(root)
    # Where GPU memory is coherent, as in Grace Hopper, it is a NUMA node and the kernel counts it as its own.
    of_gpus = {found.memory_numa_node for found in gpus.gpus if found.memory_numa_node is not None}
    gpu_memory = sum(node.memory_bytes for node in nodes if node.number in of_gpus and not node.cpus)
    total = max(0, memory.total_bytes(root) - gpu_memory)
    allowed = memory.allowed_nodes(root)
    closed = sum(node.memory_bytes for node in nodes if allowed and node.number not in {*allowed, *of_gpus})
    kernel = host.kernel(root)
    return Machine(
        cpu=cpu.detect(root, limits.cpus),
        memory_bytes=min(max(0, total - closed), limits.memory_bytes or total),
        memory_total_bytes=total,
        swap_bytes=memory.swap_bytes(root),
        numa=tuple(node for node in nodes if node.cpus),
        memory_nodes=tuple(node for node in nodes if not node.cpus),
        gpus=gpus.gpus,
        gpus_hidden=gpus.hidden,
        gpu_links=gpus.links,
        gpu_driver=gpus.driver,
        gpu_problem=gpus.problem,
        container=container.detect(root, environ),
        limits=limits,
        nics=nics.detect(root),
        disks=disks.detect(root),
        product=host.product(root),
        operating_system=host.operating_system(root),
        kernel=kernel,
        transparent_huge_pages=memory.transparent_huge_pages(root),
        virtualization=host.virtualization(root, kernel),
    )
