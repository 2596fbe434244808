"""One result: which files it has, and what each of them says."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

import msgspec

from engineroom.rounds import VERIFY_ACCURACY, VERIFY_PERFORMANCE, Round
from engineroom.steps.submission.layout import (
    ACCURACY,
    ACCURACY_LOG,
    DETAIL_LOG,
    PERFORMANCE_RUN,
    README,
    SUMMARY_LOG,
    USER_CONF,
)
from engineroom.steps.submission.validate import (
    accuracy,
    audits,
    detail,
    loadgen,
    measured,
    performance,
    power,
    rulebook,
    sight,
)
from engineroom.steps.submission.validate.case import Case, Subject, case_of
from engineroom.steps.submission.validate.findings import Finding, few
from engineroom.steps.submission.validate.loadgen import Log, Summary

RUN = PERFORMANCE_RUN.as_posix()
# Names that mean something in a submission: where the layout does not have them, they are in a wrong place.
KNOWN = {
    DETAIL_LOG,
    SUMMARY_LOG,
    ACCURACY_LOG,
    ACCURACY,
    "mlperf_log_trace.json",
    "measurements.json",
    USER_CONF,
    VERIFY_ACCURACY,
    VERIFY_PERFORMANCE,
    "verify_output_len.txt",
    "baseline_accuracy.txt",
    "compliance_accuracy.txt",
    "model_mapping.json",
}
DOCUMENTS = (".md", ".adoc", ".html", ".pdf", ".png", ".svg", ".mmd", ".sh")
POWER = ("performance/power/", "performance/ranging/")
ENDPOINTS = ("config.yaml", "config.yml")
IDENTITY = ("sut_name", "test_datetime", "power_begin", "power_end")  # and its results: what only one run can log


class Outcome(msgspec.Struct, frozen=True):
    """What was found of a result, and by what its runs are known: digests of what only one run can have measured.

    `score` is accuracy.RESCORED, or why the accuracy was only read.
    """

    subject: Subject
    findings: list[Finding]
    performance: str = ""
    accuracy: str = ""
    score: str = ""


def check(root: Path, rules: Round, subject: Subject) -> Outcome:
    """Return what is wrong with a result. Whatever its files hold, this returns."""
    case = case_of(root, rules, subject)
    try:
        found = _check(case)
        return msgspec.structs.replace(found, findings=few(found.findings))
    except Exception as error:  # a fault of ours must not hide what else is wrong
        said = f"{type(error).__name__}: {error}"
        return Outcome(subject, [rulebook.BROKEN.at(case.results, found=said, expected="a verdict")])


def _check(case: Case) -> Outcome:
    findings: list[Finding] = []
    limit = case.rules.limits.file_bytes
    parts: dict[str, sight.Seen] = {}
    for path in dict.fromkeys((case.results, case.measurements, case.audits)):
        there = sight.is_folder(case.root, path)
        parts[path] = sight.look(case.root, path, most_bytes=limit) if there else sight.Seen(path)
        findings += parts[path].findings
    seen, measurements, tests = parts[case.results], parts[case.measurements], parts[case.audits]
    if any(name in seen.files for name in ENDPOINTS) and f"{RUN}/{DETAIL_LOG}" not in seen.files:
        findings.append(rulebook.UNCHECKED.at(seen.folder, found="config.yaml of MLPerf Endpoints"))
        return Outcome(case.subject, findings)
    log, scored = _logs(case, seen, findings)
    answers = _scores(case, seen, scored, findings)
    name = _measured(case, measurements, log, findings)
    _audited(case, tests, audits.Audited(log, scored, answers), findings)
    _strangers(case, seen, measurements, tests, name, findings)
    return Outcome(case.subject, findings, _identity(log), _identity(scored), answers.score)


def _logs(case: Case, seen: sight.Seen, findings: list[Finding]) -> tuple[Log | None, Log | None]:
    layout = case.rules.layout
    findings += sight.lacking(seen.folder, seen.files, (*layout.performance_files, *layout.accuracy_files))
    log, told = _test(case, seen, RUN)
    if log:
        findings += performance.check(case, log, told)
    if f"{RUN}/{ACCURACY_LOG}" in seen.files:
        performance.answers(case, f"{seen.folder}/{RUN}/{ACCURACY_LOG}", findings)
    scored, told = _test(case, seen, "accuracy")
    if scored:
        findings += accuracy.check(case, scored, told)
    _extra(case, seen, findings)
    findings += power.check(case, seen, log)
    if log and scored and log.values and scored.values:
        findings += detail.beside(scored, log)
    return log, scored


def _test(case: Case, seen: sight.Seen, folder: str) -> tuple[Log | None, Summary | None]:
    """Return the logs of a test, None where a file is empty or not there."""
    logged, summary = f"{folder}/{DETAIL_LOG}", f"{folder}/{SUMMARY_LOG}"
    return (
        loadgen.read(case.root, f"{seen.folder}/{logged}") if seen.files.get(logged) else None,
        loadgen.read_summary(case.root, f"{seen.folder}/{summary}") if seen.files.get(summary) else None,
    )


def _scores(case: Case, seen: sight.Seen, scored: Log | None, findings: list[Finding]) -> accuracy.Answers:
    """Judge the scores; return the answers of the accuracy run."""
    total, told_hash = accuracy.samples(case, scored), None
    file = f"{seen.folder}/accuracy/{ACCURACY}"
    if seen.files.get(f"accuracy/{ACCURACY}") and (text := sight.text(case.root, file, findings)) is not None:
        findings += accuracy.score_file(case, file, text, total)
        told_hash, wrong = accuracy.hash_in(file, text)
        findings += wrong
    if not (size := seen.files.get(f"accuracy/{ACCURACY_LOG}")):
        return accuracy.Answers()
    return accuracy.answers(case, f"{seen.folder}/accuracy/{ACCURACY_LOG}", size, told_hash, total, findings)


def _extra(case: Case, seen: sight.Seen, findings: list[Finding]) -> None:
    if wanted := case.rules.layout.extra_accuracy_files.get(case.subject.model):
        there = {Path(name).stem for name, size in seen.below(wanted.folder).items() if size}
        if missing := [name for name in wanted.names if name not in there]:
            where = f"{seen.folder}/{wanted.folder}"
            findings.append(
                rulebook.EXTRA_FILES.at(where, found=f"no {', '.join(missing)}", expected="one file of each name")
            )


def _measured(case: Case, seen: sight.Seen, log: Log | None, findings: list[Finding]) -> str:
    """Judge what stands beside the result; return the name of the measurements."""
    if seen.files.get(README):
        measured.readme(case, seen.folder, findings)
    if seen.files.get(USER_CONF):
        measured.user_conf(case, seen.folder, log, findings)
    begin, _, end = case.rules.layout.measurements_file.partition("{implementation}")
    name = begin
    if end:
        begin, end = begin.format(system=case.place.system), end.format(scenario=case.place.scenario)
        fitting = [each for each in seen.files if each.startswith(begin) and each.endswith(end) and "/" not in each]
        loose = [each for each in seen.files if each.startswith(case.place.system) and each.endswith(".json")]
        name = next(iter(fitting or loose), f"{begin}<implementation>{end}")
    findings += sight.lacking(seen.folder, seen.files, (*case.rules.layout.measurements_files, name))
    if seen.files.get(name):
        measured.measurements(case, f"{seen.folder}/{name}", findings)
    return name


def _audited(case: Case, seen: sight.Seen, audited: audits.Audited, findings: list[Finding]) -> None:
    rules = case.rules.audits
    needed = rules.needed(case.subject.model) if case.subject.division in rules.divisions else ()
    there = [name for name in seen.folders if name.startswith("TEST") and "/" not in name]
    for test in needed:
        if test not in there:
            findings.append(rulebook.AUDIT_MISSING.at(f"{seen.folder}/{test}", found="not there", expected="a folder"))
    for test in there:
        if test not in rules.tests or (needed and test not in needed):
            findings.append(
                rulebook.AUDIT_UNKNOWN.at(f"{seen.folder}/{test}", found=test, expected=" ".join(needed) or "no audit")
            )
        elif test in needed:
            findings += audits.check(case, test, seen.below(test), audited)


def _strangers(
    case: Case, seen: sight.Seen, measurements: sight.Seen, tests: sight.Seen, name: str, findings: list[Finding]
) -> None:
    """Tell every file that has no place here."""
    layout = case.rules.layout
    own = {*layout.performance_files, *layout.accuracy_files, power.SAMPLES}
    optional = {f"{folder}/{each}" for folder in (RUN, "accuracy") for each in layout.optional_files}
    extra = layout.extra_accuracy_files.get(case.subject.model)
    folders = (*POWER, *((f"{extra.folder}/",) if extra else ()))
    beside = {name, *layout.measurements_files}
    one = measurements.folder == seen.folder
    for file in seen.files:
        if file in own or file in optional or file.startswith(folders):
            continue
        if one and (file in beside or any(fnmatchcase(file, name) for name in layout.measurements_also)):
            continue
        if tests.folder == seen.folder and file.startswith("TEST"):
            continue
        findings.append(_stranger(seen.folder, file))
    for file in () if one else measurements.files:  # up to v5.1 documents of every kind lie there, too
        if file not in beside and Path(file).name in KNOWN:
            findings.append(_stranger(measurements.folder, file))
    known = {name for audit in case.rules.audits.tests.values() for name in audit.required_files + audit.fallback_files}
    for file in tests.files:
        test, _, inner = file.partition("/")
        of_audit = bool(inner) and test in case.rules.audits.tests
        if inner not in known | optional if of_audit else tests.folder != seen.folder:
            findings.append(_stranger(tests.folder, file))
    for place in {each.folder: each for each in (seen, tests)}.values():
        findings += _empty_folders(place)


def _empty_folders(place: sight.Seen) -> Iterator[Finding]:
    for folder in place.folders:
        if not any(file.startswith(f"{folder}/") for file in place.files):
            yield rulebook.UNEXPECTED.at(place.at(folder), found="an empty folder", expected="files")


def _stranger(folder: str, file: str) -> Finding:
    path = Path(file)
    if path.name in KNOWN:
        return rulebook.MISPLACED.at(
            f"{folder}/{file}", found="a file that belongs elsewhere", expected="no such file here"
        )
    rule = rulebook.BESIDE if path.suffix in DOCUMENTS and len(path.parts) == 1 else rulebook.UNEXPECTED
    return rule.at(f"{folder}/{file}", found="a file", expected="no such file here")


def _identity(log: Log | None) -> str:
    """Return a digest of what only one run can have measured, "" without a log."""
    if not log or not log.values:
        return ""
    told = [item for item in log.values.items() if item[0] in IDENTITY or item[0].startswith("result_")]
    return hashlib.blake2b(repr((*sorted(told), log.end_ms)).encode(), digest_size=12).hexdigest()
