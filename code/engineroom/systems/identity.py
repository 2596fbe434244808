"""Gives a machine its id: that of the system which recognises it, one made from its hardware, or one asked for."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from engineroom import detection
from engineroom.detection import Cpu, Gpu, Machine
from engineroom.errors import RequestError, did_you_mean, shown
from engineroom.paths import CONFIGS, SYSTEMS, display, layers, sha256_text
from engineroom.systems.conditions import hold
from engineroom.systems.files import RESERVED, System, files, read_all

LENGTH_MAX = 80  # it is part of the names of folders that hold more than it


def detect(root: Path = Path("/"), systems: Path = SYSTEMS) -> Machine:
    """Return this machine with its id. `root` is where /proc and /sys are read from.

    Raises Mistakes with what is wrong in any system's file; RequestError if two systems match equally well.
    """
    machine = detection.detect(root)
    found = recognise(machine, read_all(systems))
    return replace(machine, system=found.id if found else derived_id(machine))


def recognise(machine: Machine, systems: Mapping[str, System]) -> System | None:
    """Return the system whose conditions all hold, of several the one with the most of them, or None.

    Raises RequestError that names both if two have as many.
    """
    matching = [system for system in systems.values() if hold(system.conditions, machine)]
    most = max((len(system.conditions) for system in matching), default=0)
    best = [system for system in matching if len(system.conditions) == most]
    if len(best) > 1:
        raise RequestError(
            f"this machine matches {' and '.join(display(system.path) for system in best)} equally well, "
            f"by {most} {'condition' if most == 1 else 'conditions'} each",
            mend="add a condition to the `match:` of one of them",
        )
    return best[0] if best else None


def known(machine: Machine, systems: Path = SYSTEMS, configs: Path = CONFIGS) -> tuple[str, ...]:
    """Return every id that can be asked for: of systems/, of the folders of configs/, and the machine's own."""
    folders = (path.name for folder in layers(configs) for path in folder.glob("*/") if path.is_dir())
    configured = {name for name in folders if name != RESERVED and not name.startswith((".", "_"))}
    return tuple(sorted({*files(systems), *configured, machine.system, derived_id(machine)} - {""}))


def named(machine: Machine, system_id: str, systems: Path = SYSTEMS, configs: Path = CONFIGS) -> Machine:
    """Return the machine under the id that is asked for, in any case. Raises RequestError with the nearest known."""
    ids = known(machine, systems, configs)
    found = {name.lower(): name for name in ids}.get(system_id.lower())
    if found is None:
        raise RequestError(f"unknown system {shown(system_id)}", where="--system", mend=did_you_mean(system_id, ids))
    return replace(machine, system=found)


def derived_id(machine: Machine) -> str:
    """Name a machine that systems/ does not know: "NVIDIA_H200x8", "NVIDIA_H200x1-MIG_1g.18gbx3", or by its CPU."""
    name = _by_gpus(machine.gpus) if machine.gpus else _by_processor(machine.cpu)
    return name if len(name) <= LENGTH_MAX else f"{name[: LENGTH_MAX - 9]}-{sha256_text(name)[:8]}"


def _by_gpus(gpus: tuple[Gpu, ...]) -> str:
    names = "-".join(f"{_safe(name)}x{count}" for name, count in Counter(gpu.name for gpu in gpus).items())
    profiles = Counter(piece.profile for gpu in gpus for piece in gpu.slices)
    slices = "".join(f"_{_safe(profile)}x{count}" for profile, count in sorted(profiles.items()))
    return f"{names}-MIG{slices}" if slices or any(gpu.mig for gpu in gpus) else names


def _by_processor(cpu: Cpu) -> str:
    """Return "AMD_EPYC_7763-64c", and "2x..." for two sockets."""
    name = re.sub(r"\((R|TM)\)|\bCPU\b|\bProcessor\b|@.*|\b\d+-Core\b", " ", cpu.model)
    sockets = f"{cpu.sockets}x" if cpu.sockets > 1 else ""
    return f"{sockets}{_safe(name)}-{cpu.usable_cores}c"


def _safe(name: str) -> str:
    """Return a name that can be a folder's: none that is hidden, leads elsewhere, or means something to a shell."""
    return re.sub(r"[^A-Za-z0-9.]+", "_", name).strip("_.") or "unknown"
