"""What detection finds out about a machine. Nothing here is guessed: what no source says is None or empty."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Cache:
    """The caches of one level and kind ("data", "instruction", "unified"): `count` of `size_bytes` each."""

    level: int
    kind: str
    size_bytes: int
    count: int


@dataclass(frozen=True)
class CoreKind:
    """The cores of one kind in a hybrid processor: "core" and "atom" by Linux's names, or an arm64 part's name."""

    name: str
    cores: int
    max_mhz: float | None = None


@dataclass(frozen=True)
class Cpu:
    """The processors. `sockets`, `cores` and `threads` count what is online.

    `usable` holds the numbers of the logical CPUs that this process may use; `usable_cores` is what they amount to in
    physical cores, no more than the container's quota. `sockets` counts packages. An arm64 processor has no name of its
    own in Linux: `model` names its cores.
    """

    model: str
    vendor: str = ""
    architecture: str = ""  # "x86_64", "aarch64"
    sockets: int = 1
    cores: int = 1
    threads: int = 1
    offline: int = 0  # logical CPUs that are there and switched off
    usable: tuple[int, ...] = ()
    usable_cores: int = 1
    isa: tuple[str, ...] = ()  # of those that decide which precision pays, by Linux's names
    caches: tuple[Cache, ...] = ()
    kinds: tuple[CoreKind, ...] = ()  # more than one only in a hybrid processor
    max_mhz: float | None = None
    limit_mhz: float | None = None  # where the system holds the clock, as a person or a service set it
    boost: bool | None = None  # whether clocks above the nominal one are allowed
    governor: str | None = None  # of CPU frequency scaling


@dataclass(frozen=True)
class NumaNode:
    """One NUMA node: `memory_bytes` lies on it, `cpus` are the online logical CPUs near it."""

    number: int
    cpus: tuple[int, ...]
    memory_bytes: int


@dataclass(frozen=True)
class Slice:
    """One MIG device as the driver names it: `profile` is its own word, such as "1g.18gb" or "2g.35gb+me"."""

    profile: str
    uuid: str
    memory_bytes: int | None = None
    gpu_instance: int | None = None
    compute_instance: int | None = None
    multiprocessors: int | None = None


@dataclass(frozen=True)
class Gpu:
    """One NVIDIA GPU. Where NVML is missing, little more than `name` is known. `index` is NVML's.

    `numa_node` is the one whose CPUs are near, `memory_numa_node` the one that its own memory makes where that is
    coherent (Grace Hopper). `shares_host_memory` holds for a GPU without memory of its own (Jetson, GB10): its
    `memory_bytes` is None. `mig` is None on a GPU that cannot be split; `mig_pending` is the mode after its next reset.
    `slowed_by` names what slows it now: "power limit", "heat", "power brake" (by the power supply), "hardware".
    """

    name: str
    index: int = 0
    uuid: str = ""
    memory_bytes: int | None = None
    shares_host_memory: bool = False
    compute_capability: str | None = None  # "9.0"
    multiprocessors: int | None = None
    memory_bus_bits: int | None = None
    pci_bus_id: str = ""
    numa_node: int | None = None
    memory_numa_node: int | None = None
    ecc: bool | None = None
    power_limit_w: float | None = None
    power_limit_default_w: float | None = None
    power_limit_max_w: float | None = None
    max_sm_mhz: int | None = None
    max_memory_mhz: int | None = None
    limit_sm_mhz: int | None = None  # the applications clock, where someone set it lower than the highest
    limit_memory_mhz: int | None = None  # the same of the memory
    held_sm_mhz: int | None = None  # the clock now, where another setting keeps it low: a lock
    slowed_by: tuple[str, ...] | None = None
    persistence: bool | None = None  # whether the driver keeps it initialized while nothing uses it
    pcie: str | None = None  # "PCIe 5.0 x16": the link as it can be, not as it idles
    nvlink_c2c: bool = False  # joined to the CPU by NVLink chip to chip
    mig: bool | None = None
    mig_pending: bool | None = None
    slices: tuple[Slice, ...] = ()

    @property
    def memory_bytes_per_s(self) -> float | None:
        """The bandwidth of its memory, which moves data twice a clock (NVIDIA's cuda-samples, deviceQuery)."""
        if not self.max_memory_mhz or not self.memory_bus_bits:
            return None
        return 2e6 * self.max_memory_mhz * self.memory_bus_bits / 8


@dataclass(frozen=True)
class GpuDriver:
    """The NVIDIA driver; `cuda_version` is the newest CUDA that it serves."""

    version: str
    cuda_version: str | None = None
    nvml_version: str | None = None


@dataclass(frozen=True)
class Container:
    """What this process runs in.

    `kind` is docker, podman, enroot, apptainer, singularity, kubernetes, lxc, systemd-nspawn or another's own name.
    """

    kind: str
    ngc: str | None = None  # an NGC image's product and version: "TensorRT 25.09"


@dataclass(frozen=True)
class Limits:
    """What the control group allows: CPUs (2.0 for a quota of two) and memory; None is no limit."""

    cpus: float | None = None
    memory_bytes: int | None = None


@dataclass(frozen=True)
class Nic:
    """A physical network card's port: Ethernet, InfiniBand or Wi-Fi. `speed_mbit` is None while its link is down."""

    name: str
    speed_mbit: int | None = None
    driver: str | None = None
    kind: str = "Ethernet"


@dataclass(frozen=True)
class Disk:
    """A physical disk: `kind` is "NVMe SSD", "SSD", "HDD", "SD or eMMC" or "virtual"."""

    name: str
    size_bytes: int
    kind: str


@dataclass(frozen=True)
class Machine:
    """One machine. `system` is its id, from systems/ or made from its processor or GPUs.

    `memory_bytes` is what this process may use, `memory_total_bytes` what the machine has; neither holds GPU memory.
    `numa` are the nodes that have CPUs, `memory_nodes` those that have memory only. `gpus` are those that
    CUDA_VISIBLE_DEVICES shows, in its order; it hides `gpus_hidden` more. `gpu_links[a][b]` is how gpus[a] reaches
    gpus[b], in nvidia-smi's words ("NV18", "PIX", "SYS", "X" for itself, "N/A" if the driver does not say).
    `gpu_problem` says why GPUs that are there could not be asked or used, and how to mend it; `gpu_trouble`, why they
    cannot be used.
    """

    cpu: Cpu
    memory_bytes: int
    memory_total_bytes: int = 0
    system: str = ""
    swap_bytes: int = 0
    numa: tuple[NumaNode, ...] = ()
    memory_nodes: tuple[NumaNode, ...] = ()
    gpus: tuple[Gpu, ...] = ()
    gpus_hidden: int = 0
    gpu_links: tuple[tuple[str, ...], ...] = ()
    gpu_driver: GpuDriver | None = None
    gpu_problem: str | None = None
    container: Container | None = None
    limits: Limits = field(default_factory=Limits)
    nics: tuple[Nic, ...] = ()
    disks: tuple[Disk, ...] = ()
    product: str | None = None  # maker and model of the whole machine, from its firmware
    operating_system: str = ""
    kernel: str = ""
    transparent_huge_pages: str | None = None  # "always", "madvise" or "never"
    virtualization: str | None = None  # "wsl2", "hypervisor"; None on bare metal

    @property
    def cuda_gpus(self) -> tuple[Gpu, ...]:
        """The GPUs that a process can compute on, in CUDA's order: where some are split, the first of those alone.

        A process sees one MIG device at most, and nothing of a GPU in MIG mode that has none (NVIDIA, "MIG User Guide",
        "CUDA Device Enumeration").
        """
        split = tuple(gpu for gpu in self.gpus if gpu.slices)
        return split[:1] or tuple(gpu for gpu in self.gpus if not gpu.mig)

    @property
    def gpu_trouble(self) -> str | None:
        """What keeps GPUs that are there from being used; None if nothing does. A Jetson's works without NVML."""
        if self.gpu_problem and not any(gpu.shares_host_memory for gpu in self.gpus):
            return self.gpu_problem
        if self.gpus and not self.cuda_gpus:
            empty = ", ".join(str(gpu.index) for gpu in self.gpus)
            return f"GPU {empty} is in MIG mode and has no slice, so that nothing can run there"
        return None
