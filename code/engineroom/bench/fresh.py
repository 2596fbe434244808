"""From a fresh clone to the first table, and its parts, in an environment of PATH and HOME alone."""

from __future__ import annotations

import os
from pathlib import Path

from engineroom import terminal, versions
from engineroom.bench import product
from engineroom.bench.figures import Figure
from engineroom.paths import ROOT, VENV

LIMIT_S = 180.0
# `make run_harness` alone does all of this; as targets of their own the parts can be timed. Each costs one more start.
PARTS = (
    "make venv",  # create build/venv and install
    "make build",  # compile LoadGen and the harness
    "make generate_engines",  # prepare data, calibrate, build engines
    "make run_harness",  # run LoadGen, score, print the table
)


def measure(pairs: int) -> list[Figure]:
    """Return the wall time of each part and of all. Once, whatever `pairs` says: it takes minutes.

    What is cloned is the checkout's last commit. Raises EngineError if a part fails.
    """
    if versions.git_revision().endswith("-dirty"):
        terminal.warn("the fresh clone holds the last commit, without the changes in this working tree")
    with product.scratch() as folder, terminal.progress("fresh clone", len(PARTS)) as update:
        clone = folder / "engineroom"
        total_s = product.seconds(["git", "clone", "--quiet", str(ROOT), str(clone)], env=_environment())
        figures = []
        for number, command in enumerate(PARTS):
            update(number, command)
            part_s = product.seconds(command.split(), cwd=clone, env=_environment())
            figures.append(Figure(f"fresh clone, {command}", "s", (part_s,)))
            total_s += part_s
    return [*figures, Figure("fresh clone to the first table", "s", (total_s,), limit=LIMIT_S)]


def _environment() -> dict[str, str]:
    """Return PATH and HOME; a venv of ours that is active is no part of a fresh machine."""
    path = [entry for entry in os.environ.get("PATH", os.defpath).split(os.pathsep) if Path(entry) != VENV / "bin"]
    return {"PATH": os.pathsep.join(path), "HOME": str(Path.home())}
