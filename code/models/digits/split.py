"""Cuts the digits into training, calibration and evaluation parts and writes their maps.

    PYTHONPATH=code python code/models/digits/split.py

Stratified: each part has every class in the proportion of the whole. Within a class the digits are ranked by a hash
of seed and row, so that the cut depends on no library's random generator and stays the same everywhere.
"""

from __future__ import annotations

import gzip
import hashlib
from collections import defaultdict
from pathlib import Path

from engineroom.datasets import Dataset, Sample, format_map
from engineroom.paths import write_text

SEED = 1998
FILE = "digits.csv.gz"


def read_labels(path: Path) -> list[int]:
    """Return the class of each row of the CSV file, its last column."""
    with gzip.open(path, "rt", encoding="ascii") as file:
        return [int(line.rsplit(",", 1)[1]) for line in file]


def shares(total: int, counts: dict[int, int]) -> dict[int, int]:
    """Split `total` over the classes in proportion to `counts`, by largest remainder."""
    everything = sum(counts.values())
    share = {label: total * count // everything for label, count in counts.items()}
    by_remainder = sorted(counts, key=lambda label: (-(total * counts[label] % everything), label))
    for label in by_remainder[: total - sum(share.values())]:
        share[label] += 1
    return share


def split(labels: list[int], sizes: dict[str, int], seed: int = SEED) -> dict[str, list[int]]:
    """Return the rows of each part in their order. `sizes` gives the parts' sizes; together they take every row."""
    rows_of: dict[int, list[int]] = defaultdict(list)
    for row in sorted(range(len(labels)), key=lambda row: hashlib.sha256(f"{seed}:{row}".encode()).digest()):
        rows_of[labels[row]].append(row)
    parts: dict[str, list[int]] = {}
    left = dict(rows_of)
    for name, size in sizes.items():
        share = shares(size, {label: len(rows) for label, rows in left.items()})
        parts[name] = sorted(row for label, rows in left.items() for row in rows[: share[label]])
        left = {label: rows[share[label] :] for label, rows in left.items()}
    return parts


def maps(dataset: Dataset) -> dict[Path, str]:
    """Return each map's path and the text it must have."""
    labels = read_labels(dataset.folder / FILE)
    parts = dataset.manifest.parts
    rows = split(labels, {name: part.samples for name, part in parts.items()})
    return {
        dataset.folder / parts[name].map: format_map(Sample(f"{FILE}#{row:04}", labels[row]) for row in rows[name])
        for name in parts
    }


def main() -> None:
    """Write the maps."""
    for path, text in maps(Dataset("digits")).items():
        write_text(path, text)


if __name__ == "__main__":
    main()
