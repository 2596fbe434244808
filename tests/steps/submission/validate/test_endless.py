"""What is wrong many thousand times is judged in little time and told in few words."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from faults import Sound

from engineroom import rounds
from engineroom.bench import trees
from engineroom.steps.submission.validate import described, result
from engineroom.steps.submission.validate.case import Subject
from engineroom.steps.submission.validate.findings import Finding, few

ROUND, BYTES, SECONDS = "v6.1", 1_000_000, 2.0  # a fault that takes the square of a file takes minutes
SUBJECT = Subject("closed", "Acme", "box", "resnet50", "SingleStream", "resnet50", "edge")


@pytest.fixture(scope="module")
def sound() -> Sound:
    return Sound(ROUND, {name: data for name, data in trees.small(ROUND).items() if "/SingleStream/" in name})


@pytest.fixture
def tree(sound: Sound, tmp_path: Path) -> Path:
    trees.write(tmp_path, sound.files)
    return tmp_path


def files(sound: Sound) -> dict[str, str]:
    return {
        "accuracy.txt": f"{sound.accuracy}/accuracy.txt",
        "verify_performance.txt": sound.of(sound.results, "TEST04/verify_performance.txt"),
        "verify_accuracy.txt": sound.of(sound.results, "TEST01/verify_accuracy.txt"),
        "user.conf": f"{sound.beside}/user.conf",
        "README.md": f"{sound.beside}/README.md",
        "measurements": sound.measured,
        "summary": sound.told,
        "log": sound.log,
    }


@pytest.mark.parametrize("name", ["accuracy.txt", "verify_performance.txt", "verify_accuracy.txt", "user.conf"])
@pytest.mark.parametrize("blank", ["\n", "x.y.z =" + " " * 9_000 + "1 #\n"])
def test_blanks_without_end_are_judged_at_once(name: str, blank: str, sound: Sound, tree: Path) -> None:
    for size in (60_000, BYTES):  # within the limits of every one, and beyond them
        (tree / files(sound)[name]).write_text(blank * (size // len(blank)))
        begin = time.process_time()
        findings = result.check(tree, rounds.read(ROUND), SUBJECT).findings
        assert time.process_time() - begin < SECONDS
        told = name.partition(".")[0] in {Path(each.file).stem for each in findings}
        assert told or (name, blank, size) == ("user.conf", "\n", 60_000)  # which sets nothing


MANY = 8_000
REPEATED = {
    "user.conf": "\n".join(f"a{place}" for place in range(MANY)),
    "measurements": '{"x": 1' + ', "a": 1, "b": 2' * MANY + "}",
    "accuracy.txt": "accuracy=1.000%, good=1, total=2\n" * MANY,
}


@pytest.mark.parametrize("name", REPEATED)
def test_what_is_wrong_many_times_is_told_in_few_words(name: str, sound: Sound, tree: Path) -> None:
    (tree / files(sound)[name]).write_text(REPEATED[name])
    findings = result.check(tree, rounds.read(ROUND), SUBJECT).findings
    assert 0 < len(findings) < 100
    if name == "user.conf":
        assert f"{MANY - 20:,} more like these" in {each.found for each in findings}


def test_unknown_names_are_not_all_compared_with_those_known(tmp_path: Path) -> None:
    files = {name: data for name, data in trees.small(ROUND).items() if "/SingleStream/" not in name}
    sound = Sound(ROUND, files)
    told = json.loads(files[sound.system])
    sound.files[sound.system] = json.dumps({**told, **{f"host_memory_{place}": "" for place in range(MANY)}}).encode()
    sound.json(sound.system, cooling=...)
    trees.write(tmp_path, {sound.system: sound.files[sound.system]})
    findings: list[Finding] = []
    begin = time.process_time()
    described.check(tmp_path, sound.system, "closed", "Acme", rounds.read(ROUND), findings)
    assert time.process_time() - begin < SECONDS
    assert len(few(findings)) < 50 < MANY < len(findings)
