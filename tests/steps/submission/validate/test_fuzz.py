"""Whatever a tree holds, it is judged: no exception, no endless work, nothing that a terminal could not print."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engineroom import rounds
from engineroom.bench import trees
from engineroom.bench.trees import Files
from engineroom.steps.submission.validate import result, whole
from engineroom.steps.submission.validate.case import Subject
from engineroom.steps.submission.validate.findings import Finding

ROUND = "v6.1"
SUBJECT = Subject("closed", "Acme", "box", "resnet50", "SingleStream", "resnet50", "edge")
TREES_OF_FILES, FILES_OF_EACH, TREES = 1_600, 3, 250  # 5,050 files and trees in all
WORDS = [
    b"",
    b"null",
    b"-1",
    b"1e999",
    b"NaN",
    b"[]",
    b"{}",
    b'"',
    b"\0",
    b"\xff\xfe",
    b"\n",
    b"9" * 400,
    b"\xe2\x80\xa8",
    b"true",
]
NUMBER = re.compile(rb"[: =](\d+)")
HERE = Path(__file__).parent


def flipped(data: bytes, luck: random.Random) -> bytes:
    """Change a few bytes."""
    made = bytearray(data or b"x")
    for _ in range(luck.randint(1, 8)):
        made[luck.randrange(len(made))] = luck.randrange(256)
    return bytes(made)


def cut(data: bytes, luck: random.Random) -> bytes:
    """Leave a part out."""
    first, last = sorted(luck.randrange(len(data) + 1) for _ in range(2))
    return data[:first] + data[last:]


def put_in(data: bytes, luck: random.Random) -> bytes:
    """Put something in."""
    place = luck.randrange(len(data) + 1)
    return data[:place] + luck.choice(WORDS) * luck.choice((1, 1, 50)) + data[place:]


def repeated(data: bytes, luck: random.Random) -> bytes:
    """Repeat a line, somewhere."""
    lines = data.split(b"\n")
    lines.insert(luck.randrange(len(lines) + 1), luck.choice(lines))
    return b"\n".join(lines)


def other_value(data: bytes, luck: random.Random) -> bytes:
    """Put another value in the place of a number."""
    found = [number.span(1) for number in NUMBER.finditer(data)]
    start, end = luck.choice(found) if found else (0, 0)
    return data[:start] + luck.choice(WORDS) + data[end:]


def random_json(data: bytes, luck: random.Random) -> bytes:
    """Something that is JSON, and nothing that was asked for."""
    told: object = luck.choice([None, 1, "x", [], {}, True, 1.5])
    for _ in range(luck.randint(0, 60)):
        told = [told] if luck.random() < 0.5 else {luck.choice(("status", "key", "value", "")): told}
    return json.dumps(told).encode()


def noise(data: bytes, luck: random.Random) -> bytes:
    """Random bytes."""
    return luck.randbytes(luck.randint(0, 3000))


CHANGES: list[Callable[[bytes, random.Random], bytes]] = [
    flipped,
    cut,
    put_in,
    repeated,
    other_value,
    other_value,
    random_json,
    noise,
]


def printable(findings: list[Finding]) -> None:
    for each in findings:
        assert each.rule != "validator-failed", each
        for text in (each.file, each.key, each.found, each.expected, each.mend):
            assert text.isprintable(), each
            text.encode()


@pytest.mark.heavy
def test_a_file_may_hold_anything(memory: Path) -> None:
    files = {name: data for name, data in trees.small(ROUND).items() if "/SingleStream/" in name}
    trees.write(memory, files)
    names, rules = sorted(files), rounds.read(ROUND)
    for seed in range(TREES_OF_FILES):
        luck = random.Random(seed)
        chosen = luck.sample(names, FILES_OF_EACH)
        for name in chosen:
            (memory / name).write_bytes(luck.choice(CHANGES)(files[name], luck))
        printable(result.check(memory, rules, SUBJECT).findings)
        for name in chosen:
            (memory / name).write_bytes(files[name])


NAMES = ("x", "a b", "é", "TEST01", "results", "Offline", "x" * 200, "mlperf_log_detail.txt")


def shuffled(files: Files, luck: random.Random) -> Files:
    """Rename, drop, copy and swap files and folders."""
    made = dict(files)
    for _ in range(luck.randint(1, 4)):
        name = luck.choice(sorted(made))
        parts = name.split("/")
        depth = luck.randrange(1, len(parts) + 1)
        folder = "/".join(parts[:depth])
        inside = [each for each in made if each == folder or each.startswith(f"{folder}/")]
        act = luck.randrange(4)
        other = luck.choice([*NAMES, parts[-1]])
        target = "/".join([*parts[: depth - 1], other])
        for each in inside:
            moved = target + each[len(folder) :]
            if act in (0, 1) and free(made, moved):
                made[moved] = made[each]
            if act in (0, 2):
                made.pop(each)
            if act == 3:
                made[each] = luck.choice(CHANGES)(made[each], luck)
        if not made:
            return files
    return made


def free(files: Files, name: str) -> bool:
    """Tell whether a file of this name can stand beside the others."""
    above = {"/".join(name.split("/")[:depth]) for depth in range(1, name.count("/") + 1)}
    return not above & files.keys() and not any(each.startswith(f"{name}/") for each in files)


@pytest.fixture
def memory() -> Iterator[Path]:
    """Return a folder in memory, where there is one: trees come and go many times faster there than on a disk."""
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if os.access(shared, os.W_OK) else None) as folder:
        yield Path(folder)


@pytest.mark.heavy
def test_a_tree_may_be_anything(memory: Path) -> None:
    sound = {name: trees.small(name) for name in ("v5.1", ROUND)}
    for seed in range(TREES):
        luck = random.Random(seed)
        folder = memory / "tree"
        trees.write(folder, shuffled(sound[luck.choice(sorted(sound))], luck))
        printable(whole.validate(folder, luck.choice(("v5.1", ROUND, None)), workers=1).findings)
        shutil.rmtree(folder)


# What is large

MEASURE = """
import resource, sys
from pathlib import Path
from engineroom.steps.submission.validate import whole
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = whole.validate(Path(sys.argv[1]), "v6.1", workers=1).findings
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
print(*sorted({each.rule for each in found}))
"""


def judged(folder: Path) -> tuple[int, set[str]]:
    """Return by how many MB a judgement of a tree makes a process grow, and the rules that tell something."""
    code = HERE.parents[3] / "code"
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(folder)],
        env={**os.environ, "PYTHONPATH": str(code)},
        capture_output=True,
        text=True,
        check=True,
    )
    grown, rules = done.stdout.splitlines()
    return int(grown), {*rules.split()}


@pytest.fixture
def large(tmp_path: Path) -> Path:
    files = trees.small(ROUND)
    trees.write(tmp_path, files)
    return tmp_path / "closed/Acme/results/box/resnet50/SingleStream"


@pytest.mark.heavy
def test_logs_of_many_gigabytes_are_told_in_little_memory(large: Path, tmp_path: Path) -> None:
    logs = ("performance/run_1/mlperf_log_detail.txt", "performance/run_1/mlperf_log_summary.txt")
    scored = ("accuracy/mlperf_log_accuracy.json", "accuracy/accuracy.txt")
    for name in (*logs, *scored, "user.conf", "measurements.json"):
        os.truncate(large / name, 3 << 30)  # zeros after what is there: as a file is that a crash has left
    grown, rules = judged(tmp_path)
    assert {"tree-large-file", "log-line-broken", "accuracy-log-long", "tree-unreadable"} <= rules
    assert grown < 300


@pytest.mark.heavy
def test_a_log_of_endless_lines_is_read_as_a_stream(large: Path, tmp_path: Path) -> None:
    log = large / "performance/run_1/mlperf_log_detail.txt"
    lines = log.read_bytes().splitlines(keepends=True)
    message = next(place for place, line in enumerate(lines) if b"generic_message" in line)
    log.write_bytes(b"".join([*lines[:message], lines[message] * 700_000, *lines[message:]]))
    assert log.stat().st_size > 150 << 20
    grown, rules = judged(tmp_path)
    assert rules == {"tree-large-file"}
    assert grown < 100
