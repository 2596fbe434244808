"""Every single fault in a sound submission is found, and nothing is found where there is none."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from faults import (
    Change,
    Faults,
    Mutation,
    Sound,
    accuracy,
    audits,
    documents,
    files,
    lines,
    other_submissions,
    system,
    values,
)

from engineroom import rounds
from engineroom.bench import trees
from engineroom.bench.trees import Files
from engineroom.steps.submission.layout import Place, Tree
from engineroom.steps.submission.validate import result, whole
from engineroom.steps.submission.validate.case import Subject
from engineroom.steps.submission.validate.findings import Finding, Level
from engineroom.steps.submission.validate.result import Outcome

# The last round of the old layout, and the newest of the new one.
LAYOUTS = (pytest.param("v5.1", marks=pytest.mark.heavy), "v6.1")
KINDS = {kind.__name__.rpartition(".")[2]: kind.FAULTS for kind in (values, lines, accuracy, audits, documents, system)}
KINDS["files"] = files.FAULTS
WIDE = other_submissions.FAULTS


class Remembered:
    """Judges results; one whose files did not change is not judged again, which takes two thirds of the time."""

    def __init__(self) -> None:
        self.files: Files = {}
        self.known: dict[Any, Outcome] = {}

    def __call__(self, root: Path, round_name: str, subjects: Sequence[Subject]) -> list[Outcome]:
        return [self._outcome(root, rounds.read(round_name), subject) for subject in subjects]

    def _outcome(self, root: Path, rules: rounds.Round, subject: Subject) -> Outcome:
        folder = f"/{subject.system}/{subject.benchmark}/{subject.scenario}/"
        key = subject, frozenset(item for item in self.files.items() if folder in item[0])
        if key not in self.known:
            self.known[key] = result.check(root, rules, subject)
        return self.known[key]


def judge(root: Path, round_name: str) -> list[Finding]:
    return whole.validate(root, round_name, workers=1).findings


def changed(sound: Sound, mutation: Mutation) -> Files:
    """Return the files of the tree with the fault in it."""
    made = Sound(sound.round, dict(sound.files))
    mutation.change(made)
    return made.files


def put(root: Path, before: Files, after: Files) -> None:
    """Turn the tree of `before` on the disk into that of `after`."""
    for name in before.keys() - after.keys():
        (root / name).unlink()
        for folder in (root / name).parents:
            if folder == root or any(folder.iterdir()):
                break
            folder.rmdir()
    trees.write(
        root, {os.fsdecode(os.fsencode(name)): data for name, data in after.items() if before.get(name) != data}
    )


def told(root: Path, sound: Sound, faults: Faults, scratch: Path) -> Iterator[tuple[Mutation, list[Finding]]]:
    """Yield what is found of each fault in the tree in `root`, which is sound before and after."""
    remembered, really = Remembered(), whole.judge
    with pytest.MonkeyPatch.context() as patch:
        for mutation in faults:
            if mutation.on_disk:
                copy = shutil.copytree(root, scratch / "copy")
                patch.setattr(whole, "judge", really)
                mutation.on_disk(copy, Sound(sound.round, sound.files))
                yield mutation, judge(copy, sound.round)
                shutil.rmtree(copy)
            else:
                remembered.files = changed(sound, mutation)
                put(root, sound.files, remembered.files)
                patch.setattr(whole, "judge", remembered)
                yield mutation, judge(root, sound.round)
                put(root, remembered.files, sound.files)


def missed(root: Path, sound: Sound, faults: Faults, scratch: Path) -> dict[str, list[str]]:
    """Return the faults that are not told by the rules that they should be told by, with what was told instead."""
    not_told = {}
    for mutation, findings in told(root, sound, faults, scratch):
        counted = [each for each in findings if mutation.doubtful or each.level is Level.ERROR]
        if not counted or (mutation.rules and not {each.rule for each in counted} & {*mutation.rules}):
            not_told[mutation.name] = sorted({each.rule for each in findings})
        assert all(each.found and each.mend and each.source for each in findings), mutation.name
        assert "validator-failed" not in {each.rule for each in findings}, (mutation.name, findings)
    return not_told


def test_there_are_enough_kinds_of_faults() -> None:
    names = [mutation.name for kind in (*KINDS.values(), WIDE) for mutation in kind]
    assert len({*names}) == len(names) >= 150


@pytest.mark.parametrize("round_name", rounds.names())
@pytest.mark.parametrize("kind", [trees.small, trees.wide])
def test_nothing_is_found_in_a_sound_tree(kind: Callable[[str], Files], round_name: str, tmp_path: Path) -> None:
    trees.write(tmp_path, kind(round_name))
    report = whole.validate(tmp_path, workers=1)
    assert (report.round, report.findings) == (round_name, [])


@pytest.fixture(scope="module", params=LAYOUTS)
def sound(request: pytest.FixtureRequest) -> Sound:
    return Sound(request.param, trees.small(request.param))


@pytest.fixture(scope="module")
def root(sound: Sound, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that holds the sound tree; who changes it puts it back."""
    folder = tmp_path_factory.mktemp(sound.round)
    trees.write(folder, sound.files)
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_every_fault_is_found(kind: str, sound: Sound, root: Path, tmp_path: Path) -> None:
    assert missed(root, sound, KINDS[kind], tmp_path) == {}
    assert judge(root, sound.round) == []  # every fault was put back


@pytest.mark.parametrize("round_name", LAYOUTS)
def test_every_fault_of_other_submissions_is_found(round_name: str, tmp_path: Path) -> None:
    sound = Sound(round_name, trees.wide(round_name))
    trees.write(tmp_path / "tree", sound.files)
    assert missed(tmp_path / "tree", sound, WIDE, tmp_path) == {}


# What the rules leave to the submitter

CHOICES: dict[str, Change] = {
    "what a repository holds beside the divisions": lambda sound: sound.files.update(
        dict.fromkeys(("README.md", "a report.pdf", ".github/x.yml", "tools/mlperf_log_detail.txt"), b"x")
    ),
    "no answers, with blanks, in the performance test": lambda sound: sound.files.update(
        {f"{sound.results}/performance/run_1/mlperf_log_accuracy.json": b"\n" * 500 + b"[\n]\n"}
    ),
    "power": files.power,
    "calibration as the policies name it": lambda sound: sound.move(
        sound.tree.calibration.as_posix(), "closed/Acme/documentation/calibration.adoc"
    ),
    "calibration where checkers looked first": lambda sound: sound.move(
        sound.tree.calibration.as_posix(), "closed/Acme/calibration.md"
    ),
    "what else lies beside measurements": lambda sound: sound.files.update(
        {f"{sound.beside}/{name}": b"x" for name in ("mlperf.conf", "analyzer_table.md", "power_settings.txt")}
    ),
    "settings of two models whose names fit": lambda sound: sound.files.update(
        {
            f"{sound.beside}/user.conf": b"resnet50-other.SingleStream.min_duration = 700000\n"
            + sound.files[f"{sound.beside}/user.conf"]
        }
    ),
}


@pytest.mark.parametrize("choice", CHOICES)
def test_nothing_is_found_where_the_rules_leave_a_choice(choice: str, sound: Sound, root: Path) -> None:
    made = changed(sound, Mutation(choice, CHOICES[choice], ()))
    assert made != sound.files
    put(root, sound.files, made)
    findings = judge(root, sound.round)
    put(root, made, sound.files)
    assert findings == []


def test_in_the_open_division_a_data_set_may_be_smaller_than_the_samples_asked_for(tmp_path: Path) -> None:
    tree, place = Tree(rounds.read("v6.1").layout, "open", "Acme"), Place("box", "resnet50", "Offline")
    files = trees.submitter(tree, {"box": "edge"}) | trees.result(tree, place, "resnet50", audits=False)
    sound, log = Sound("v6.1", files), f"{tree.performance(place)}/mlperf_log_detail.txt"
    sound.set(log, "qsl_reported_total_count", 1000)
    sound.set(log, "loaded_qsl_set", [*range(1000)])
    trees.write(tmp_path, sound.files)
    assert judge(tmp_path, "v6.1") == []


CONTROL = os.environ.get("ENGINEROOM_CONTROL_SUBMISSION", "")


@pytest.mark.skipif(not CONTROL, reason="ENGINEROOM_CONTROL_SUBMISSION names no published submission")
def test_nothing_is_found_in_a_published_submission() -> None:
    assert whole.validate(Path(CONTROL)).findings == []
