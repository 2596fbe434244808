"""Faults of a submission, one at a time, by the files that they are in: each module of this package holds a list.

values             the figures and settings in a performance test's log
lines              logs as lines and bytes, and the summary
accuracy           accuracy.txt, the answers, the accuracy run's log
audits             the audits' logs and verdicts
documents          measurements, user.conf, README.md
system             the description of a system
files              files and folders: missing, extra, misnamed, links
other_submissions  other divisions, language models, systems of two categories
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engineroom import rounds
from engineroom.bench.trees import Files
from engineroom.steps.submission.layout import Place, Tree

Change = Callable[["Sound"], None]
MARK = b":::MLLOG "


@dataclass
class Sound:
    """A sound tree, as its files, and where the parts of one of its results lie."""

    round: str
    files: Files
    scenario: str = "SingleStream"

    @property
    def tree(self) -> Tree:
        return Tree(rounds.read(self.round).layout, "closed", "Acme")

    @property
    def place(self) -> Place:
        return Place("box", "resnet50", self.scenario, "made")

    @property
    def results(self) -> str:
        return self.tree.results(self.place).as_posix()

    @property
    def log(self) -> str:
        return f"{self.results}/performance/run_1/mlperf_log_detail.txt"

    @property
    def told(self) -> str:
        return f"{self.results}/performance/run_1/mlperf_log_summary.txt"

    @property
    def accuracy(self) -> str:
        return f"{self.results}/accuracy"

    @property
    def beside(self) -> str:
        return self.tree.measurements(self.place).as_posix()

    @property
    def measured(self) -> str:
        return self.tree.measurements_file(self.place).as_posix()

    @property
    def system(self) -> str:
        return self.tree.system("box").as_posix()

    def of(self, results: str, name: str) -> str:
        """Return a file of the audits of a result."""
        there = {f"{results}/{name}", f"{results}/{name}".replace("/results/", "/compliance/")}
        return next(iter(there & self.files.keys()))

    def audit(self, test: str) -> str:
        return self.tree.audit(self.place, test).as_posix()

    def replace(self, file: str, old: str | bytes, new: str | bytes, count: int = 1) -> None:
        before, after = (each.encode() if isinstance(each, str) else each for each in (old, new))
        assert before in self.files[file], (file, old)
        self.files[file] = self.files[file].replace(before, after, count)

    def set(self, file: str, key: str, value: Any) -> None:
        """Change the value of a key in a detail log."""
        lines = self.files[file].splitlines(keepends=True)
        place = next(number for number, line in enumerate(lines) if f'"key": "{key}"'.encode() in line)
        told = json.loads(lines[place][len(MARK) :])
        assert told["value"] != value, key
        lines[place] = MARK + json.dumps({**told, "value": value}).encode() + b"\n"
        self.files[file] = b"".join(lines)

    def drop(self, file: str, key: str) -> None:
        lines = self.files[file].splitlines(keepends=True)
        kept = [line for line in lines if f'"key": "{key}"'.encode() not in line]
        assert len(kept) == len(lines) - 1, key
        self.files[file] = b"".join(kept)

    def json(self, file: str, **changes: Any) -> None:
        """Change fields of a JSON file; ... removes one."""
        told = json.loads(self.files[file])
        told = {name: value for name, value in {**told, **changes}.items() if value is not ...}
        self.files[file] = json.dumps(told, indent=2).encode()

    def move(self, old: str, new: str) -> None:
        """Rename a folder or a file."""
        moved = [name for name in self.files if name == old or name.startswith(f"{old}/")]
        assert moved, old
        for name in moved:
            self.files[new + name[len(old) :]] = self.files.pop(name)

    def remove(self, start: str) -> None:
        gone = [name for name in self.files if name == start or name.startswith(f"{start}/")]
        assert gone, start
        for name in gone:
            del self.files[name]

    def swap_folders(self, one: str, other: str) -> None:
        self.move(one, "x")
        self.move(other, one)
        self.move("x", other)

    def swap(self, one: str, other: str) -> None:
        self.files[one], self.files[other] = self.files[other], self.files[one]


@dataclass(frozen=True)
class Mutation:
    """A fault, the rules one of which has to tell it, and, for what no dict of files can be, what to do on the disk."""

    name: str
    change: Change
    rules: tuple[str, ...]
    on_disk: Callable[[Path, Sound], None] | None = None
    doubtful: bool = False  # a warning is enough


def nothing(sound: Sound) -> None:
    """Change no file: what is wrong is done on the disk."""


class Faults(list[Mutation]):
    """Faults of one kind of file."""

    def add(self, name: str, change: Change, *rules: str, doubtful: bool = False) -> None:
        self.append(Mutation(name, change, rules, doubtful=doubtful))

    def disk(self, name: str, act: Callable[[Path, Sound], None], *rules: str) -> None:
        self.append(Mutation(name, nothing, rules, act))

    def bytes_of(
        self,
        name: str,
        file: Callable[[Sound], str],
        change: Callable[[bytes], bytes],
        *rules: str,
        doubtful: bool = False,
    ) -> None:
        def apply(sound: Sound) -> None:
            before = sound.files[file(sound)]
            sound.files[file(sound)] = change(before)
            assert sound.files[file(sound)] != before

        self.add(name, apply, *rules, doubtful=doubtful)


def the_log(sound: Sound) -> str:
    return sound.log


def accuracy_log(sound: Sound) -> str:
    return f"{sound.accuracy}/mlperf_log_detail.txt"
