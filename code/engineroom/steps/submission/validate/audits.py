"""The audits of a result, judged from their own logs: what the verdicts say is compared with that."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from os.path import commonprefix

from engineroom.rounds import FAIL, PASS, VERIFY_ACCURACY, VERIFY_PERFORMANCE, AuditTest, near
from engineroom.steps.submission.layout import ACCURACY, ACCURACY_LOG, DETAIL_LOG, PERFORMANCE_RUN, SUMMARY_LOG
from engineroom.steps.submission.validate import accuracy, detail, loadgen, performance, rulebook, sight, summary
from engineroom.steps.submission.validate.accuracy import Answers
from engineroom.steps.submission.validate.case import Case
from engineroom.steps.submission.validate.findings import Finding
from engineroom.steps.submission.validate.loadgen import Log
from engineroom.steps.submission.validate.sight import BLANKS
from engineroom.terms import Scenario

SCORE = re.compile(
    rf"^{BLANKS}(reference|test) score{BLANKS}={BLANKS}([-+.\deE]+){BLANKS}$", re.IGNORECASE | re.MULTILINE
)
COUNT = re.compile(rf"^{BLANKS}(num_\w+){BLANKS}={BLANKS}(\d{{1,18}}){BLANKS}$", re.MULTILINE)
MODES = {2: "PerformanceOnly", 1: "AccuracyOnly"}
OF_LENGTH = ("min_query_count", "min_duration")  # LoadGen may take more of them than an audit asks for
TOKEN_LINES = {
    "First token check pass": ("True", "Skipped"),
    "EOS check pass": ("True",),
    "Sample length check pass": ("True",),
}
DIGITS = 1e-4  # verify_performance.txt rounds as Python or as the log does


@dataclass(frozen=True)
class Audited:
    """What an audit is held against: the logs of the performance and of the accuracy run, and the latter's answers."""

    performance: Log | None
    accuracy: Log | None
    answers: Answers


def check(case: Case, test: str, files: Mapping[str, int], audited: Audited) -> Iterator[Finding]:
    """Yield what is wrong with an audit. `files` are its folder's."""
    audit, folder = case.rules.audits.tests[test], str(case.tree.audit(case.place, test))
    yield from sight.lacking(folder, files, audit.required_files)
    log = None
    if files.get(logged := (PERFORMANCE_RUN / DETAIL_LOG).as_posix()):
        log, told = loadgen.read(case.root, f"{folder}/{logged}"), None
        if files.get(name := (PERFORMANCE_RUN / SUMMARY_LOG).as_posix()):
            told = loadgen.read_summary(case.root, f"{folder}/{name}")
        yield from _log(case, audit, log, told, audited.performance)
    if files.get(VERIFY_PERFORMANCE):
        yield from _performance(case, audit, f"{folder}/{VERIFY_PERFORMANCE}", log, audited.performance)
    passed = False
    if files.get(VERIFY_ACCURACY):
        passed = yield from _accuracy(case, test, folder, files, audited.accuracy)
    if files.get(name := "verify_output_len.txt"):
        yield from _passed(case, f"{folder}/{name}")
    if test == "TEST01":
        yield from _answers(case, folder, files, audited.answers if passed else None)


def _log(
    case: Case, audit: AuditTest, log: Log, told: loadgen.Summary | None, reference: Log | None
) -> Iterator[Finding]:
    if audit.band:
        yield from performance.test(case, log, told)
        if "min_duration" not in audit.of(case.subject.model, str(log.get("effective_scenario"))):
            yield from performance.duration(case, log)
    else:
        yield from detail.check(case, log, MODES.get(audit.settings.get("mode", 2), "PerformanceOnly"))
        if told:
            yield from summary.check(told, log)
    if not log.values:
        return
    yield from _settings(case, audit, log)
    if not reference or not reference.values:
        return
    ran = reference.get("effective_scenario")
    if log.get("effective_scenario") != ran:
        yield log.at(rulebook.SCENARIO_LOG, "effective_scenario", expected=f"{ran}, as the performance run")
    yield from detail.beside(log, reference)
    if audit.band and ran == "Server":
        key = "effective_target_latency_ns"
        if log.get(key) != reference.get(key):
            yield log.at(rulebook.AUDIT_SETTINGS, key, expected=f"{reference.get(key)}, as the performance run")
    if audit.band:
        yield from _band(case, audit, log, reference)


def _settings(case: Case, audit: AuditTest, log: Log) -> Iterator[Finding]:
    own = audit.of(case.subject.model, str(log.get("effective_scenario")))
    wanted = {**case.rules.audits.usual.all(), **own}
    judged = {name: value for name, value in wanted.items() if name not in ("mode", *OF_LENGTH)}
    yield from detail.used(log, judged, rulebook.AUDIT_SETTINGS)


def _score(case: Case, audit: AuditTest, log: Log) -> float | None:
    scenario = str(log.get("effective_scenario"))
    key = case.rules.results.fields.get(scenario)
    value = log.number(key) if key else None
    if not value or not audit.band or scenario not in tuple(Scenario):
        return None
    return audit.band.score_of(Scenario(scenario), value)


def _band(case: Case, audit: AuditTest, log: Log, reference: Log) -> Iterator[Finding]:
    before, now = _score(case, audit, reference), _score(case, audit, log)
    if before is None or now is None or not audit.band:
        return
    lowest, highest = audit.band.bounds(Scenario(str(reference.get("effective_scenario"))), before)
    if not (lowest or 0.0) <= now <= highest:
        bounds = f"at most {highest:.6g}" if lowest is None else f"{lowest:.6g} to {highest:.6g}"
        key = case.rules.results.fields[str(log.get("effective_scenario"))]
        found = f"a score of {now:.6g}"
        yield log.at(rulebook.AUDIT_BAND, key, found=found, expected=f"{bounds}: the performance run has {before:.6g}")


def _passed(case: Case, file: str) -> Iterator[Finding]:
    """The verdict alone: there is a pass, and nothing that failed."""
    findings: list[Finding] = []
    text = sight.text(case.root, file, findings, sight.BRIEF_BYTES)
    yield from findings
    if text is not None:
        yield from _verdict(file, text)


def _verdict(file: str, text: str) -> Iterator[Finding]:
    lines = [line.strip() for line in text.splitlines()]
    if PASS not in lines or any(FAIL in line for line in lines):
        failed = next((line for line in lines if FAIL in line), "no verdict")
        yield rulebook.AUDIT_VERDICT.at(file, found=failed, expected=PASS)


def _performance(case: Case, audit: AuditTest, file: str, log: Log | None, reference: Log | None) -> Iterator[Finding]:
    findings: list[Finding] = []
    text = sight.text(case.root, file, findings, sight.BRIEF_BYTES)
    yield from findings
    if text is None:
        return
    yield from _verdict(file, text)
    told = {name.lower(): value for name, value in SCORE.findall(text)}
    for name, of in (("reference", reference), ("test", log)):
        if name not in told:
            yield rulebook.AUDIT_SCORES.at(file, f"{name} score", found="not there", expected="a score")
            continue
        score = _score(case, audit, of) if of else None
        if score is None:
            continue
        if not _says(told[name], score):
            yield rulebook.AUDIT_SCORES.at(
                file, f"{name} score", found=told[name], expected=f"{score:.6g}, as in the log"
            )


def _says(told: str, score: float) -> bool:
    """Tell whether a text is a number, as far as its digits go."""
    try:
        number = float(told)
    except ValueError:
        return False
    decimals = len(told.partition(".")[2])
    return abs(number - score) <= max(DIGITS * score, 0.51 * 10.0**-decimals if decimals else 0.0)


def _accuracy(
    case: Case, test: str, folder: str, files: Mapping[str, int], accuracy_log: Log | None
) -> Generator[Finding, None, bool]:
    """Judge the verdict about the answers; return whether it says anywhere that the audit passed."""
    file, findings = f"{folder}/{VERIFY_ACCURACY}", list[Finding]()
    text = sight.text(case.root, file, findings, sight.BRIEF_BYTES)
    yield from findings
    if text is None:
        return False
    lines = [line.strip() for line in text.splitlines()]
    if test == "TEST06":
        told = dict(line.split(": ", 1) for line in lines if ": " in line)
        for name, good in TOKEN_LINES.items():
            if told.get(name) not in good:
                yield rulebook.AUDIT_VERDICT.at(
                    file, name, found=told.get(name, "not there"), expected=" or ".join(good)
                )
        return PASS in text
    if test != "TEST01":
        yield from _verdict(file, text)
        return PASS in text
    counts = {name: int(number) for name, number in COUNT.findall(text)}
    passed = PASS in lines and not any(FAIL in line for line in lines)
    yield from _counts(case, file, counts, passed=passed, total=accuracy.samples(case, accuracy_log))
    if not passed:
        yield from _fallback(case, folder, files)
    return PASS in text


COUNTS = (
    "num_acc_log_entries",
    "num_acc_log_duplicate_keys",
    "num_acc_log_data_mismatch",
    "num_perf_log_entries",
    "num_perf_log_qsl_idx_match",
    "num_perf_log_data_mismatch",
    "num_missing_qsl_idxs",
)


def _counts(case: Case, file: str, counts: Mapping[str, int], *, passed: bool, total: int | None) -> Iterator[Finding]:
    for name in COUNTS:
        if name not in counts:
            yield rulebook.AUDIT_ANSWERS.at(file, name, found="not there", expected="a count")
    if not {*COUNTS} <= counts.keys():
        return
    logged, matching = counts["num_perf_log_entries"], counts["num_perf_log_qsl_idx_match"]
    wrong = counts["num_perf_log_data_mismatch"] + counts["num_missing_qsl_idxs"]
    if logged != matching + counts["num_missing_qsl_idxs"] or not logged:
        expected = f"{matching + counts['num_missing_qsl_idxs']}: those that match and those that are missing"
        yield rulebook.AUDIT_ANSWERS.at(file, "num_perf_log_entries", found=logged, expected=expected)
    if passed and wrong:
        yield rulebook.AUDIT_ANSWERS.at(
            file, "num_perf_log_data_mismatch", found=f"{wrong} that differ", expected="0, as it passed"
        )
    if counts["num_acc_log_data_mismatch"] and case.scenario != "MultiStream":  # which pads its queries
        name = "num_acc_log_data_mismatch"
        yield rulebook.AUDIT_ANSWERS.at(file, name, found=counts[name], expected="0: one sample has one answer")
    entries = counts["num_acc_log_entries"] - counts["num_acc_log_duplicate_keys"]
    if total is not None and entries != total:
        yield rulebook.AUDIT_ANSWERS.at(file, "num_acc_log_entries", found=entries, expected=f"{total}, the data set")


def _fallback(case: Case, folder: str, files: Mapping[str, int]) -> Iterator[Finding]:
    """Where answers differ: both scores over the audit's samples."""
    audit = case.rules.audits.tests["TEST01"]
    texts: list[str] = []
    for name in audit.fallback_files:
        findings: list[Finding] = []
        text = sight.text(case.root, f"{folder}/{name}", findings) if name in files else None
        if text is None:
            found = "not there" if name not in files else "no text"
            yield rulebook.AUDIT_FALLBACK.at(f"{folder}/{name}", found=found, expected="a score, as answers differ")
            return
        texts.append(text)
    if not case.model:
        return
    baseline, compliance = (accuracy.scores(case, text) for text in texts)
    for metric, gate in case.model.accuracy.items():
        pair = [values[metric][-1] if values[metric] else None for values in (baseline, compliance)]
        file = f"{folder}/{audit.fallback_files[-1]}"
        if not pair[0] or not pair[1]:
            yield rulebook.AUDIT_FALLBACK.at(file, metric, found="no score", expected="a score above 0")
        elif (delta := gate.audit_delta_percent) is not None and not near(pair[0], pair[1], delta):
            expected = f"within {delta:g}% of {pair[0]:g}"
            yield rulebook.AUDIT_FALLBACK.at(file, metric, found=pair[1], expected=expected)


def _answers(case: Case, folder: str, files: Mapping[str, int], first: Answers | None) -> Iterator[Finding]:
    """The audit's log of answers and its hash. `first` are the accuracy run's answers, if these must be the same."""
    if not files.get(logged := f"accuracy/{ACCURACY_LOG}"):
        return
    told_hash, findings = None, list[Finding]()
    beside = f"{folder}/accuracy/{ACCURACY}"
    if files.get(f"accuracy/{ACCURACY}") and (text := sight.text(case.root, beside, findings)) is not None:
        told_hash, wrong = accuracy.hash_in(beside, text)
        findings += wrong
    own = accuracy.answers(case, f"{folder}/{logged}", files[logged], told_hash, None, findings)
    yield from findings
    if first:
        yield from _shown(f"{folder}/{logged}", first.shown, own.shown)


def _shown(file: str, first: Mapping[int, str], own: Mapping[int, str]) -> Iterator[Finding]:
    """Compare the answers that the logs of the accuracy run and of the audit, be they cut, both still show."""
    for index in sorted(first.keys() & own.keys()):
        right, answer = first[index].lower(), own[index].lower()
        if right != answer:
            start = max(0, len(commonprefix((right, answer))) - 8)
            found, wanted = (f"..{each[start : start + 40]}" for each in (answer, right))
            yield rulebook.AUDIT_SAMPLE.at(file, f"qsl_idx {index}", found=found, expected=wanted)
            return
