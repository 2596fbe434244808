"""The score of a whole log is computed again; of another one the report says why its accuracy was only read."""

from __future__ import annotations

import hashlib
import json
import random
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from engineroom import rounds
from engineroom.actions import validator
from engineroom.bench import trees
from engineroom.steps.submission.layout import Place, Tree
from engineroom.steps.submission.validate import accuracy, whole

ROUND, TOTAL, GOOD = "v6.1", 50_000, 38_500
PLACE = Place("box", "resnet50", "Offline", "made")
LABELS = [random.Random(1).randrange(1000) for _ in range(TOTAL)]
# How MLCommons' accuracy-imagenet.py may be told to read an answer.
FORMS: dict[str, Callable[[int], bytes]] = {
    "int64": lambda label: struct.pack("<q", label),
    "int32": lambda label: struct.pack("<i", label),
    "float32": lambda label: struct.pack("<f", label),
}


def answered(form: Callable[[int], bytes]) -> bytes:
    """Return a whole log in which GOOD answers are right, and the others three classes off."""
    named = (label if place < GOOD else (label + 3) % 1000 for place, label in enumerate(LABELS))
    lines = (
        f'{{ "seq_id" : {place}, "qsl_idx" : {place}, "data" : "{form(label).hex().upper()}" }}'
        for place, label in enumerate(named)
    )
    return ("[\n" + ",\n".join(lines) + "\n]").encode()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    files = {name: data for name, data in trees.small(ROUND).items() if "/results/" not in name or "/Offline/" in name}
    trees.write(tmp_path, files)
    return tmp_path


@pytest.fixture
def folder(tree: Path) -> Path:
    return tree / Tree(rounds.read(ROUND).layout, "closed", "Acme").accuracy(PLACE)


def put(folder: Path, log: bytes, good: int) -> None:
    """Write a log of answers and the score that somebody tells of it."""
    (folder / "mlperf_log_accuracy.json").write_bytes(log)
    told = f"accuracy={100 * good / TOTAL:.3f}%, good={good}, total={TOTAL}\nhash={hashlib.sha256(log).hexdigest()}\n"
    (folder / "accuracy.txt").write_text(told)


@pytest.mark.parametrize("form", FORMS)
def test_a_score_is_compared_with_what_the_whole_log_gives(
    form: str, tree: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accuracy, "labels", lambda model: LABELS)  # ImageNet's cannot be here
    log = answered(FORMS[form])
    put(folder, log, GOOD)
    honest = whole.validate(tree, ROUND, workers=1)
    assert honest.scores["resnet50"] == {accuracy.RESCORED: 1}
    assert "accuracy-recomputed" not in {each.rule for each in honest.findings}
    put(folder, log, GOOD + 1)
    [found] = [each for each in whole.validate(tree, ROUND, workers=1).findings if each.rule == "accuracy-recomputed"]
    assert (found.found, found.expected) == (str(GOOD + 1), f"{GOOD}, by the log and the labels")


@pytest.mark.parametrize("columns", [1000, 1001])
def test_the_highest_of_many_scores_is_the_class(columns: int) -> None:
    right = [7, 999, 0, 500]
    scores = np.zeros((4, columns), "<f4")
    scores[range(4), np.array(right) + (columns - 1000)] = 1
    scores[3] = np.roll(scores[3], 2)  # a wrong one
    assert 3 in accuracy.right_answers([row.tobytes() for row in scores], right)


def test_answers_of_several_sizes_have_no_score() -> None:
    assert accuracy.right_answers([b"\0" * 4, b"\0" * 8], [0, 0]) == set()


def test_the_report_says_why_an_accuracy_was_only_read(
    tree: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert whole.validate(tree, ROUND, workers=1).scores == {"resnet50": {accuracy.CUT_SHORT: 1}}
    monkeypatch.setattr(accuracy, "labels", lambda model: None)
    put(folder, answered(FORMS["int64"]), GOOD)
    validator.check_submission([str(tree), f"--round={ROUND}", "--json"])
    assert json.loads(capsys.readouterr().out)["accuracy"] == {"resnet50": {accuracy.NO_LABELS: 1}}
    validator.check_submission([str(tree), f"--round={ROUND}"])
    told = " ".join(capsys.readouterr().out.split())
    assert f"accuracy only read in accuracy.txt, as {accuracy.NO_LABELS}: resnet50 (1)" in told


def test_a_benchmark_that_nothing_here_can_score_is_told(tree: Path, folder: Path) -> None:
    folder.parents[1].rename(folder.parents[2] / "bert-99")
    folder = Path(str(folder).replace("resnet50", "bert-99"))
    total = rounds.read(ROUND).benchmarks.models["bert-99"].dataset_size
    lines = (f'{{ "seq_id" : {place}, "qsl_idx" : {place}, "data" : "00" }}' for place in range(total))
    (folder / "mlperf_log_accuracy.json").write_text("[\n" + ",\n".join(lines) + "\n]")
    log = folder / "mlperf_log_detail.txt"
    log.write_text(log.read_text().replace(f'total_count", "value": {TOTAL}', f'total_count", "value": {total}'))
    assert whole.validate(tree, ROUND, workers=1).scores == {"bert-99": {accuracy.NO_SCORER: 1}}
