"""Finds the NVIDIA GPUs: by NVML, or by what the driver's files and the bus say where NVML cannot be asked."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from engineroom.detection import bus, gpu_files, memory, nvml
from engineroom.detection.gpu_clocks import MEMORY, SM, with_clocks
from engineroom.detection.gpu_links import links
from engineroom.detection.gpu_visible import visible
from engineroom.detection.machine import Gpu, GpuDriver, Slice
from engineroom.detection.nvml import Nvml, Refusal

# CUDA cores in a multiprocessor, which NVML does not count (cuda-samples, helper_cuda.h, _ConvertSMVer2Cores).
CORES_64 = ((7, 0), (7, 2), (7, 5), (8, 0))
# Many GPUs that no persistence mode keeps awake take more than ten seconds to start.
ANSWER_S = 30.0


@dataclass(frozen=True)
class Gpus:
    """All that a machine's GPUs add to it. `silent` says of each GPU that does not answer why, by its index."""

    gpus: tuple[Gpu, ...] = ()
    links: tuple[tuple[str, ...], ...] = ()
    driver: GpuDriver | None = None
    hidden: int = 0
    problem: str | None = None
    silent: Mapping[int, str] = field(default_factory=dict)


def detect(root: Path, environ: Mapping[str, str], module: Any = None) -> Gpus:
    """Return the GPUs that CUDA shows to this process. `module` is pynvml or what stands for it."""
    found = _all(root, module)
    wanted = environ.get("CUDA_VISIBLE_DEVICES")
    if wanted is None or not found.gpus:
        return found
    shown = visible(found.gpus, wanted)
    problem = _together(found.silent, shown) if found.silent else found.problem
    if not shown:
        kinds = Counter(each.name for each in found.gpus)
        all_of_them = ", ".join(f"{count} x {name}" for name, count in kinds.items())
        problem = f'CUDA_VISIBLE_DEVICES="{wanted[:60]}" hides all GPUs ({all_of_them}); unset it to use them'
    order = [gpu.index for gpu in shown]
    return replace(
        found,
        gpus=shown,
        links=tuple(tuple(found.links[a][b] for b in order) for a in order) if found.links else (),
        hidden=len(found.gpus) - len({*order}),
        problem=problem,
    )


def _all(root: Path, module: Any) -> Gpus:
    """Return all GPUs that the driver shows."""
    refusal: Refusal | None = None
    if module is None and root == Path("/") and nvml.is_driver_visible(root):
        try:
            module = nvml.module(root)
        except ImportError as error:
            refusal = Refusal(error)
    if module is not None:
        answer = nvml.within(ANSWER_S, lambda: _asked(root, Nvml(module)))
        if isinstance(answer, Gpus):
            return answer
        refusal = answer
    return _by_files(root, refusal)


def _asked(root: Path, library: Nvml) -> Gpus | Refusal:
    _, refusal = library.answer("nvmlInit")
    if refusal:
        return refusal
    try:
        return _by_nvml(root, library)
    finally:
        library.ask("nvmlShutdown")


def _by_files(root: Path, refusal: Refusal | None) -> Gpus:
    gpus = gpu_files.gpus(root)
    version = gpu_files.driver_version(root)
    driver = GpuDriver(version) if version else None
    return Gpus(gpus, (), driver, 0, gpu_files.problem(root, gpus, refusal))


def _by_nvml(root: Path, library: Nvml) -> Gpus:
    count = library.ask("nvmlDeviceGetCount") or 0
    known = gpu_files.gpus(root)
    gpus: list[Gpu] = []
    handles: list[Any] = []
    silent: dict[int, str] = {}
    for index in range(count):
        handle, refusal = library.answer("nvmlDeviceGetHandleByIndex", index)
        if refusal:
            gpu = known[index] if len(known) == count else Gpu("an NVIDIA GPU")
            gpus.append(replace(gpu, index=index))
            silent[index] = gpu_files.no_answer(index, refusal)
        else:
            gpus.append(with_clocks(_gpu(root, library, handle, index), library, handle))
        handles.append(handle)
    if not gpus:
        return replace(_by_files(root, None), driver=_driver(root, library), problem=gpu_files.none_given(root))
    addresses = [gpu.pci_bus_id for gpu in gpus]
    joined = links(library, handles, addresses)
    return Gpus(tuple(gpus), joined, _driver(root, library), 0, _together(silent, gpus), silent)


def _together(silent: Mapping[int, str], gpus: Iterable[Gpu]) -> str | None:
    """Return what is told of those among `gpus` that do not answer, None if all do."""
    return "; ".join(silent[gpu.index] for gpu in gpus if gpu.index in silent) or None


def _driver(root: Path, library: Nvml) -> GpuDriver:
    cuda = library.ask("nvmlSystemGetCudaDriverVersion_v2")  # 12040 is 12.4
    return GpuDriver(
        version=library.text("nvmlSystemGetDriverVersion") or gpu_files.driver_version(root),
        cuda_version=f"{cuda // 1000}.{cuda % 1000 // 10}" if cuda else None,
        nvml_version=library.text("nvmlSystemGetNVMLVersion") or None,
    )


def _gpu(root: Path, library: Nvml, handle: Any, index: int) -> Gpu:
    frame_buffer, refusal = library.answer("nvmlDeviceGetMemoryInfo", handle)
    capability = library.ask("nvmlDeviceGetCudaComputeCapability", handle)
    ecc = library.ask("nvmlDeviceGetEccMode", handle)
    pci = library.ask("nvmlDeviceGetPciInfo", handle)
    pci_bus_id = bus.address(_decoded(pci.busId)) if pci else ""
    power = library.ask("nvmlDeviceGetPowerManagementLimitConstraints", handle)
    mig = library.ask("nvmlDeviceGetMigMode", handle)
    c2c = library.ask("nvmlDeviceGetC2cModeInfoV", handle)
    return Gpu(
        name=library.text("nvmlDeviceGetName", handle) or "an NVIDIA GPU",
        index=index,
        uuid=library.text("nvmlDeviceGetUUID", handle),
        memory_bytes=frame_buffer.total if frame_buffer else None,
        # So NVML answers for a GPU without memory of its own, as in Jetson and GB10.
        shares_host_memory=refusal is not None and refusal.code == nvml.NOT_SUPPORTED,
        compute_capability=f"{capability[0]}.{capability[1]}" if capability else None,
        multiprocessors=_multiprocessors(library.ask("nvmlDeviceGetNumGpuCores", handle), capability),
        memory_bus_bits=library.ask("nvmlDeviceGetMemoryBusWidth", handle),
        pci_bus_id=pci_bus_id,
        numa_node=bus.numa_node(root, pci_bus_id),
        memory_numa_node=_memory_node(root, library.ask("nvmlDeviceGetNumaNodeId", handle)),
        ecc=bool(ecc[0]) if ecc else None,
        power_limit_w=_watts(library.ask("nvmlDeviceGetPowerManagementLimit", handle)),
        power_limit_default_w=_watts(library.ask("nvmlDeviceGetPowerManagementDefaultLimit", handle)),
        power_limit_max_w=_watts(power[1]) if power else None,
        max_sm_mhz=library.ask("nvmlDeviceGetMaxClockInfo", handle, SM),
        max_memory_mhz=library.ask("nvmlDeviceGetMaxClockInfo", handle, MEMORY),
        pcie=_pcie(library, handle),
        nvlink_c2c=bool(c2c and c2c.isC2cEnabled),
        mig=bool(mig[0]) if mig else None,
        mig_pending=bool(mig[1]) if mig else None,
        slices=_slices(library, handle) if mig and mig[0] else (),
    )


def _multiprocessors(cores: int | None, capability: tuple[int, int] | None) -> int | None:
    if not cores or not capability or capability < (7, 0):
        return None
    return cores // (64 if tuple(capability) in CORES_64 else 128)


def _decoded(text: object) -> str:
    return text.decode("ascii", "replace") if isinstance(text, bytes) else str(text)


def _memory_node(root: Path, node: int | None) -> int | None:
    """Return the node that NVML names if it is one of GPU memory: some drivers name the CPUs' where there is none."""
    return node if node is not None and memory.has_no_cpus(root, node) else None


def _watts(milliwatts: int | None) -> float | None:
    return milliwatts / 1000 if milliwatts is not None else None


def _pcie(library: Nvml, handle: Any) -> str | None:
    """Return the link as it can be: while the GPU idles it is slower."""
    generation = library.ask("nvmlDeviceGetMaxPcieLinkGeneration", handle)
    width = library.ask("nvmlDeviceGetMaxPcieLinkWidth", handle)
    return f"PCIe {generation}.0 x{width}" if generation and width else None


def _slices(library: Nvml, parent: Any) -> tuple[Slice, ...]:
    """Return the MIG devices. Their places are counted up to the most there can be; many are empty."""
    places = library.ask("nvmlDeviceGetMaxMigDeviceCount", parent) or 0
    handles = (library.ask("nvmlDeviceGetMigDeviceHandleByIndex", parent, place) for place in range(places))
    return tuple(_slice(library, parent, handle) for handle in handles if handle is not None)


def _slice(library: Nvml, parent: Any, handle: Any) -> Slice:
    frame_buffer = library.ask("nvmlDeviceGetMemoryInfo", handle)
    attributes = library.ask("nvmlDeviceGetAttributes", handle)
    gpu_instance = library.ask("nvmlDeviceGetGpuInstanceId", handle)
    size = attributes.memorySizeMB << 20 if attributes else None
    return Slice(
        profile=_profile(library.text("nvmlDeviceGetName", handle))
        or _profile_of_instance(library, parent, gpu_instance, attributes),
        uuid=library.text("nvmlDeviceGetUUID", handle),
        memory_bytes=frame_buffer.total if frame_buffer else size,
        gpu_instance=gpu_instance,
        compute_instance=library.ask("nvmlDeviceGetComputeInstanceId", handle),
        multiprocessors=attributes.multiprocessorCount if attributes else None,
    )


def _profile(name: str) -> str:
    """Return the profile in the driver's own word: of "NVIDIA H200 MIG 1g.18gb+me" "1g.18gb+me"."""
    match = re.search(r"\bMIG (\S+)", name)
    return match[1] if match else ""


def _profile_of_instance(library: Nvml, parent: Any, gpu_instance: int | None, attributes: Any) -> str:
    """Return the profile by the GPU instance; a compute instance of a part of it is "1c." and so on before that."""
    handle = library.ask("nvmlDeviceGetGpuInstanceById", parent, gpu_instance)
    info = library.ask("nvmlGpuInstanceGetInfo", handle)
    profile = library.ask("nvmlDeviceGetGpuInstanceProfileInfoById", parent, info.profileId) if info else None
    name = _profile(_decoded(profile.name)) if profile else ""
    if not name or not attributes or attributes.computeInstanceSliceCount == attributes.gpuInstanceSliceCount:
        return name
    return f"{attributes.computeInstanceSliceCount}c.{name}"
