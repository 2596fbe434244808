"""The checks of GPUs: whether they answer, what the driver serves, how they are split. As in `checks`, all is told."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from engineroom.detection import Gpu, Machine
from engineroom.steps.doctor.check import Check, advice, good, missing, unless_needed
from engineroom.steps.doctor.checks import on_host, words


def answers(machine: Machine, needed_by: Sequence[str]) -> Check:
    """A GPU is needed only by an engine that was asked for; one that is there should answer."""
    if machine.gpu_problem:
        if any(gpu.shares_host_memory for gpu in machine.gpus):  # a Jetson's works, NVML or not
            return advice(machine.gpu_problem)
        return unless_needed(bool(needed_by), machine.gpu_problem, _gpu_remedy(machine.gpu_problem, machine))
    if machine.gpus:
        driver = f", driver {machine.gpu_driver.version}" if machine.gpu_driver else ""
        return good(f"{_counted(gpu.name for gpu in machine.gpus)}{driver}")
    if needed_by:
        return missing(
            f"no NVIDIA GPU can be seen, and {words(needed_by)} needs one",
            'make run_harness RUN_ARGS="--engine=openvino"    # on the CPU',
        )
    return good("none is here, and nothing that was asked for needs one")


def _gpu_remedy(problem: str, machine: Machine) -> str:
    """Return the command for what detection said in words; `docker run` where only the container lacks something."""
    if "CUDA_VISIBLE_DEVICES" in problem:
        return "unset CUDA_VISIBLE_DEVICES"
    if "kernel module" in problem:
        return f"sudo reboot{on_host(machine)}"
    if "install NVIDIA's" in problem:
        command = "sudo ubuntu-drivers install --gpgpu && sudo reboot"
        return f"{command}{on_host(machine) or '    # Ubuntu; elsewhere the distribution has a package of the driver'}"
    if "wsl --shutdown" in problem:
        return "wsl.exe --shutdown    # ends this session; before it, update the driver in Windows"
    if "virtual machine" in problem:
        return "lspci -nnk -d 10de:    # shows which driver has which card"
    if machine.container and "in a container" in problem:
        return "docker run --gpus=all ...    # hands GPUs and the driver's libraries into the container"
    if "/dev/nvidia" in problem:
        return "ls -l /dev/nvidia*"
    if "libnvidia-ml" in problem:
        return "ldconfig -p | grep libnvidia-ml    # if it is not there: install the driver's libraries"
    return f"sudo dmesg | grep -iE 'nvrm|xid'{on_host(machine)}"


def _counted(names: Iterable[str]) -> str:
    """Name each kind once, with how many there are: 8 x NVIDIA H200."""
    return words(f"{count} x {name}" for name, count in Counter(names).items())


@dataclass(frozen=True)
class CudaUser:
    """What was made for a version of CUDA: a Python package, or a library. Of a version one number may be all."""

    name: str
    version: tuple[int, ...]
    is_package: bool = True


def cuda(machine: Machine, users: Sequence[CudaUser], needed_by: Sequence[str]) -> Check:
    """A driver runs programs of every CUDA up to its own major version ("CUDA Compatibility", NVIDIA).

    A newer minor version of the same major runs too, save for code that the driver has to compile from PTX.
    """
    driver = machine.gpu_driver
    if not machine.gpus or driver is None or driver.cuda_version is None:
        return good("no driver here that libraries would have to fit" if not machine.gpus else "not known")
    if not users:
        return good(f"driver {driver.version} serves CUDA {driver.cuda_version}; no library of CUDA is installed")
    serves = cuda_version(driver.cuda_version)
    found = f"driver {driver.version} serves CUDA {driver.cuda_version}"
    too_new = [user for user in users if user.version[0] > serves[0]]
    newer = [user for user in users if user.version[:1] == serves[:1] and user.version[:2] > serves[:2]]
    where = "the host" if machine.container else "Ubuntu or Debian"
    wanted = _highest(too_new or newer or users)
    update = f"sudo apt-get install nvidia-open    # on {where}: a driver that serves CUDA {wanted}"
    if too_new:
        # A second CUDA toolkit beside one that fits keeps nothing from running; a package that was installed does.
        hinders = len(too_new) == len(users) or any(user.is_package for user in too_new)
        found = f"{found}; made for a newer one: {_named(too_new)}"
        return unless_needed(bool(needed_by) and hinders, found, update)
    if newer:
        return advice(f"{found}; made for a newer minor version: {_named(newer)}", update)
    return good(f"{found}: fits {_named(users)}")


def cuda_version(text: str) -> tuple[int, ...]:
    """Return the numbers of a version, as far as it has any: "13.0.88" is (13, 0, 88)."""
    return tuple(int(part) for part in re.findall(r"\d+", text))


def cuda_users(distributions: Mapping[str, str], libraries: Mapping[str, str]) -> list[CudaUser]:
    """Return what is installed for CUDA. `distributions` maps names to versions, `libraries` paths of libcudart.

    Wheels say their CUDA in their name (tensorrt-cu13, nvidia-cublas-cu12) or, of torch, in their version (+cu130).
    """
    numbers = {path: cuda_version(version) for path, version in libraries.items()}
    users = [CudaUser(path, version, is_package=False) for path, version in numbers.items() if version]
    for name, version in distributions.items():
        if name.lower() in ("nvidia-cuda-runtime", "nvidia-cuda-runtime-cu12", "nvidia-cuda-runtime-cu11"):
            users.append(CudaUser(f"{name} {version}", cuda_version(version)[:2]))
        elif in_version := re.search(r"\+cu(\d{2})(\d)$", version):
            users.append(CudaUser(f"{name} {version}", (int(in_version[1]), int(in_version[2]))))
        elif (in_name := re.search(r"-cu(\d{2})$", name.lower())) and not name.lower().startswith("nvidia-"):
            users.append(CudaUser(f"{name} {version}", (int(in_name[1]),)))
    return users


def _named(users: Sequence[CudaUser]) -> str:
    return words(f"{user.name} (CUDA {'.'.join(map(str, user.version[:2]))})" for user in users)


def _highest(users: Sequence[CudaUser]) -> str:
    return ".".join(map(str, max(user.version[:2] for user in users)))


def mig(machine: Machine, needed_by: Sequence[str]) -> Check:
    """A GPU in MIG mode runs only what is on a slice: without slices, nothing."""
    if changing := [gpu for gpu in machine.gpus if gpu.mig_pending is not None and gpu.mig_pending != gpu.mig]:
        number = changing[0].index
        found = f"switched on or off, and waits for a reset: GPU {words(gpu.index for gpu in changing)}"
        return advice(found, f"sudo nvidia-smi -i {number} --gpu-reset    # while nothing runs on it")
    split = [gpu for gpu in machine.gpus if gpu.mig]
    if not split:
        able = any(gpu.mig is not None for gpu in machine.gpus)
        return good("off" if able else "no GPU here that can be split")
    empty = [gpu for gpu in split if not gpu.slices]
    whole = [gpu for gpu in machine.gpus if not gpu.mig]
    if empty:
        number = empty[0].index
        remedy = f"sudo nvidia-smi -i {number} -mig 0    # whole again; or slices: nvidia-smi mig -i {number} -lgip"
        nothing_left = len(empty) == len(machine.gpus)
        found = f"on without a slice, so nothing can run there: GPU {words(gpu.index for gpu in empty)}"
        return unless_needed(bool(needed_by) and nothing_left, found, remedy)
    found = "; ".join(f"GPU {gpu.index}: {_counted(piece.profile for piece in gpu.slices)}" for gpu in split)
    if whole:
        found += f"; not split: GPU {words(gpu.index for gpu in whole)}"
        return advice(f"{found}: a program sees either slices or whole GPUs", "nvidia-smi -L    # names every device")
    return good(found)


def power(machine: Machine) -> Check:
    """A power limit below the one that the maker set lowers the clock under load."""
    usual = {gpu.index: gpu.power_limit_default_w or gpu.power_limit_max_w or 0.0 for gpu in machine.gpus}
    limited = [gpu for gpu in machine.gpus if gpu.power_limit_w and gpu.power_limit_w < usual[gpu.index]]
    if not limited:
        return good("not limited" if machine.gpus else "no GPU here")
    found = words(f"GPU {gpu.index} {gpu.power_limit_w:.0f} of {usual[gpu.index]:.0f} W" for gpu in limited)
    commands = (f"sudo nvidia-smi{_chosen([gpu], machine)} -pl {usual[gpu.index]:.0f}" for gpu in limited)
    return advice(found, "\n".join(command + on_host(machine) for command in commands))


SLOWED = {
    "power limit": "nvidia-smi    # shows what else runs there; measure when nothing does",
    "heat": "nvidia-smi -q -d TEMPERATURE    # then see to fans, dust, the flow of air and how warm it is",
    "power brake": "nvidia-smi -q -d POWER    # then see to the power supply, its cables and the server's power cap",
    "hardware": "nvidia-smi -q -d PERFORMANCE,TEMPERATURE,POWER    # more than once: a change of clocks shows so, too",
}


def clocks(machine: Machine) -> Check:
    """Clocks that are held down make every figure worse. Without persistence mode a GPU starts anew for each run."""
    if not machine.gpus:
        return good("no GPU here")
    troubles = [*_unkept(machine), *_held(machine), *_slowed(machine)]
    if troubles:
        return advice("; ".join(found for found, _ in troubles), "\n".join(remedy for _, remedy in troubles))
    if all(gpu.slowed_by is None for gpu in machine.gpus):
        return good("the driver does not say what holds them back")
    kept = ", persistence mode is on" if all(gpu.persistence for gpu in machine.gpus) else ""
    return good(f"nothing holds them back{kept}")


def _unkept(machine: Machine) -> Iterator[tuple[str, str]]:
    """Yield (what was found, remedy): persistence mode is off."""
    if without := [gpu for gpu in machine.gpus if gpu.persistence is False]:
        yield f"persistence mode is off: {_numbers(without)}", _set("-pm 1", without, machine)


def _held(machine: Machine) -> Iterator[tuple[str, str]]:
    """Yield (what was found, remedy) of each kind of setting that keeps clocks low."""
    if limited := [gpu for gpu in machine.gpus if gpu.limit_sm_mhz or gpu.limit_memory_mhz]:
        found = words(text for gpu in limited for text in _limits(gpu))
        yield f"applications clocks are set low: {found}", _set("-rac", limited, machine)
    if held := [gpu for gpu in machine.gpus if gpu.held_sm_mhz]:
        found = words(f"GPU {gpu.index} {gpu.held_sm_mhz:,} of {gpu.max_sm_mhz:,} MHz" for gpu in held)
        yield f"a setting keeps clocks low: {found}", _set("-rgc", held, machine)


def _limits(gpu: Gpu) -> Iterator[str]:
    if gpu.limit_sm_mhz:
        yield f"GPU {gpu.index} {gpu.limit_sm_mhz:,} of {gpu.max_sm_mhz:,} MHz"
    if gpu.limit_memory_mhz:
        yield f"GPU {gpu.index} memory {gpu.limit_memory_mhz:,} of {gpu.max_memory_mhz:,} MHz"


def _slowed(machine: Machine) -> Iterator[tuple[str, str]]:
    """Yield (what was found, remedy) of each reason that slows a GPU now."""
    for reason, remedy in SLOWED.items():
        if slowed := [gpu for gpu in machine.gpus if reason in (gpu.slowed_by or ())]:
            yield f"slowed now by {reason}: {_numbers(slowed)}", remedy


def _set(option: str, gpus: Sequence[Gpu], machine: Machine) -> str:
    return f"sudo nvidia-smi{_chosen(gpus, machine)} {option}{on_host(machine)}"


def _chosen(gpus: Sequence[Gpu], machine: Machine) -> str:
    """Return nvidia-smi's option for some GPUs, none for all. In a container, the host may number them otherwise."""
    if len(gpus) == len(machine.gpus) and not (machine.container or machine.gpus_hidden):
        return ""
    return f" -i {','.join((gpu.uuid if machine.container else '') or str(gpu.index) for gpu in gpus)}"


def _numbers(gpus: Sequence[Gpu]) -> str:
    return f"GPU {words(gpu.index for gpu in gpus)}"
