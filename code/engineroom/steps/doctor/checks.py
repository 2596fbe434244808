"""The checks: each is told what was found and judges it. Nothing here looks at the machine that it runs on."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from engineroom.detection import Machine
from engineroom.paths import BUILD, display
from engineroom.steps.doctor.check import Check, advice, good, missing, unless_needed

OLDEST_PYTHON, NEWEST_PYTHON = (3, 11), (3, 13)  # what requirements/*.lock are made for
SPARE_BYTES = 1 << 30  # of a disk, beyond what is needed: logs of runs, engines of other settings
BUSY_SHARE = 0.25  # of the usable cores that others may take before a measurement suffers
GOVERNOR = "performance"
PORTS = {8000: "Triton, HTTP", 8001: "Triton, gRPC", 8002: "Triton, metrics"}


def words(items: Iterable[object]) -> str:
    """Return things as a list within a sentence."""
    return ", ".join(map(str, items))


def size(count: float) -> str:
    """Write bytes in the power of ten that suits, as disks are sold."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            break
        count /= 1000
    return f"{count:.0f} {unit}" if unit == "bytes" or count >= 100 else f"{count:.1f} {unit}"


# The toolchain


@dataclass(frozen=True)
class Compiled:
    """A C++20 program that was compiled and linked: by what, and the compiler's error if it was not."""

    compiler: str
    error: str | None = None


def compiler(compiled: Compiled | None) -> Check:
    """C++20 must compile and link: the native harness is made here."""
    install = "sudo apt-get install g++    # Fedora, RHEL: sudo dnf install gcc-c++"
    if compiled is None:
        return missing("no C++ compiler on PATH", install)
    if compiled.error:
        newer = f"{install}\nexport CXX=g++-12    # the name of one that knows C++20, if the first is too old"
        return missing(f"{compiled.compiler} makes no C++20 program: {compiled.error}", newer)
    return good(f"{compiled.compiler} compiles and links C++20")


def python(version: tuple[int, int, int], headers: Path, *, has_headers: bool) -> Check:
    """Python must be new enough, and its headers here: the harness is a Python module too."""
    text = ".".join(map(str, version))
    another = "rm -f build/venv/ready && make doctor PYTHON=/path/to/python3"
    if version < OLDEST_PYTHON:
        return missing(f"Python {text}; 3.11 or newer is needed", another)
    if not has_headers:
        package = f"python{version[0]}.{version[1]}"
        return missing(
            f"{headers} is missing", f"sudo apt-get install {package}-dev    # Fedora: sudo dnf install {package}-devel"
        )
    if version[:2] > NEWEST_PYTHON:
        return advice(f"Python {text}: the locked versions are made for 3.11 to 3.13", another)
    return good(f"Python {text} with its headers")


def packages(locked: Mapping[str, str], installed: Mapping[str, str]) -> Check:
    """What the lock names should be installed in the very version."""
    again = "rm build/venv/ready    # the next make installs what is locked"
    absent = [name for name in locked if name not in installed]
    if absent:
        return missing(f"not installed: {words(absent)}", again)
    pairs = [(name, installed[name], version) for name, version in locked.items()]
    other = [f"{name} {found} (locked: {version})" for name, found, version in pairs if found != version]
    if other:
        return advice(f"other versions than locked: {words(other)}", again)
    return good(f"all {len(locked)} are installed as locked")


def git(path: str | None) -> Check:
    """Without git a run's record cannot name the revision."""
    if path is None:
        return advice("not on PATH: records of runs will not name the revision", "sudo apt-get install git")
    return good(path)


# Folders, disk, memory


@dataclass(frozen=True)
class Folder:
    """A folder that is written to. `problem` says why it cannot be, `remedy` is the command that mends it."""

    path: Path
    needed: bool
    problem: str | None = None
    remedy: str = ""


def writable(folders: Sequence[Folder]) -> Check:
    """What is made here must have a place; caches outside the checkout only save time."""
    closed = sorted((folder for folder in folders if folder.problem), key=lambda folder: not folder.needed)
    if not closed:
        inside = [folder for folder in folders if folder.path.parent == BUILD]
        rest = [display(folder.path) for folder in folders if folder not in inside]
        return good(f"{words(rest)} can be written; {len(inside)} folders in build/ too")
    found = "; ".join(f"{display(folder.path)}: {folder.problem}" for folder in closed)
    return unless_needed(closed[0].needed, found, "\n".join(folder.remedy for folder in closed if folder.remedy))


@dataclass(frozen=True)
class Room:
    """Memory, or a disk: what a request takes of it, at least and at most (None: not known), and what is free.

    `enough` is False where that cannot fit, None where it may not.
    """

    where: str
    least_bytes: int
    most_bytes: int | None
    free_bytes: int
    enough: bool | None


def disk(rooms: Sequence[Room], free_bytes: int, folder: Path) -> Check:
    """What is still to be fetched and made must fit, and something should be left. `free_bytes` is for `folder`."""
    look = f"du -xhd1 {shlex.quote(display(folder))} | sort -h"
    if tight := [room for room in rooms if room.enough is not True]:
        found = "; ".join(f"{room.where}: {_needed(room)}" for room in tight)
        return unless_needed(any(room.enough is False for room in tight), found, look)
    found = "; ".join(map(_needed, rooms)) or f"{size(free_bytes)} are free"
    left = min([free_bytes, *(room.free_bytes - (room.most_bytes or room.least_bytes) for room in rooms)])
    return good(found) if left >= SPARE_BYTES else advice(f"{found}: runs will soon fill the rest", look)


def memory(room: Room | None, machine: Machine) -> Check:
    """Engines, samples and LoadGen's queries must fit into what this process may use."""
    limit = machine.limits.memory_bytes
    limited = limit is not None and limit < machine.memory_total_bytes
    found = _needed(room) if room else f"{size(machine.memory_bytes)} may be used"
    if limit is not None and limited:
        found += f"; the container's limit is {size(limit)} of {size(machine.memory_total_bytes)}"
    if room is None or room.enough:
        return good(found)
    less = "docker run --memory=... or what else set the limit" if limited else "free -h"
    return unless_needed(room.enough is False, found, f"{less}    # or ask for less: --batch_size=1 --instances=1")


def _needed(room: Room) -> str:
    most = f"at least {size(room.least_bytes)}" if room.most_bytes is None else f"up to {size(room.most_bytes)}"
    return f"{most if room.least_bytes or room.most_bytes else 'nothing'} needed, {size(room.free_bytes)} free"


def swap(total_bytes: int, used_bytes: int, available_bytes: int, machine: Machine) -> Check:
    """What was swapped out comes back in the middle of a measurement; it can come back before only where it fits."""
    if not total_bytes:
        return good("none")
    if not used_bytes:
        return good(f"{size(total_bytes)}, none in use")
    found = f"{size(used_bytes)} of {size(total_bytes)} are in use"
    if used_bytes > available_bytes / 2:
        return advice(f"{found}, and memory is too short to take them back", "top -o %MEM    # end what is not needed")
    return advice(found, f"sudo swapoff -a && sudo swapon -a{on_host(machine)}")


# Processors


def quota(machine: Machine) -> Check:
    """A quota, an affinity or a single core shape what can be measured."""
    cpu, cpus, kind = machine.cpu, machine.limits.cpus, machine.container and machine.container.kind
    is_docker = kind in ("docker", "podman")
    if cpus is not None and cpus < cpu.threads:
        found = f"the control group allows {cpus:g} of {cpu.threads} CPUs: settings are derived for {cpu.usable_cores}"
        look = (
            "cat /proc/self/cgroup    # the group that has the limit: cpu.max there, or in the pod's resources.limits"
        )
        return advice(found, f"{kind} run --cpus={cpu.threads} ...    # where all are wanted" if is_docker else look)
    if cpu.usable and len(cpu.usable) < cpu.threads:
        every = f"0-{cpu.threads + cpu.offline - 1}"
        return advice(
            f"this process may use {len(cpu.usable)} of {cpu.threads} CPUs (affinity)",
            f"{kind} run --cpuset-cpus={every} ...    # where all are wanted"
            if is_docker
            else f"taskset -cp {every} $$    # in the shell that starts make; a batch system may not allow it",
        )
    if cpu.usable_cores == 1:
        return advice("one core: LoadGen and the engine take turns on it, and latencies show it")
    offline = f"; {cpu.offline} more offline" if cpu.offline else ""
    return good(f"all {cpu.threads} CPUs, {cpu.usable_cores} cores, without a quota{offline}")


def governor(machine: Machine) -> Check:
    """A clock that follows the load makes results differ from run to run."""
    found = machine.cpu.governor
    if found is None:
        return good("not visible here, as in most virtual machines")
    if found == GOVERNOR:
        return good(found)
    command = f"echo {GOVERNOR} | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor"
    return advice(f"{found}: the clock follows the load", f"{command}{on_host(machine)}")


def clock(machine: Machine) -> Check:
    """A clock that is held down makes every figure worse."""
    cpu, folder = machine.cpu, "/sys/devices/system/cpu"
    if cpu.boost is False:
        other = f"with another driver than intel_pstate: echo 1 | sudo tee {folder}/cpufreq/boost"
        return advice(
            "boost is switched off", f"echo 0 | sudo tee {folder}/intel_pstate/no_turbo{on_host(machine)}    # {other}"
        )
    if cpu.limit_mhz and cpu.max_mhz and cpu.limit_mhz < cpu.max_mhz:
        command = f"echo {cpu.max_mhz * 1000:.0f} | sudo tee {folder}/cpu*/cpufreq/scaling_max_freq{on_host(machine)}"
        return advice(f"held to {cpu.limit_mhz:,.0f} of {cpu.max_mhz:,.0f} MHz", command)
    return good(f"up to {cpu.max_mhz:,.0f} MHz" if cpu.max_mhz else "not visible here, as in most virtual machines")


def huge_pages(machine: Machine) -> Check:
    """Large pages spare address translation in weights and samples."""
    found = machine.transparent_huge_pages
    if found == "never":
        command = "echo madvise | sudo tee /sys/kernel/mm/transparent_hugepage/enabled"
        return advice("never: large arrays are mapped in 4 KiB pages", f"{command}{on_host(machine)}")
    return good(found or "not visible here")


def load(load_1min: float, machine: Machine) -> Check:
    """Other work on the machine is measured too."""
    cores = machine.cpu.threads  # of the whole machine, as the load is
    found = f"{load_1min:.1f} of {cores} CPUs were busy in the last minute"
    if load_1min > BUSY_SHARE * cores:
        return advice(f"{found}: measure when it is quiet", "top -o %CPU")
    return good(found)


def time_of_day(synchronized: bool | None, machine: Machine) -> Check:
    """Records of several machines are put in order by their times."""
    if synchronized is None:
        return good("whether it is synchronized cannot be seen here")
    if not synchronized:
        command = f"sudo timedatectl set-ntp true{on_host(machine)}"
        return advice("no service keeps it right: the times in records may be off", command)
    return good("synchronized")


# What a request needs


@dataclass(frozen=True)
class Plugin:
    """An engine or a benchmark: why it cannot be used, if so, and what mends that."""

    name: str
    asked: bool
    problem: str | None = None
    remedy: str = ""


def engines(found: Sequence[Plugin]) -> Check:
    """An engine that was asked for must be usable; of the others it is only said."""
    return _plugins(found, "ready")


def benchmarks(found: Sequence[Plugin]) -> Check:
    """The model and the data of a benchmark that was asked for must be here."""
    return _plugins(found, "model and data are here")


def _plugins(found: Sequence[Plugin], ready: str) -> Check:
    lacking = [plugin for plugin in found if plugin.problem]
    needed = [plugin for plugin in lacking if plugin.asked]
    usable = [plugin.name for plugin in found if not plugin.problem]
    said = [f"{ready}: {words(usable)}"] if usable else []
    by_problem: dict[str, list[str]] = {}
    for plugin in lacking:
        by_problem.setdefault(str(plugin.problem), []).append(plugin.name)
    said += [f"{words(names)}: {problem}" for problem, names in by_problem.items()]
    if needed or not usable:
        remedies = dict.fromkeys(plugin.remedy for plugin in needed or lacking if plugin.remedy)
        return missing("; ".join(said) or "none is here", "\n".join(remedies))
    return good("; ".join(said))


def to_fetch(absent: Sequence[str], *, has_wheelhouse: bool) -> Check:
    """What is not here comes from the network, Python packages and LoadGen also from the wheelhouse."""
    if not absent:
        return good("nothing has to be fetched")
    if has_wheelhouse:
        return good(f"to fetch: {words(absent)}; build/wheelhouse has what pip installs")
    return advice(
        f"to fetch, by a network: {words(absent)}", "make wheelhouse    # elsewhere; carry build/wheelhouse over"
    )


def native(why: str, *, reused: bool) -> Check:
    """LoadGen and the harness are compiled by the first run."""
    if reused:
        return good("compiled from the sources that are here")
    return advice(f"to be compiled ({why}); a run does that first", "make build")


# Around it


@dataclass(frozen=True)
class Docker:
    """The docker client and what connecting to its socket came to: None if it answered, else errno's word."""

    client: str | None
    socket: str
    error: str | None = None


def docker(found: Docker, user: str, machine: Machine) -> Check:
    """Nothing here needs docker; whoever has it may want to use it without root."""
    if found.client is None or (found.error and machine.container):
        return good("not here, and not needed" if found.client is None else "not to be used in here, and not needed")
    if found.error is None:
        return good(f"{found.client}, and its service answers")
    if found.error == "EACCES":
        return advice(
            f"user {user} may not use {found.socket} (needed only for containers)",
            f"sudo usermod -aG docker {shlex.quote(user)}    # makes {user} as mighty as root; then log in again",
        )
    return advice("its service does not run (needed only for containers)", "sudo systemctl start docker")


def ports(taken: Iterable[int]) -> Check:
    """Ports that servers on this machine take by default."""
    busy = sorted(taken)
    if not busy:
        return good(f"{min(PORTS)}-{max(PORTS)} are free")
    named = words(f"{port} ({PORTS[port]})" for port in busy)
    return advice(f"taken: {named}; nothing of this version needs them", f"ss -ltnp 'sport = :{busy[0]}'")


OVERLAY_HAS = ("systems", "configs", "data_maps", "templates", "benchmarks", "engines", "calibrators")


def overlays(folders: Mapping[str, Iterable[str] | None]) -> Check:
    """Folders of ENGINEROOM_PATH with the names in each; None for one that is none."""
    if not folders:
        return good("not set")
    absent = [name for name, inside in folders.items() if inside is None]
    if absent:
        rest = os.pathsep.join(name for name in folders if name not in absent)
        command = f"export ENGINEROOM_PATH={shlex.quote(rest)}" if rest else "unset ENGINEROOM_PATH"
        return missing(f"no such folder: {words(absent)}", command)
    empty = [name for name, inside in folders.items() if not set(inside or ()) & set(OVERLAY_HAS)]
    if empty:
        return advice(
            f"nothing that is looked for is in {words(empty)}: {words(OVERLAY_HAS)}", f"ls {shlex.quote(empty[0])}"
        )
    return good(words(folders))


def on_host(machine: Machine) -> str:
    """Return the comment that belongs to a command which only the host can run."""
    return "    # on the host, outside the container" if machine.container else ""
