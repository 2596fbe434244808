"""What the targets cost that find nothing to do or only tell, beside Invoke alone; and reading every YAML file."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial

from engineroom import datasets, systems
from engineroom.bench import product
from engineroom.bench.figures import Comparison, Figure, interleaved
from engineroom.config.layers import read
from engineroom.paths import CONFIGS, DATA_MAPS

PEER = "inv --version"
LIMIT_S = 0.3
YAML_LIMIT_S = 0.05


def measure(pairs: int) -> list[Figure]:
    """Return the wall times of targets that make nothing, and of loading all YAML files of the project."""
    commands = {
        PEER: ([product.INV, "--version"], ()),
        "bare make": (["make"], ()),
        "make generate_engines, warm": (["make", "generate_engines"], ()),
        "inv generate_engines, warm": ([product.INV, "generate_engines"], ()),
        "make config": (["make", "config"], ()),
        "make explain": (["make", "explain"], ("batch_size",)),
    }
    take = {name: partial(_seconds, *command) for name, command in commands.items()}
    for run in take.values():  # what is missing is built now, and files come into the page cache
        run()
    taken = interleaved("start-up", pairs, take)
    peer = taken.pop(PEER)
    figures = [Figure(name, "s", ours, peer, PEER, Comparison.DIFFERENCE, LIMIT_S) for name, ours in taken.items()]
    return [*figures, Figure("every YAML file", "s", tuple(_load_all() for _ in range(pairs)), limit=YAML_LIMIT_S)]


def _seconds(command: Sequence[str], words: Sequence[str]) -> float:
    return product.seconds(command, env=product.environment(words))


def _load_all() -> float:
    """Return the time of reading and checking each YAML file of the project, in seconds."""
    begin = time.perf_counter()
    for path in CONFIGS.glob("*/*.yaml"):
        read(path, [])
    systems.read_all()
    for path in DATA_MAPS.glob("*/dataset.yaml"):
        datasets.read_manifest(path)
    return time.perf_counter() - begin
