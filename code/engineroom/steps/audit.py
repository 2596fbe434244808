"""Audits: MLPerf's compliance tests TEST01 and TEST04, verified from LoadGen's logs, in the files that they ask for.

What they are for, their settings and their bands stand in the file of the round. The verdict is that of MLCommons'
own scripts (mlcommons/inference, compliance/) but for three things, all stricter: answers are compared as a whole and
not by their first element, an answer to a sample that the accuracy run has not is a difference, and LoadGen must say
that it used the settings of the audit.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engineroom import responses
from engineroom.errors import RequestError, did_you_mean
from engineroom.paths import ensure_folder, write_beside, write_text
from engineroom.rounds import FAIL, PASS, VERIFY_ACCURACY, VERIFY_PERFORMANCE, AuditTest, Round, near
from engineroom.terms import METRICS, Scenario, TensorSpec

TEST01, TEST04 = "TEST01", "TEST04"
# How often each may be run until it passes. A busy machine fails the band now and then; answers that differ are final.
TRIES = {TEST01: 2, TEST04: 3}
SERVER_RETRY = 0.92  # of the target rate, for the second try of TEST01: still within its 10%
CONFIG = "audit.config"
STREAMS = (Scenario.SINGLE_STREAM, Scenario.MULTI_STREAM)
LOGS = ("mlperf_log_detail.txt", "mlperf_log_summary.txt")
VALIDITY, LATENCY = "result_validity", "effective_target_latency_ns"


def chosen(rules: Round, benchmark: str, asked: Sequence[str]) -> list[str]:
    """Return the audits to run: those that were asked for, else those that the round asks for.

    Raises RequestError for one that is not known or that cannot be run here, or if the round asks for none.
    """
    known = rules.audits.tests
    for name in asked:
        if name not in known:
            mend = did_you_mean(name, list(known))
            raise RequestError(f"{rules.round} has no audit {name}", where="--audit_test", mend=mend)
    names = asked or rules.audits.needed(benchmark)
    if not names:
        raise RequestError(
            f"{rules.round} asks for no audit of {benchmark}",
            mend=f"name one to run it all the same: --audit_test={TEST01}",
        )
    for name in names:
        if name not in TRIES:
            mend = f"it has {' and '.join(TRIES)}"
            what = f"{name} is not in this version of Engineroom: it checks {known[name].checks}"
            raise RequestError(what, where="--audit_test" if asked else benchmark, mend=mend)
    return list(dict.fromkeys(names))


@dataclass(frozen=True)
class Answers:
    """The answers of an audit beside those of the accuracy run; counts are named as MLCommons' verifier names them.

    `audited` and `expected` hold the first answer to each sample that both runs have.
    """

    num_acc_log_entries: int
    num_acc_log_duplicate_keys: int
    num_acc_log_data_mismatch: int
    num_perf_log_entries: int
    num_perf_log_qsl_idx_match: int
    num_perf_log_data_mismatch: int
    num_missing_qsl_idxs: int
    audited: Mapping[int, bytes] = field(repr=False)
    expected: Mapping[int, bytes] = field(repr=False)

    @property
    def same(self) -> bool:
        """Whether there are answers to compare, and all are the accuracy run's."""
        return self.num_perf_log_qsl_idx_match > 0 and not self.different

    @property
    def different(self) -> int:
        """How many answers are not the accuracy run's: others, or to samples that it has not."""
        return self.num_perf_log_data_mismatch + self.num_missing_qsl_idxs

    def lines(self) -> list[str]:
        """Return verify_accuracy.txt."""
        names = [name for name in self.__dataclass_fields__ if name.startswith("num_")]
        return [*(f"{name} = {getattr(self, name)}" for name in names), PASS if self.same else FAIL]


def compare(accuracy_log: Path, audit_log: Path, outputs: Sequence[TensorSpec]) -> Answers:
    """Compare the answers by sample, each tensor of `outputs` in its type. Raises EngineError if a log is not whole."""
    expected: dict[int, bytes] = {}
    entries = duplicates = contradictions = 0
    for index, response in responses.read(accuracy_log):
        entries += 1
        if index in expected:  # LoadGen pads the queries of MultiStream with samples that it asks for twice
            duplicates += 1
            contradictions += not _equal(expected[index], response, outputs)
        else:
            expected[index] = response
    audited: dict[int, bytes] = {}
    logged = matching = different = 0
    for index, response in responses.read(audit_log):
        logged += 1
        if index in expected:
            matching += 1
            different += not _equal(expected[index], response, outputs)
            audited.setdefault(index, response)
    return Answers(
        num_acc_log_entries=entries,
        num_acc_log_duplicate_keys=duplicates,
        num_acc_log_data_mismatch=contradictions,
        num_perf_log_entries=logged,
        num_perf_log_qsl_idx_match=matching,
        num_perf_log_data_mismatch=different,
        num_missing_qsl_idxs=logged - matching,
        audited=audited,
        expected={index: expected[index] for index in audited},
    )


def _equal(one: bytes, other: bytes, outputs: Iterable[TensorSpec]) -> bool:
    if one == other:
        return True
    if len(one) != len(other):
        return False
    import numpy as np  # other bytes may be the same numbers: 0 and -0

    at = 0
    for spec in outputs:
        first, second = (np.frombuffer(each[at : at + spec.bytes], spec.dtype) for each in (one, other))
        if not np.array_equal(first, second):
            return False
        at += spec.bytes
    return at == len(one)


@dataclass(frozen=True)
class Scores:
    """The scores of the performance run and of the audit, the bounds of the latter, and why it does not pass."""

    reference: float
    audit: float
    lowest: float | None
    highest: float
    reasons: tuple[str, ...]


def score(test: AuditTest, scenario: Scenario, reference: Mapping[str, Any], audit: Mapping[str, Any]) -> Scores:
    """Compare LoadGen's scores in the detail logs of the performance run and of the audit."""
    assert test.band
    key, band = METRICS[scenario].key, test.band
    before, now = (band.score_of(scenario, float(log.get(key, 0))) for log in (reference, audit))
    lowest, highest = band.bounds(scenario, before)
    reasons = [f"LoadGen calls {whose} INVALID" for whose, log in _named(reference, audit) if not _valid(log)]
    reasons += [f"LoadGen's log of {whose} holds errors" for whose, log in _named(reference, audit) if log["errors"]]
    if scenario is Scenario.SERVER and reference.get(LATENCY) != audit.get(LATENCY):
        reasons.append("the latency limits of both runs differ")
    if not (lowest or 0.0) <= now <= highest:
        bounds = f"at most {highest:.6g}" if lowest is None else f"{lowest:.6g} to {highest:.6g}"
        reasons.append(f"the score {now:.6g} is not {bounds}: the performance run has {before:.6g}")
    return Scores(before, now, lowest, highest, tuple(reasons))


def _named(reference: Mapping[str, Any], audit: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    return [("the performance run", reference), ("the audit", audit)]


def _valid(log: Mapping[str, Any]) -> bool:
    return log.get(VALIDITY) == "VALID"


@dataclass(frozen=True)
class Fallback:
    """The scores over the audit's samples, where its answers are others than the accuracy run's.

    The lines are those of a scorer's output. The verdict is the rule's: how far the two may be apart, in percent.
    """

    baseline: float
    compliance: float
    baseline_line: str
    compliance_line: str
    delta_percent: float

    @property
    def holds(self) -> bool:
        """Whether the scores are near enough."""
        return near(self.baseline, self.compliance, self.delta_percent)

    @property
    def words(self) -> str:
        """Return both scores in words."""
        return f"{self.compliance:.3f} over the audit's samples, {self.baseline:.3f} in the accuracy run"


def write(folder: Path, run: Path, scores: Scores, answers: Answers | None, files: Mapping[str, str]) -> None:
    """Lay out in `folder` what a submission wants of the audit in `run`; `files` are more, each of one line."""
    ensure_folder(folder)
    words = ("Reference score", "Test score") if answers else ("reference score", "test score")
    verdict = "; ".join([FAIL + ": " + scores.reasons[0], *scores.reasons[1:]]) if scores.reasons else PASS
    _write_lines(
        folder / VERIFY_PERFORMANCE, [f"{words[0]} = {scores.reference}", f"{words[1]} = {scores.audit}", verdict]
    )
    for name in LOGS:
        _copy(run / name, folder / "performance" / "run_1")
    if answers is None:
        return
    _write_lines(folder / VERIFY_ACCURACY, answers.lines())
    _copy(run / responses.LOG, folder / "accuracy")
    for name, line in files.items():
        _write_lines(folder / name, [line])


def _copy(file: Path, folder: Path) -> None:
    with write_beside(ensure_folder(folder) / file.name) as beside:
        shutil.copyfile(file, beside)


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    write_text(path, "".join(f"{line}\n" for line in lines))
