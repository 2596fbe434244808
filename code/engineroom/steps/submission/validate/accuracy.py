"""The accuracy run of a result: its scores, the log of its answers, and that it covered the data set."""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import pairwise

import msgspec

from engineroom.datasets import Dataset
from engineroom.errors import EngineroomError
from engineroom.responses import Response
from engineroom.steps.submission.layout import ACCURACY
from engineroom.steps.submission.truncate import CUT, HASH
from engineroom.steps.submission.validate import detail, rulebook, sight, summary
from engineroom.steps.submission.validate.case import STREAMS, Case
from engineroom.steps.submission.validate.findings import Finding
from engineroom.steps.submission.validate.loadgen import Log, Summary

MODE = "AccuracyOnly"
AFTER = re.compile(r"[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
BLANK = str.maketrans("", "", " \t\"'")
COUNTS = re.compile(r"accuracy=([\d.]+)%, good=(\d{1,18}), total=(\d{1,18})")
COUNTED = {"top-1", "acc"}  # scores that are a share of the samples
ANY_HASH = re.compile(r"^\s*hash\s*=\s*(\S*)", re.MULTILINE)
ENTRY = re.compile(rb'\{ ?"seq_id" ?: ?(\d{1,18}), ?"qsl_idx" ?: ?(\d{1,18}), ?"data" ?: ?"([0-9A-Fa-f]*)"')
PERCENT_DIGITS = 0.00051  # accuracy.txt has three places
TELLING = 10  # answers in either part of a cut log that stand in their order by no chance
WHOLE_BYTES = 24 << 20  # of a whole log whose answers are read; its hash is computed whatever its size
DATA_SETS = {"resnet50": "imagenet"}  # benchmarks that can be scored again from their logs alone
CLASSES = 1000


def check(case: Case, log: Log, told: Summary | None) -> Iterator[Finding]:
    """Yield what is wrong with LoadGen's logs of the accuracy run."""
    yield from detail.check(case, log, MODE)
    if told:
        yield from summary.check(told, log)
    if not log.values:
        return
    scenario = log.get("effective_scenario")
    if scenario != case.log_scenario() and not case.may_stand(scenario):
        yield log.at(rulebook.SCENARIO_LOG, "effective_scenario", expected=case.log_scenario())
    if model := case.model:
        wanted = model.accuracy_samples(case.scenario)
        counted = "effective_accuracy_sample_count"
        key = counted if counted in log.values else "qsl_reported_total_count"
        if log.number(key) != wanted:
            yield log.at(rulebook.DATA_SET, key, expected=f"{wanted:,}, the data set")


def samples(case: Case, log: Log | None) -> int | None:
    """Return how many answers the accuracy run must have: LoadGen's own count, else the round's."""
    for key in ("effective_accuracy_sample_count", "qsl_reported_total_count"):
        if log and (found := log.number(key)) is not None:
            return int(found)
    return case.model.accuracy_samples(case.scenario) if case.model else None


# accuracy.txt


def scores(case: Case, text: str) -> dict[str, list[float]]:
    """Return every number that a text tells of each of the benchmark's metrics."""
    wanted = case.model.accuracy if case.model else {}
    found: dict[str, list[float]] = {name: [] for name in wanted}
    for line in text.splitlines():
        squeezed = line.translate(BLANK)
        for name in wanted:
            places = [
                squeezed.rfind(before) + len(before)
                for before in case.rules.metrics.before.get(name, ())
                if before in squeezed
            ]
            if places and (number := AFTER.match(squeezed, max(places))):
                found[name].append(float(number[0]))
    return found


def score_file(case: Case, file: str, text: str, total: int | None) -> Iterator[Finding]:
    """Yield what is wrong with accuracy.txt, but for the hash."""
    gates = case.model.accuracy if case.model else {}
    for name, values in scores(case, text).items():
        if not values:
            yield rulebook.SCORE_MISSING.at(file, name, found="no number", expected=f"the {name}")
            continue
        if len({*values}) > 1:
            yield rulebook.SCORE_TWICE.at(
                file, name, found=", ".join(f"{each:g}" for each in values), expected="one score"
            )
        least, most = gates[name].least_in(case.scenario), gates[name].most
        for value in values:
            if case.closed and least is not None and value < least:
                yield rulebook.SCORE_LOW.at(file, name, found=value, expected=f"at least {least:.10g}")
            if case.closed and most is not None and value > most:
                yield rulebook.SCORE_LOW.at(file, name, found=value, expected=f"at most {most:.10g}")
    for told in COUNTS.finditer(text):
        good, of = int(told[2]), int(told[3])
        if good > of:
            yield rulebook.SCORE_TWICE.at(file, "good", found=good, expected=f"at most {of}, the total")
        if not of or abs(100 * good / of - float(told[1])) > PERCENT_DIGITS:
            expected = f"{100 * good / max(of, 1):.3f}%"
            yield rulebook.SCORE_TWICE.at(file, "accuracy", found=told[0], expected=expected)
        if total is not None and of != total and COUNTED & gates.keys():
            yield rulebook.DATA_SET.at(file, "total", found=of, expected=f"{total}, as LoadGen's log has it")


def hash_in(file: str, text: str) -> tuple[str | None, list[Finding]]:
    """Return the hash that a text tells, and what is wrong with it."""
    told = ANY_HASH.findall(text)
    if not told:
        return None, [rulebook.HASH_MISSING.at(file, found="no hash", expected="hash=<SHA-256 of the whole log>")]
    findings = []
    if len({*told}) > 1:
        findings.append(rulebook.HASH_WRONG.at(file, "hash", found=", ".join(told), expected="one hash"))
    good = HASH.findall(text)
    if len(good) != len(told):
        findings.append(rulebook.HASH_WRONG.at(file, "hash", found=told[0], expected="64 hexadecimal digits"))
        return None, findings
    return good[-1], findings


# The log of the answers


def answers(case: Case, file: str, size: int, told_hash: str | None, total: int | None) -> Iterator[Finding]:
    """Yield what is wrong with a log of answers. `total`: how many a whole run has; None for an audit's part."""
    limits = case.rules.limits
    if size > limits.accuracy_log_bytes:
        yield rulebook.NOT_CUT.at(file, found=f"{size:,} bytes", expected=f"at most {limits.accuracy_log_bytes:,}")
    try:
        with sight.open_plain(case.root, file) as log:
            sha256 = hashlib.file_digest(log, "sha256").hexdigest()
        data = sight.content(case.root, file, WHOLE_BYTES) if size <= WHOLE_BYTES else b""
    except (sight.Unreadable, OSError) as error:
        yield rulebook.UNREADABLE.at(file, found=error)
        return
    if CUT.replace(b"\n", b"\r\n") in data:  # cut on Windows
        data = data.replace(b"\r\n", b"\n")
    if CUT in data:
        if told_hash == sha256:
            expected = "that of the whole log"
            yield rulebook.HASH_WRONG.at(file, found="the hash of the log as it was cut", expected=expected)
        yield from _cut(file, data, limits.kept_bytes, total, stream=case.scenario in STREAMS)
        return
    if told_hash is not None and told_hash != sha256:
        yield rulebook.HASH_WRONG.at(file, found=f"a log of SHA-256 {sha256}", expected=told_hash)
    if data:
        yield from _whole(case, file, data, total)


def _whole(case: Case, file: str, data: bytes, total: int | None) -> Iterator[Finding]:
    try:
        found = {each.qsl_idx: bytes.fromhex(each.data) for each in msgspec.json.decode(data, type=list[Response])}
    except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
        yield rulebook.ANSWERS.at(file, found=error, expected="a list of answers")
        return
    if total is None:
        return
    if found.keys() != {*range(min(total, len(found) + 1))}:
        expected = f"{total}, each sample of the data set"
        yield rulebook.ANSWERS_SAMPLES.at(file, found=f"{len(found)} samples", expected=expected)
        return
    yield from _rescored(case, file, found)


def _rescored(case: Case, file: str, found: Mapping[int, bytes]) -> Iterator[Finding]:
    """Score a whole log again, where the right answers are here."""
    right = labels(case.subject.model)
    beside = f"{file.rpartition('/')[0]}/{ACCURACY}"
    if right is None or len(right) != len(found):
        return
    good = sum(class_of(answer) == right[index] for index, answer in found.items())
    told = sight.text(case.root, beside, [])
    for said in COUNTS.finditer(told or ""):
        if int(said[2]) != good:
            yield rulebook.SCORE_OTHER.at(beside, "good", found=said[2], expected=f"{good}, by the log and the labels")


@cache
def labels(model: str) -> Sequence[int] | None:
    """Return the right answers of a benchmark's data set, None where they are not here."""
    if model not in DATA_SETS:
        return None
    try:
        return Dataset(DATA_SETS[model]).labels("evaluation")
    except EngineroomError:
        return None


def class_of(answer: bytes) -> int:
    """Return the class that an answer names: one number, or the place of the highest of 1000 or 1001 values."""
    if len(answer) == 8:
        return int.from_bytes(answer, "little")
    values = struct.unpack(f"<{len(answer) // 4}f", answer[: len(answer) // 4 * 4])
    if len(values) == 1:
        return int(values[0]) if 0 <= values[0] < CLASSES + 1 else -1
    best = max(range(len(values)), key=values.__getitem__, default=-1)
    return best - (len(values) - CLASSES if len(values) > CLASSES else 0)  # the first of 1001 is the background


def _cut(file: str, data: bytes, kept: int, total: int | None, *, stream: bool) -> Iterator[Finding]:
    begin, _, end = data.partition(CUT)
    if len(begin) != kept or len(end) != kept:
        found = f"{len(begin):,} and {len(end):,} bytes"
        yield rulebook.ANSWERS.at(file, found=found, expected=f"the first and the last {kept:,} bytes")
    if not begin.startswith(b"["):
        yield rulebook.ANSWERS.at(file, found="the beginning of another file", expected="[")
    if not end.rstrip().endswith(b"]"):
        yield rulebook.ANSWERS.at(file, found="the end of another file", expected="]")
    yield from _lines(file, begin, end)
    first, last = visible(begin), visible(end)
    yield from _counted(file, first, last, total, stream=stream)


def _lines(file: str, begin: bytes, end: bytes) -> Iterator[Finding]:
    """Each line between the brackets and the cut is one answer."""
    whole = [*begin.split(b"\n")[1:-1], *end.split(b"\n")[1:]]
    for line in whole:
        line = line.strip().rstrip(b",")
        if line in (b"", b"]"):
            continue
        try:
            msgspec.json.decode(line, type=Response)
        except (ValueError, RecursionError):
            yield rulebook.ANSWERS.at(file, found=line[:60].decode("utf-8", "replace"), expected="an answer")
            return


def visible(data: bytes) -> list[tuple[int, int, bytes]]:
    """Return the whole answers in a part of a log: place, sample, response in hex."""
    return [(int(seq), int(index), answer) for seq, index, answer in ENTRY.findall(data)]


def _counted(
    file: str,
    first: list[tuple[int, int, bytes]],
    last: list[tuple[int, int, bytes]],
    total: int | None,
    *,
    stream: bool,
) -> Iterator[Finding]:
    """Answers stand in the order in which they came, in a stream mostly that of the queries: so the last is known.

    Elsewhere batches overtake each other.
    """
    shown = [seq for seq, *_ in (*first, *last)]
    if len({*shown}) != len(shown):
        yield rulebook.ANSWERS_SAMPLES.at(file, found="an answer that stands there twice", expected="each answer once")
    if total is None:
        return
    beyond = [index for _, index, _ in (*first, *last) if index >= total]
    if beyond:
        expected = f"samples below {total}"
        yield rulebook.ANSWERS_SAMPLES.at(file, found=f"sample {beyond[0]}", expected=expected)
    steps = [after - before for (before, *_), (after, *_) in (*pairwise(first), *pairwise(last))]
    counted = stream and min(len(first), len(last)) >= TELLING and first[0][0] == 0 and {*steps} == {1}
    if counted and last[-1][0] + 1 < total:
        found = f"answer {last[-1][0]} last"
        yield rulebook.ANSWERS_SAMPLES.at(file, found=found, expected=f"answer {total - 1}, of the last sample")
