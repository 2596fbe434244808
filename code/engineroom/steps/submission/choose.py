"""Which runs go into a submission: the best valid performance run whose accuracy run and audits were made alike.

Alike means the same engine, samples, LoadGen and harness, the same settings, and the same revision of the code (rules,
"The same code in accuracy and performance mode"). What only says how long a test lasts and at what rate may differ.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from engineroom import detail_log, rounds, runs, versions
from engineroom.config import RunConfig, fields
from engineroom.errors import RequestError
from engineroom.paths import RUNS, display, sha256_file
from engineroom.runs import Result
from engineroom.steps.submission.entry import Entry
from engineroom.steps.submission.layout import DETAIL_LOG
from engineroom.terms import METRICS, Scenario, TestMode

ENVIRONMENT = "env.json"
LOWER_IS_BETTER = "ms"
UNTOLD = (  # the settings that may differ: of the test's kind, of its watch, of its length and of its rate
    *("test_mode", "watchdog_s", "probe_s"),
    *("min_duration", "max_duration", "min_query_count", "max_query_count"),
    *fields.EXPECTED.values(),
)
SHOWN = 4  # differences that are named


@dataclass(frozen=True)
class Overlay:
    """A folder that added to the checkout, in the state that `version` tells."""

    path: Path
    version: str


@dataclass(frozen=True)
class Run:
    """A finished run, with what its folder says of the code and of the machine; the strongest overlay first."""

    folder: Path
    config: RunConfig
    result: Result
    revision: str
    machine: Mapping[str, Any]
    overlays: tuple[Overlay, ...] = ()

    @property
    def name(self) -> str:
        """What a person finds it by."""
        return display(self.folder)

    @cached_property
    def alike(self) -> dict[str, str]:
        """What has to be the same in runs that belong together, by its name."""
        told = {name: str(getattr(self.config, name)) for name in fields.names() if name not in UNTOLD}
        made = {name: value for name, value in self.result.made_from.items() if not name.startswith("expected ")}
        harness = {Path(name).name: sha for name, sha in self.result.checksums.items() if "engineroom_native" in name}
        overlays = ", ".join(f"{each.path.name} {each.version}" for each in self.overlays)
        return {**told, **made, **harness, "revision": self.revision, "overlays": overlays}

    @property
    def kind(self) -> tuple[str, ...]:
        """What is the same in all scenarios of a benchmark in one submission: the code, the model, the data set."""
        config = self.config
        return (self.revision, config.dataset, config.weights.value, config.model_path or "")

    @property
    def rank(self) -> tuple[bool, float, str]:
        """What sorts the best run to the front: a rehearsal also takes an INVALID one, but rather a VALID one."""
        figure = self.result.performance
        if figure is None:
            return True, 0.0, self.folder.name
        return not figure.valid, figure.value if figure.unit == LOWER_IS_BETTER else -figure.value, self.folder.name

    def differences(self, other: Run) -> list[str]:
        """Say in what another run was made differently."""
        names = dict.fromkeys((*self.alike, *other.alike))
        return [
            f"{name} {_short(self.alike.get(name))} and {_short(other.alike.get(name))}"
            for name in names
            if self.alike.get(name) != other.alike.get(name)
        ]


def _short(value: str | None) -> str:
    return "none" if value is None else value if len(value) <= 24 else f"{value[:12]}..."


@dataclass(frozen=True)
class Found:
    """The finished runs, and why other folders were passed over."""

    runs: tuple[Run, ...]
    passed_over: tuple[str, ...]


def read_runs(benchmarks: Iterable[str], system: str | None = None, folder: Path = RUNS) -> Found:
    """Return the finished runs of benchmarks. What is partial, broken or of another version is named, not used."""
    found, passed_over = [], []
    for benchmark in benchmarks:
        for path in sorted(each for each in folder.glob(f"*-{benchmark}-*") if each.is_dir()):
            try:
                run = read_run(path)
            except RequestError as error:
                passed_over.append(str(error).replace("\n", ";"))
                continue
            if run.config.benchmark == benchmark and system in (None, run.config.system):
                found.append(run)
    return Found(tuple(found), tuple(passed_over))


def read_run(folder: Path) -> Run:
    """Return a run. Raises RequestError if it did not finish, cannot be read, or does not fit this version."""
    if (result := runs.read_result(folder)) is None:
        raise RequestError("did not finish", where=display(folder), mend="run the test again")
    path = folder / ENVIRONMENT
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        overlays = tuple(Overlay(Path(each["path"]), each["version"]) for each in told.get("overlays", ()))
        if not isinstance(told["machine"], dict):
            raise TypeError("its machine is no object")
        return Run(folder, runs.read_config(folder).config, result, str(told["revision"]), told["machine"], overlays)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RequestError(f"cannot be read: {type(error).__name__} {error}", where=display(path)) from None


def verify(run: Run) -> None:
    """Refuse a run whose files are no longer those that it wrote, or whose result is not what its log says."""
    audit = (run.result.audit.test,) if run.result.audit else ()
    for name, sha256 in run.result.checksums.items():
        path, parts = run.folder / name, Path(name).parts
        if len(parts) > 1 and parts[0] not in (runs.RECIPE, *audit):
            continue  # the model, the engine, the samples: they lie elsewhere
        if not path.is_file() or sha256_file(path) != sha256:
            edited = "is not what the run wrote: its SHA-256 is not the one in result.json"
            raise RequestError(
                edited if path.is_file() else "is gone",
                where=display(path),
                mend="restore it, or run the test again and remove this run",
            )
    for path in (path for test in audit for path in (run.folder / test).rglob("*") if path.is_file()):
        if str(path.relative_to(run.folder)) not in run.result.checksums:
            what = "is not of the run: result.json has no SHA-256 of it"
            raise RequestError(what, where=display(path), mend="move it away")
    figure = run.result.performance
    if figure is None:
        return
    log, metric = detail_log.read(run.folder / DETAIL_LOG), METRICS[run.config.scenario]
    said = {"value": float(log.get(metric.key) or 0) * metric.scale, "valid": log.get("result_validity") == "VALID"}
    for name, value in said.items():
        if getattr(figure, name) != value:
            raise RequestError(
                f"says that {name} is {getattr(figure, name)}, but LoadGen's log says {value}",
                where=display(run.folder / runs.RESULT),
                mend="run the test again and remove this run",
            )


@dataclass(frozen=True)
class Chosen:
    """The runs of one scenario. `inferred_from` is the scenario that was run where this one was not.

    `notes` say which better runs were passed over, and why.
    """

    performance: Run
    accuracy: Run
    audits: Mapping[str, Run] = field(default_factory=dict)
    inferred_from: Scenario | None = None
    notes: tuple[str, ...] = ()

    @property
    def runs(self) -> tuple[Run, ...]:
        """The runs that LoadGen's logs are taken from, without the audits."""
        return (self.performance, self.accuracy)

    @property
    def all_runs(self) -> tuple[Run, ...]:
        """The runs that anything is taken from."""
        return (*self.runs, *self.audits.values())


@dataclass(frozen=True)
class Lack:
    """What a scenario still needs: the test modes or audits that are missing, and why each run there is was no good."""

    missing: tuple[str, ...]
    why: tuple[str, ...]


def problem_of(run: Run, entry: Entry) -> str | None:
    """Say why a run cannot be part of this entry. A rehearsal takes every finished run."""
    if entry.rehearsal:
        return None
    if run.config.round != entry.round:
        return f"was held against the rules of {run.config.round}, not of {entry.round}"
    if entry.division not in run.result.rules.divisions:
        return "; ".join(run.result.rules.reasons) or f"is not submittable to the {entry.division} division"
    return f"was run {why}" if (why := unnamed(run.revision)) else None


def unnamed(revision: str) -> str | None:
    """Say why nobody could get the code of a run again, None if git can give it: src/ must hold what ran."""
    if versions.is_known(revision):
        return None
    if revision == versions.UNKNOWN:
        return "outside of a git checkout, so no revision names its code: run it in a clone of the repository"
    return "with changes to the code that no revision names: commit them first"


def audits_needed(entry: Entry, benchmark: str) -> tuple[str, ...]:
    """Return the audits that the round asks of a benchmark in the entry's division."""
    rules = rounds.read(entry.round).audits
    return rules.needed(benchmark) if entry.division in rules.divisions else ()


def choose(of_scenario: Sequence[Run], entry: Entry) -> Chosen | Lack:
    """Return the best performance run that has an accuracy run made alike, and its audits; or what is missing.

    Of several such accuracy runs it is the newest of those whose audits lack least.
    """
    own = [run for run in of_scenario if run.result.audit is None]
    audits = [run for run in of_scenario if run.result.audit is not None]
    performance, accuracy = (
        [run for run in own if run.config.test_mode is mode]
        for mode in (TestMode.PERFORMANCE_ONLY, TestMode.ACCURACY_ONLY)
    )
    fit = sorted((run for run in performance if problem_of(run, entry) is None), key=lambda run: run.rank)
    notes: list[str] = []
    lacks: list[tuple[str, ...]] = []
    for run in fit:
        matches, why = _accuracy_of(run, accuracy, audits, entry)
        if not matches:
            lacks.append((TestMode.ACCURACY_ONLY,))
            notes.append(f"{run.name} has no accuracy run: {why}")
            continue
        tried = [(match, *_audits_of(run, match, audits, entry)) for match in matches]
        match, there, why_not = min(tried, key=lambda each: len(each[2]))
        if not why_not:
            return Chosen(run, match, there, notes=tuple(notes))
        lacks.append(tuple(why_not))
        notes += [f"{run.name} has no {test}: {why}" for test, why in why_not.items()]
    if fit:
        return Lack(min(lacks, key=len), tuple(notes))
    missing = (TestMode.PERFORMANCE_ONLY, TestMode.ACCURACY_ONLY)
    return Lack(missing, tuple(f"{run.name} {problem_of(run, entry)}" for run in performance))


def _audits_of(run: Run, accuracy: Run, audits: Sequence[Run], entry: Entry) -> tuple[dict[str, Run], dict[str, str]]:
    """Return each audit that is needed: of these very runs, and made like them; and why the others are missing."""
    found: dict[str, Run] = {}
    why: dict[str, str] = {}
    for test in audits_needed(entry, run.config.benchmark):
        why[test] = "it was not run"
        for each in sorted(audits, key=lambda each: each.folder.name):
            result = each.result.audit
            assert result
            belongs = (result.test, result.reference) == (test, run.name)
            if not belongs or result.accuracy_run not in ("", accuracy.name):
                continue
            if run.differences(each):
                why[test] = _differs(run, each)
            elif result.passed or entry.rehearsal:
                found[test] = each
            else:
                why[test] = f"{each.name} did not pass: {'; '.join(result.reasons)}"
    return found, {test: words for test, words in why.items() if test not in found}


def _accuracy_of(run: Run, accuracy: Sequence[Run], audits: Sequence[Run], entry: Entry) -> tuple[tuple[Run, ...], str]:
    """Return the accuracy runs made alike, the newest first, or why there is none: what the nearest differs in."""
    nearest = sorted(accuracy, key=lambda each: (len(run.differences(each)), _descending(each.folder.name)))
    if not nearest:
        return (), "there is none in this scenario"
    alike = [each for each in nearest if not run.differences(each)]
    if not alike:
        return (), _differs(run, nearest[0])
    problems = [problem_of(each, entry) or _contradicted(run, each, audits, entry) for each in alike]
    good = tuple(each for each, problem in zip(alike, problems, strict=True) if problem is None)
    return good, "" if good else f"{alike[0].name} {problems[0]}"


def _contradicted(run: Run, accuracy: Run, audits: Sequence[Run], entry: Entry) -> str | None:
    """Say which audit found that both runs answer differently: no other audit of them makes up for it."""
    for each in () if entry.rehearsal else audits:
        result = each.result.audit
        assert result
        of_both = (result.reference, result.accuracy_run) == (run.name, accuracy.name)
        if of_both and not result.answers_agree and result.test in audits_needed(entry, run.config.benchmark):
            return f"has other answers than {run.name}: {each.name} found it, and no other audit makes up for that"
    return None


def _differs(run: Run, other: Run) -> str:
    """Say that another run was made differently, and in what."""
    differences = run.differences(other)
    rest = f", and {len(differences) - SHOWN} more" if len(differences) > SHOWN else ""
    return f"{other.name} differs in {', '.join(differences[:SHOWN])}{rest}"


def _descending(text: str) -> tuple[int, ...]:
    return tuple(-ord(letter) for letter in text)


@dataclass(frozen=True)
class Selection:
    """What was chosen for one benchmark on one system, by scenario, and what is missing."""

    chosen: Mapping[Scenario, Chosen]
    lacks: Mapping[Scenario, Lack]

    @property
    def still_missing(self) -> int:
        """How many tests are missing."""
        return sum(len(lack.missing) for lack in self.lacks.values())


def select(of_benchmark: Sequence[Run], entry: Entry, scenarios: Sequence[Scenario]) -> Selection:
    """Choose for every scenario, all from one revision of the code, one model and one data set.

    Of those that fill most scenarios, and lack least in the others, the newest.
    """
    newest = sorted(of_benchmark, key=lambda run: run.folder.name, reverse=True)
    found = [_of_kind(kind, of_benchmark, entry, scenarios) for kind in dict.fromkeys(run.kind for run in newest)]
    nothing = Selection({}, dict.fromkeys(scenarios, Lack((TestMode.PERFORMANCE_ONLY, TestMode.ACCURACY_ONLY), ())))
    return max(found, key=lambda each: (len(each.chosen), -each.still_missing), default=nothing)


def _of_kind(
    kind: tuple[str, ...], of_benchmark: Sequence[Run], entry: Entry, scenarios: Sequence[Scenario]
) -> Selection:
    of_kind = [run for run in of_benchmark if run.kind == kind]
    chosen: dict[Scenario, Chosen] = {}
    lacks: dict[Scenario, Lack] = {}
    for scenario in scenarios:
        found = choose([run for run in of_kind if run.config.scenario is scenario], entry)
        if isinstance(found, Chosen):
            chosen[scenario] = found
        else:
            lacks[scenario] = found
    return Selection(chosen, lacks)


def one_machine(runs_of_system: Iterable[Run]) -> None:
    """Refuse runs that bear one system's name and were made on different machines. Raises RequestError."""
    seen: dict[str, Run] = {}
    for run in runs_of_system:
        seen.setdefault(_machine_in_words(run.machine), run)
    if len(seen) > 1:
        (first, a), (second, b) = list(seen.items())[:2]
        raise RequestError(
            f"two machines bear the name {a.config.system}: {first}, and {second}",
            where=f"{a.name}, {b.name}",
            mend='give one of them a name of its own: make add_system RUN_ARGS="--id=NAME"; or move its runs away',
        )


def _machine_in_words(machine: Mapping[str, Any]) -> str:
    cpu, gpus = machine.get("cpu", {}), machine.get("gpus", ())
    memory = round(machine.get("memory_total_bytes", 0) / (1 << 30))
    words = [f"{cpu.get('sockets')}x {cpu.get('model')} of {cpu.get('cores')} cores", f"{memory} GiB"]
    names = [f"{gpu.get('name')} {len(gpu.get('slices', ()))}".removesuffix(" 0") for gpu in gpus]
    return ", ".join((*words, *sorted(names)))
