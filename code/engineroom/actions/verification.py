"""Verifies one audit: reads the logs of the runs that it is compared with, judges its own, and files both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from engineroom import responses, rounds, runs
from engineroom.benchmarks import Benchmark
from engineroom.config import RunConfig
from engineroom.errors import RequestError
from engineroom.paths import ROOT
from engineroom.rounds import AuditTest
from engineroom.runs import AuditResult
from engineroom.steps import accuracy, audit, harness
from engineroom.steps.audit import Answers, Fallback


class Audit(msgspec.Struct, frozen=True, kw_only=True):
    """What harness.json says of an audit: the test, LoadGen's settings, and the folders of the runs that it follows.

    `accuracy_run` is empty where the test compares no answers.
    """

    test: str
    settings: dict[str, int]
    reference: str
    accuracy_run: str = ""


@dataclass(frozen=True)
class Compared:
    """An audit with the logs of the performance run, read before it begins: it may take long."""

    about: Audit
    reference_log: Mapping[str, Any]


def opened(about: Mapping[str, Any]) -> Compared:
    """Read what an audit is compared with. Raises RequestError if a run is not there, EngineError for a damaged log."""
    found = msgspec.convert(about, Audit)
    for name in filter(None, (found.reference, found.accuracy_run)):
        if runs.read_result(ROOT / name) is None:
            raise RequestError("is no finished run any more", where=name, mend="make run_audit_harness runs it again")
    return Compared(found, harness.read_log(ROOT / found.reference))


def verify(
    folder: Path, benchmark: Benchmark, config: RunConfig, compared: Compared, log: Mapping[str, Any]
) -> AuditResult:
    """Return the verdict on the audit in `folder`, whose detail log is `log`; write the files of a submission."""
    about, rules = compared.about, rounds.read(config.round)
    test = rules.audits.tests[about.test]
    scores = audit.score(test, config.scenario, compared.reference_log, log)
    reasons = [*_settings_not_used(about, log), *scores.reasons]
    scores = audit.Scores(scores.reference, scores.audit, scores.lowest, scores.highest, tuple(reasons))
    answers = fallback = None
    files: dict[str, str] = {}
    if about.accuracy_run:
        answers = audit.compare(ROOT / about.accuracy_run / responses.LOG, folder / responses.LOG, benchmark.outputs)
        if answers.audited:
            fallback = _fallback(benchmark, config, ROOT / about.accuracy_run, answers)
            files = _files(test, answers, fallback)
    differs = answers is not None and not answers.same
    wrong = _on_answers(answers, fallback) if answers and differs else []
    reasons += wrong
    audit.write(folder / about.test, folder, scores, answers, files)
    return AuditResult(
        test=about.test,
        round=rules.round,
        reference=about.reference,
        accuracy_run=about.accuracy_run,
        passed=not reasons,
        reasons=tuple(reasons),
        reference_score=scores.reference,
        score=scores.audit,
        lowest=scores.lowest,
        highest=scores.highest,
        compared=answers.num_perf_log_entries if answers else 0,
        different=answers.different if answers else 0,
        answers_agree=not wrong,
        baseline=fallback.baseline if fallback and differs else None,
        compliance=fallback.compliance if fallback and differs else None,
    )


def _settings_not_used(about: Audit, log: Mapping[str, Any]) -> list[str]:
    """Name the settings of the audit that LoadGen does not say it used. The mode has another name in its log."""
    names = [name for name in about.settings if name != "mode" and f"effective_{name}" in log]
    wrong = [name for name in names if int(log[f"effective_{name}"]) != about.settings[name]]
    return [f"LoadGen did not use the audit's {' and '.join(wrong)}"] if wrong else []


def _fallback(benchmark: Benchmark, config: RunConfig, accuracy_run: Path, answers: Answers) -> Fallback:
    labels = accuracy.read_labels(accuracy_run)
    baseline = accuracy.score_some(benchmark, answers.expected, labels)
    compliance = accuracy.score_some(benchmark, answers.audited, labels)
    return Fallback(
        baseline=baseline.value,
        compliance=compliance.value,
        baseline_line=accuracy.words(baseline),
        compliance_line=accuracy.words(compliance),
        delta_percent=_delta_percent(benchmark, config),
    )


def _delta_percent(benchmark: Benchmark, config: RunConfig) -> float:
    """Return the round's delta; of a benchmark that it has not, by the same rule: 1% of a target of 99%."""
    model = rounds.read(config.round).benchmarks.models.get(benchmark.name)
    gate = model.accuracy.get(benchmark.accuracy_metric) if model else None
    ours = gate.audit_delta_percent if gate else None
    return round(100 * (1 - benchmark.accuracy_target_ratio), 9) if ours is None else ours


def _files(test: AuditTest, answers: Answers, fallback: Fallback) -> dict[str, str]:
    files = {f"accuracy/{accuracy.ACCURACY}": fallback.compliance_line}
    if not answers.same:
        files |= dict(zip(test.fallback_files, (fallback.baseline_line, fallback.compliance_line), strict=True))
    return files


def _on_answers(answers: Answers, fallback: Fallback | None) -> list[str]:
    """Say why answers that differ make the audit fail, if they do."""
    if fallback is None:
        return ["no answer of the audit can be compared"]
    if answers.num_missing_qsl_idxs:
        return [f"{answers.num_missing_qsl_idxs:,} answers are to samples that the accuracy run has not"]
    if fallback.holds:
        return []
    return [
        f"{answers.different:,} of {answers.num_perf_log_entries:,} answers are not the accuracy run's, and the scores "
        f"are more than {fallback.delta_percent:g}% apart: {fallback.words}"
    ]
