"""Finds a machine's id in systems/, or makes one."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from engineroom import detection
from engineroom.detection import Machine
from engineroom.errors import Mistakes, RequestError, did_you_mean, plain, shown
from engineroom.paths import SYSTEMS, display
from engineroom.yaml_file import entries


def detect(root: Path = Path("/"), systems: Path = SYSTEMS) -> Machine:
    """Return this machine with its id. `root` is where /proc and /sys are read from.

    Raises RequestError if two systems match.
    """
    machine = detection.detect(root)
    return replace(machine, system=_match(machine, systems) or _derived_id(machine))


def _derived_id(machine: Machine) -> str:
    """Name a machine that systems/ does not know after its CPU: "AMD_EPYC_7763-64c", "2x..." for two sockets."""
    name = re.sub(r"\((R|TM)\)|\bCPU\b|\bProcessor\b|@.*|\b\d+-Core\b", " ", machine.cpu.model)
    words = re.sub(r"[^A-Za-z0-9.]+", "_", name).strip("_") or "cpu"
    sockets = f"{machine.cpu.sockets}x" if machine.cpu.sockets > 1 else ""
    return f"{sockets}{words}-{machine.cpu.usable_cores}c"


def _match(machine: Machine, systems: Path) -> str | None:
    """Return the id of the system whose `match:` holds with the most conditions. A tie is an error naming both."""
    facts: dict[str, Any] = {
        "cpu_model": machine.cpu.model,
        "sockets": machine.cpu.sockets,
        "cores": machine.cpu.cores,
        "gpu": machine.gpus[0].name if machine.gpus else "",
        "gpu_count": len(machine.gpus),
    }
    matches: dict[str, int] = {}
    mistakes: list[RequestError] = []
    for path in sorted(systems.glob("*.yaml")):
        try:
            conditions = _conditions(path, facts, mistakes)
        except RequestError as error:
            mistakes.append(error)
            continue
        if conditions and all(_holds(wanted, facts[name]) for name, wanted in conditions.items()):
            matches[path.stem] = len(conditions)
    if mistakes:
        raise Mistakes(mistakes)
    best = [name for name, count in matches.items() if count == max(matches.values())]
    if len(best) > 1:
        raise RequestError(
            f"this machine matches {' and '.join(best)} equally well",
            where=display(systems),
            mend="add a condition to the `match:` of one of them",
        )
    return best[0] if best else None


def _conditions(path: Path, facts: Mapping[str, Any], mistakes: list[RequestError]) -> dict[str, Any]:
    """Return what stands under `match:` in a system's file, and note what cannot stand there."""
    conditions: dict[str, Any] = {}
    for entry in (entry for entry in entries(path, mistakes) if entry.key == "match"):
        if not entry.is_mapping:
            where = f"{display(path)}:{entry.line}"
            mistakes.append(RequestError("match must hold `condition: value` lines", where=where))
        for condition in entry.children():
            name, value = condition.key, condition.value()
            where = f"{display(path)}:{condition.line}"
            if name not in facts:
                mend = did_you_mean(name, facts)
                mistakes.append(RequestError(f"match.{plain(name)}: unknown condition", where=where, mend=mend))
            elif type(value) is not type(facts[name]):
                wanted = "a whole number" if isinstance(facts[name], int) else 'a text; "*" in it stands for anything'
                mistakes.append(RequestError(f"match.{name} is {shown(value)}, must be {wanted}", where=where))
            else:
                conditions[name] = value
    return conditions


def _holds(wanted: object, fact: object) -> bool:
    return fnmatch.fnmatchcase(str(fact), wanted) if isinstance(wanted, str) else fact == wanted
