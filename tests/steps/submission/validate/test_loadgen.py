"""A long log is read faster than line by line, and never otherwise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from engineroom import rounds
from engineroom.bench import trees
from engineroom.steps.submission.validate import loadgen, whole
from engineroom.steps.submission.validate.loadgen import Log

BYTES = 200_000
FILE = "log"


@pytest.fixture(scope="module")
def long_log() -> bytes:
    run = trees.Run(rounds.read("v6.1"), "resnet50", "Offline")
    return trees.detail(trees.values(run), extra_bytes=BYTES)


def put(data: bytes, change: Callable[[bytes], bytes], *, first: bool) -> bytes:
    """Put the samples of the last set, changed, in the place of those of the first or of the last one."""
    begin = b'"loaded_qsl_set", "value": ['
    numbers = data.rpartition(begin)[2].partition(b"]")[0]
    before, _, rest = data.partition(begin) if first else data.rpartition(begin)
    return before + begin + change(numbers) + b"]" + rest.partition(b"]")[2]


# What a list of samples holds instead, and whether that is JSON.
LISTS: dict[str, tuple[Callable[[bytes], bytes], bool]] = {
    "as it is": (lambda numbers: numbers, True),
    "shorter": (lambda numbers: numbers[:5000].rpartition(b",")[0], True),
    "too short to be cut out": (lambda numbers: b"1,2,3", True),
    "nothing": (lambda numbers: b"", True),
    "a number below 0": (lambda numbers: numbers + b",-1", True),
    "a fraction": (lambda numbers: numbers + b",1.5", True),
    "0 alone": (lambda numbers: b"0," + numbers + b",0,10", True),
    "a blank": (lambda numbers: numbers + b", 1", True),
    "a text": (lambda numbers: numbers + b',"1"', True),
    "a number missing": (lambda numbers: numbers.replace(b",", b",,", 1), False),
    "the last missing": (lambda numbers: numbers + b",", False),
    "the first missing": (lambda numbers: b"," + numbers, False),
    "a zero before a number": (lambda numbers: numbers + b",07", False),
    "a letter": (lambda numbers: numbers.replace(b",", b"x,", 1), False),
    "a list that begins": (lambda numbers: numbers + b",[1", False),
    "no end": (lambda numbers: numbers + b'"', False),
    "what comes before digits": (lambda numbers: numbers + b",/", False),
    "what comes after digits": (lambda numbers: numbers + b",:", False),
}


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("name", LISTS)
def test_a_list_of_samples_is_judged_as_it_is_line_by_line(
    name: str, first: bool, long_log: bytes, tmp_path: Path
) -> None:
    change, sound = LISTS[name]
    assert long_log.count(b'"loaded_qsl_set"') > 10
    (tmp_path / FILE).write_bytes(put(long_log, change, first=first))
    log = loadgen.read(tmp_path, FILE)
    assert log == loadgen._read_lines(tmp_path, Log(FILE))
    assert [each.rule for each in log.findings] == ([] if sound else ["log-line-broken"])
    if name == "as it is":
        assert log.lengths["loaded_qsl_set"] == 1024


@pytest.mark.parametrize("name", ["is_error", "is_warning"])
def test_flags_of_a_long_log_are_counted(name: str, long_log: bytes, tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(long_log.replace(f'"{name}": false'.encode(), f'"{name}": true'.encode(), 7))
    log = loadgen.read(tmp_path, FILE)
    assert log == loadgen._read_lines(tmp_path, Log(FILE))
    assert (log.num_errors, log.num_warnings) == ((7, 0) if name == "is_error" else (0, 7))


def test_the_made_up_round_has_long_logs_whose_lines_all_differ_and_nothing_wrong(tmp_path: Path) -> None:
    list(trees.many(tmp_path, "v6.1", 3, BYTES))
    logs = [each for each in tmp_path.rglob("mlperf_log_detail.txt") if "TEST" not in str(each)]
    assert len(logs) == 6
    for log in logs:
        lines = log.read_text().splitlines()
        assert log.stat().st_size > BYTES
        assert len({*lines}) == len(lines)
    assert whole.validate(tmp_path, workers=1).findings == []
