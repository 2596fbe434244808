"""What stands beside a result: measurements, user.conf and README.md."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass

from engineroom.steps.submission.entry import REHEARSAL
from engineroom.steps.submission.layout import README, SCENARIOS, USER_CONF
from engineroom.steps.submission.validate import rulebook, sight
from engineroom.steps.submission.validate.case import BASE, Case
from engineroom.steps.submission.validate.findings import Finding, Near, Rule
from engineroom.steps.submission.validate.loadgen import Log
from engineroom.terms import Scenario

YES = ("yes", "y", "true")
LINE = re.compile(r"([^\s.=][^\s=]*?)\.([^\s.=]+)\.([^\s.=]+)\s*=\s*(.*)")  # of a line without blanks at its ends
# The key in user.conf, and what LoadGen then logs.
USED = {
    "min_duration": "requested_min_duration_ms",
    "max_duration": "requested_max_duration_ms",
    "max_query_count": "requested_max_query_count",
}
# Harnesses change these from run to run, and user.conf may be that of an audit.
TUNED = {
    "min_query_count": "requested_min_query_count",
    "performance_sample_count_override": "requested_performance_sample_count_override",
}
TARGET_QPS = {"Server": "requested_server_target_qps", "Offline": "requested_offline_expected_qps"}
SIX_DIGITS = 1e-5  # as the log rounds
TEXT_VALUES = ("true", "false")


def measurements(case: Case, file: str, findings: list[Finding]) -> None:
    """Note what is wrong with the measurements."""
    if (told := sight.json_object(case.root, file, findings)) is None:
        return
    if REHEARSAL in told:
        findings.append(rulebook.REHEARSED.at(file, REHEARSAL, found="a rehearsal", expected="a real run"))
    wanted = case.rules.measurements
    for name in wanted.not_empty:
        value = told.get(name)
        if not value or not str(value).strip():
            missing = "not there" if name not in told else "nothing"
            findings.append(rulebook.MEASURED.at(file, name, found=missing, expected="a text"))
        elif not isinstance(value, str):
            findings.append(rulebook.MEASURED_TYPE.at(file, name, found=value, expected="a text"))
        elif name in wanted.usual:
            words = [word.strip().lower() for word in re.split(r"[,/+;&]| and ", value)]
            if any(word not in wanted.usual[name] for word in words):
                expected = " / ".join(wanted.usual[name])
                findings.append(rulebook.MEASURED_UNUSUAL.at(file, name, found=value, expected=expected))
    if case.closed and str(told.get("retraining", "")).strip().lower() in YES:
        findings.append(rulebook.RETRAINED.at(file, "retraining", found=told["retraining"], expected="no"))


def readme(case: Case, folder: str, findings: list[Finding]) -> None:
    """Note if README.md says nothing."""
    file = f"{folder}/{README}"
    told = sight.text(case.root, file, findings)
    if told is not None and len(told.strip()) < 2:
        findings.append(rulebook.README.at(file, found="nothing", expected="how the result is reproduced"))


def user_conf(case: Case, folder: str, log: Log | None, findings: list[Finding]) -> None:
    """Note what is wrong with user.conf, and where it is not what the run of `log` used."""
    file = f"{folder}/{USER_CONF}"
    if (told := sight.text(case.root, file, findings, sight.BRIEF_BYTES)) is None:
        return
    ran = str(log.get("effective_scenario")) if log else ""
    scenarios = {
        case.scenario,
        case.log_scenario(),
        ran,
    }  # an inferred result has the settings of the run it follows from
    entries = [
        entry
        for number, line in sight.lines_of(told)
        for entry in _entry(case, file, number, line, scenarios, findings)
    ]
    pairs, first = {(each.key, each.value) for each in entries}, dict[tuple[str, str, str], Entry]()
    near = Near()
    for entry in entries:
        same = first.setdefault((entry.model, entry.scenario, entry.key), entry)
        findings += _key(case, file, entry, same, pairs, near)
    fitting = [entry for entry in entries if entry.rank >= 0]
    if entries and not fitting:
        expected = f"a line for {case.place.benchmark} {case.log_scenario()}"
        findings.append(rulebook.CONF_OTHER.at(file, entries[0].line, found="lines of other runs", expected=expected))
    if log and log.values and log.get("effective_scenario") == case.log_scenario():
        findings += _used(file, fitting, log, USED, rulebook.CONF_USED)
        tuned = {**TUNED, "target_qps": TARGET_QPS.get(case.log_scenario(), "")}
        findings += _used(file, fitting, log, tuned, rulebook.CONF_TUNED)


@dataclass(frozen=True)
class Entry:
    """A line of user.conf. `rank` is how strong LoadGen takes it for this result, -1 for one of another run."""

    line: int
    model: str
    scenario: str
    key: str
    value: str
    rank: int


def _entry(
    case: Case, file: str, number: int, line: str, scenarios: set[str], findings: list[Finding]
) -> Iterator[Entry]:
    line = line.partition("#")[0].strip()
    if not line:
        return
    found = LINE.fullmatch(line)
    if not found or not found[4]:
        findings.append(rulebook.CONF_LINE.at(file, number, found=line, expected="model.scenario.key = value"))
        return
    model, scenario, key, value = found.groups()
    yield Entry(number, model, scenario, key, value, _rank(case, model, scenario, scenarios))


def _rank(case: Case, model: str, scenario: str, scenarios: set[str]) -> int:
    names = [name for name in (case.subject.benchmark, case.subject.model) if name]
    bare = [BASE.sub("", name) for name in names]
    fits = model == "*" or any(name.startswith(model) or model.startswith(name) for name in (*names, *bare))
    if not fits or scenario not in {*scenarios, "*"}:
        return -1
    return 2 * (scenario != "*") + (model != "*")


def _key(
    case: Case, file: str, entry: Entry, same: Entry, pairs: Set[tuple[str, str]], near: Near
) -> Iterator[Finding]:
    """Judge a line. `same` is the first of its name; `pairs` are the keys and values of all lines."""
    scenario, key, value = entry.scenario, entry.key, entry.value
    if scenario != "*" and scenario not in SCENARIOS:
        mend = near(scenario, SCENARIOS, rulebook.CONF_LINE.mend)
        yield rulebook.CONF_LINE.at(file, entry.line, found=scenario, expected="a scenario, or *", mend=mend)
        return
    rules = case.rules.user_conf
    asked = [each for each in Scenario if scenario in ("*", each, "Interactive" if each is Scenario.SERVER else each)]
    if not any(rules.knows(key, each) for each in asked):
        known = [each.rpartition(".")[2] for each in (*rules.allowed, *rules.open_only)]
        harmless = (f"{key}_override", value) in pairs
        rule = rulebook.CONF_IDLE if harmless else rulebook.CONF_KEY
        mend = rule.mend if harmless else near(key, known, rule.mend)
        yield rule.at(file, entry.line, found=key, expected="a key that LoadGen reads", mend=mend)
        return
    if case.closed and {key, f"{scenario}.{key}"} & {*rules.open_only} and entry.rank >= 0:
        if _as_usual(case, key, value):
            return
        yield rulebook.CONF_CLOSED.at(file, entry.line, found=f"{key} = {value}", expected="the round's own value")
    if value.lower() not in TEXT_VALUES and not _is_number(value):
        yield rulebook.CONF_VALUE.at(file, entry.line, found=value, expected="a number of at least 0")
    if same.value != value:
        expected = f"as in line {same.line}: {same.value}"
        yield rulebook.CONF_REPEATED.at(file, entry.line, found=f"{key} = {value}", expected=expected)


def _as_usual(case: Case, key: str, value: str) -> bool:
    """Tell whether a value is the round's own."""
    if not _is_number(value):
        return False
    scenario = Scenario(case.log_scenario())
    if key == "target_latency_percentile":
        usual = case.rules.percentiles.of(scenario)
        return usual is not None and float(value) in (usual, usual / 100)
    if key == "samples_per_query":
        return float(value) == (case.rules.samples_per_query.of(scenario) or 1.0)
    limit = case.model.latency_ms.get(case.scenario) if case.model else None
    return key == "target_latency" and limit is not None and float(value) == limit


def _is_number(value: str) -> bool:
    try:
        return 0 <= float(value) < 1e300
    except ValueError:
        return False


def _used(file: str, fitting: list[Entry], log: Log, keys: Mapping[str, str], rule: Rule) -> Iterator[Finding]:
    for key, logged in keys.items():
        taken, used = _taken([each for each in fitting if each.key == key]), log.number(logged)
        if not taken or used is None or not all(_is_number(each.value) for each in taken):
            continue
        if all(abs(float(each.value) - used) > SIX_DIGITS * used for each in taken):
            found, expected = f"{key} = {taken[0].value}", f"{used:.10g}, {logged} in the log"
            yield rule.at(file, taken[0].line, found=found, expected=expected)


def _taken(entries: list[Entry]) -> list[Entry]:
    """Return the line that LoadGen takes, for each name that the harness may have given it for the model.

    What it calls the model is not logged: llama2-70b and llama2-70b-interactive both fit llama2-70b-99.
    """
    best: dict[str, Entry] = {}  # the strongest of each name
    for entry in entries:
        if entry.rank > best.setdefault(entry.model, entry).rank:
            best[entry.model] = entry
    usual = best.pop("*", None)
    if not best:
        return [usual] if usual else []
    return [max(own, usual or own, key=lambda entry: entry.rank) for _, own in sorted(best.items())]
