"""What the targets cost that find nothing to do, beside Invoke alone."""

from __future__ import annotations

from engineroom.bench import product
from engineroom.bench.figures import Comparison, Figure, interleaved

PEER = "inv --version"
LIMIT_S = 0.3


def measure(pairs: int) -> list[Figure]:
    """Return the wall time of bare `make` and of the no-op `generate_engines`."""
    commands = {
        PEER: [product.INV, "--version"],
        "bare make": ["make"],
        "make generate_engines, warm": ["make", "generate_engines"],
        "inv generate_engines, warm": [product.INV, "generate_engines"],
    }
    for command in commands.values():  # what is missing is built now, and files come into the page cache
        product.seconds(command)
    take = {name: lambda command=command: product.seconds(command) for name, command in commands.items()}
    taken = interleaved("start-up", pairs, take)
    peer = taken.pop(PEER)
    return [Figure(name, "s", ours, peer, PEER, Comparison.DIFFERENCE, LIMIT_S) for name, ours in taken.items()]
