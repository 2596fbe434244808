"""The accuracy run of a result: its scores, the log of its answers, and that it covered the data set."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
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
from engineroom.steps.submission.validate.sight import BLANKS

MODE = "AccuracyOnly"
AFTER = re.compile(r"[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
BLANK = str.maketrans("", "", " \t\"'")
COUNTS = re.compile(r"accuracy=([\d.]+)%, good=(\d{1,18}), total=(\d{1,18})")
COUNTED = {"top-1", "acc"}  # scores that are a share of the samples
ANY_HASH = re.compile(rf"^{BLANKS}hash{BLANKS}={BLANKS}(\S*)", re.MULTILINE)
PERCENT_DIGITS = 0.00051  # accuracy.txt has three places
TELLING = 10  # answers in either part of a cut log that stand in their order by no chance
WHOLE_BYTES = 24 << 20  # of a whole log whose answers are read; its hash is computed whatever its size
SHOWN_BYTES = 1 << 20  # of a whole log whose answers are kept, to be compared with those of an audit
DATA_SETS = {"resnet50": "imagenet"}  # benchmarks that can be scored again from their logs alone


class _Answer(Response):
    seq_id: int  # its place in the order of the queries


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
    metrics = case.rules.metrics
    for line in text.splitlines():
        squeezed = line.translate(BLANK)
        for name in wanted:
            texts = metrics.before.get(name, ())
            if name in metrics.first and (line[:1].isspace() or not squeezed.startswith(texts)):
                continue
            places = [squeezed.rfind(before) + len(before) for before in texts if before in squeezed]
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

RESCORED = "recomputed from the log"
CUT_SHORT, TOO_LARGE, WRONG = "the log is cut short", "the log is too large to be held", "the log is broken"
NO_SCORER = "Engineroom has no scorer for its answers"
NO_LABELS = "its labels are not here: make download_data brings them"
NO_LOG = "there is no log of its answers"


@dataclass(frozen=True)
class Answers:
    """What a log of answers gives: RESCORED, or why they are not scored again; by sample, in hex, those it shows."""

    score: str = NO_LOG
    shown: Mapping[int, str] = field(default_factory=dict)


def answers(
    case: Case, file: str, size: int, told_hash: str | None, total: int | None, findings: list[Finding]
) -> Answers:
    """Return what a log of answers gives, and note what is wrong with it.

    `total` is how many a whole run has; None for an audit's part.
    """
    limits = case.rules.limits
    if size > limits.accuracy_log_bytes:
        expected = f"at most {limits.accuracy_log_bytes:,}"
        findings.append(rulebook.NOT_CUT.at(file, found=f"{size:,} bytes", expected=expected))
    try:
        data, sha256 = _content(case, file, size)
    except (sight.Unreadable, OSError) as error:
        findings.append(rulebook.UNREADABLE.at(file, found=error))
        return Answers(WRONG)
    if CUT.replace(b"\n", b"\r\n") in data:  # cut on Windows
        data = data.replace(b"\r\n", b"\n")
    if CUT in data:
        if told_hash == sha256:
            expected = "that of the whole log"
            findings.append(rulebook.HASH_WRONG.at(file, found="the hash of the log as it was cut", expected=expected))
        shown = _cut(file, data, limits.kept_bytes, findings)
        findings += _counted(file, *shown, total, stream=case.scenario in STREAMS)
        return Answers(CUT_SHORT, {each.qsl_idx: each.data for part in shown for each in part})
    if told_hash is not None and told_hash != sha256:
        findings.append(rulebook.HASH_WRONG.at(file, found=f"a log of SHA-256 {sha256}", expected=told_hash))
    return _whole(case, file, data, total, findings) if data else Answers(TOO_LARGE)


def _content(case: Case, file: str, size: int) -> tuple[bytes, str]:
    """Return what is in a log, nothing where that is too much to be held, and its SHA-256."""
    if size <= WHOLE_BYTES:
        data = sight.content(case.root, file, WHOLE_BYTES)
        return data, hashlib.sha256(data).hexdigest()
    with sight.open_plain(case.root, file) as log:
        return b"", hashlib.file_digest(log, "sha256").hexdigest()


def _whole(case: Case, file: str, data: bytes, total: int | None, findings: list[Finding]) -> Answers:
    try:
        told = msgspec.json.decode(data, type=list[Response])
        found = {each.qsl_idx: bytes.fromhex(each.data) for each in told}
    except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
        findings.append(rulebook.ANSWERS.at(file, found=error, expected="a list of answers"))
        return Answers(WRONG)
    score = _score_again(case, file, found, total, findings)
    return Answers(score, {each.qsl_idx: each.data for each in told} if len(data) <= SHOWN_BYTES else {})


def _score_again(case: Case, file: str, found: Mapping[int, bytes], total: int | None, findings: list[Finding]) -> str:
    if total is not None and found.keys() != {*range(min(total, len(found) + 1))}:
        expected = f"{total}, each sample of the data set"
        findings.append(rulebook.ANSWERS_SAMPLES.at(file, found=f"{len(found)} samples", expected=expected))
        return WRONG
    if case.subject.model not in DATA_SETS:
        return NO_SCORER
    right = labels(case.subject.model)
    if right is None or total != len(right):
        return NO_LABELS
    findings += _rescored(case, file, [found[index] for index in range(total)], right)
    return RESCORED


def _rescored(case: Case, file: str, found: Sequence[bytes], right: Sequence[int]) -> Iterator[Finding]:
    """Compare the number of right answers that accuracy.txt tells with that in the log."""
    beside = f"{file.rpartition('/')[0]}/{ACCURACY}"
    good = right_answers(found, right)
    for said in COUNTS.finditer(sight.text(case.root, beside, []) or ""):
        if int(said[2]) not in good:
            expected = f"{max(good, default=0)}, by the log and the labels"
            yield rulebook.SCORE_OTHER.at(beside, "good", found=said[2], expected=expected)


@cache
def labels(model: str) -> Sequence[int] | None:
    """Return the right answers of a benchmark's data set, None where they are not here."""
    try:
        return Dataset(DATA_SETS[model]).labels("evaluation")
    except EngineroomError:
        return None


def right_answers(found: Sequence[bytes], right: Sequence[int]) -> set[int]:
    """Return how many answers are right, in each way in which they can be read; none where they have several sizes.

    A class is one number, of a type that the log does not tell (accuracy-imagenet.py, --dtype), or the place of the
    highest score, of which the first may be the background's.
    """
    import numpy as np

    size, count = len(found[0]), len(found)
    if {*map(len, found)} != {size} or not size or size % 4:
        return set()
    data, wanted, good = b"".join(found), np.array(right), set[int]()
    for dtype in ("<i8",) if size == 8 else ("<i4", "<f4") if size == 4 else ("<f4",):
        values = np.frombuffer(data, dtype).reshape(count, -1)
        if values.shape[1] > 1:
            named = values.argmax(axis=1)
            good |= {int((named - background == wanted).sum()) for background in (0, 1)}
        else:
            with np.errstate(invalid="ignore"):
                good.add(int((values[:, 0].astype(np.int64) == wanted).sum()))
    return good


def _cut(file: str, data: bytes, kept: int, findings: list[Finding]) -> tuple[list[_Answer], list[_Answer]]:
    """Return the answers before and after the cut, and note what is wrong with either part."""
    begin, _, end = data.partition(CUT)
    if len(begin) != kept or len(end) != kept:
        found = f"{len(begin):,} and {len(end):,} bytes"
        findings.append(rulebook.ANSWERS.at(file, found=found, expected=f"the first and the last {kept:,} bytes"))
    if not begin.startswith(b"["):
        findings.append(rulebook.ANSWERS.at(file, found="the beginning of another file", expected="["))
    if not end.rstrip().endswith(b"]"):
        findings.append(rulebook.ANSWERS.at(file, found="the end of another file", expected="]"))
    # Of the lines beside the cut a part may be missing; the brackets stand in lines of their own.
    first = _part(file, begin[begin.find(b"\n") + 1 : begin.rfind(b"\n") + 1], findings)
    return first, _part(file, end[end.find(b"\n") + 1 :], findings)


def _part(file: str, lines: bytes, findings: list[Finding]) -> list[_Answer]:
    """Return the answers in whole lines, and note the first line that is none."""
    try:
        return msgspec.json.decode(b"[" + lines.rstrip().rstrip(b"],\r\n\t ") + b"]", type=list[_Answer])
    except (ValueError, RecursionError):
        pass
    found: list[_Answer] = []
    for line in lines.splitlines():
        line = line.strip().rstrip(b",")
        if line in (b"", b"]"):
            continue
        try:
            found.append(msgspec.json.decode(line, type=_Answer))
        except (ValueError, RecursionError):
            findings.append(rulebook.ANSWERS.at(file, found=line[:60].decode("utf-8", "replace"), expected="an answer"))
            break
    return found


def _counted(
    file: str, first: list[_Answer], last: list[_Answer], total: int | None, *, stream: bool
) -> Iterator[Finding]:
    """Answers stand in the order in which they came, in a stream mostly that of the queries: so the last is known.

    Elsewhere batches overtake each other.
    """
    shown = [each.seq_id for each in (*first, *last)]
    if len({*shown}) != len(shown):
        yield rulebook.ANSWERS_SAMPLES.at(file, found="an answer that stands there twice", expected="each answer once")
    if total is None:
        return
    beyond = [each.qsl_idx for each in (*first, *last) if not 0 <= each.qsl_idx < total]
    if beyond:
        expected = f"samples below {total}"
        yield rulebook.ANSWERS_SAMPLES.at(file, found=f"sample {beyond[0]}", expected=expected)
    steps = {after.seq_id - before.seq_id for before, after in (*pairwise(first), *pairwise(last))}
    counted = stream and min(len(first), len(last)) >= TELLING and first[0].seq_id == 0 and steps == {1}
    if counted and last[-1].seq_id + 1 < total:
        found = f"answer {last[-1].seq_id} last"
        yield rulebook.ANSWERS_SAMPLES.at(file, found=found, expected=f"answer {total - 1}, of the last sample")
