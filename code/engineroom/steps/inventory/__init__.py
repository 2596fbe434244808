"""The inventory: what is here, of which version, where, and how it was found; and what two records of it differ in."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import msgspec

from engineroom import __version__, versions
from engineroom.detection import Machine
from engineroom.steps.inventory.components import (
    COMPILER,
    NVCC,
    Component,
    benchmarks,
    calibrators,
    engines,
    guarded,
    install_command,
    libraries,
    models_and_data,
    overlay_folders,
    python_packages,
    toolchain,
)
from engineroom.steps.inventory.difference import Difference, compare, find_record
from engineroom.steps.inventory.words import machine_in_words, size

__all__ = [
    "Component",
    "Difference",
    "benchmarks",
    "compare",
    "engines",
    "environment",
    "find_record",
    "guarded",
    "install_command",
    "libraries",
    "machine_in_words",
    "python_packages",
    "size",
    "take",
]

# The title of each list of components, and what finds it. Other steps' things are added by who calls `take`.
LISTS: dict[str, Callable[[], list[Component]]] = {
    "toolchain": toolchain,
    "libraries": libraries,
    "packages": python_packages,
    "benchmarks": benchmarks,
    "engines": engines,
    "calibrators": calibrators,
    "models and data": models_and_data,
    "overlays": overlay_folders,
}


def take(machine: Machine, **more: list[Component]) -> dict[str, Any]:
    """Return everything, as plain data: the machine, and lists of components by their titles. Nothing is remembered.

    `more` is put at the end of the list of that title.
    """
    found: dict[str, Any] = _origin(machine)
    for title, find in LISTS.items():
        found[title] = [*guarded(title, find), *more.get(title, [])]
    return _plain(found)


def environment(machine: Machine) -> dict[str, Any]:
    """Return what env.json keeps of a run: the machine, and what can change its result. Quicker than `take`."""
    return _plain(
        {
            **_origin(machine),
            "distributions": versions.all_distributions(),
            "toolchain": guarded("toolchain", lambda: toolchain((COMPILER, NVCC))),
            "libraries": guarded("libraries", libraries),
            "overlays": overlay_folders(),
        }
    )


def _origin(machine: Machine) -> dict[str, Any]:
    return {
        "engineroom": __version__,
        "revision": versions.git_revision(),
        "python": sys.version.split()[0],
        "machine": machine,
    }


def _plain(found: dict[str, Any]) -> dict[str, Any]:
    """Turn dataclasses into mappings. Of a component, what is not known is left out."""
    plain: dict[str, Any] = msgspec.to_builtins(found)
    for value in plain.values():
        for item in value if isinstance(value, list) else ():
            for name in [name for name, fact in item.items() if fact is None]:
                del item[name]
    return plain
