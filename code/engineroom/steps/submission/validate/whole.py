"""The whole tree: who submits what, what belongs to nothing, and the results, judged side by side on all cores."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec

from engineroom import rounds
from engineroom.errors import RequestError, did_you_mean
from engineroom.paths import display
from engineroom.rounds import Round
from engineroom.steps.submission import rehearsal
from engineroom.steps.submission.layout import DETAIL_LOG, PERFORMANCE_RUN, Place, Tree
from engineroom.steps.submission.validate import described, loadgen, result, rulebook, sight
from engineroom.steps.submission.validate.case import BASE, SCENARIOS, SPELLED, Subject
from engineroom.steps.submission.validate.findings import Finding, Level
from engineroom.steps.submission.validate.result import KNOWN, Outcome

DIVISIONS = ("closed", "network", "open")
FEW = 24  # results that are judged faster than other processes start
AT_ONCE = 8  # results that are sent to another process together
ASKED_FOR_ROUND = 40  # logs that are asked for their seeds
# Top folders of a submitter in each layout; those of the other one are a sign of the other round.
GUESSES = {"efficientnet": "resnet50"}  # checker, get_mlperf_model: beside the benchmarks' own names
LAYOUT_FOLDERS = {"code", "src", "measurements", "compliance", "results", "systems", "documentation"}


class Report(msgspec.Struct, frozen=True):
    """What was found in a tree, sorted by file."""

    root: str
    round: str
    submitters: tuple[str, ...]
    results: int
    findings: list[Finding]

    def of(self, level: Level) -> list[Finding]:
        """Return the findings of a level."""
        return [each for each in self.findings if each.level is level]


Progress = Callable[[int, int], None]


def validate(
    path: Path,
    round_name: str | None = None,
    *,
    submitter: str = "",
    workers: int | None = None,
    progress: Progress = lambda done, total: None,
) -> Report:
    """Return all that is wrong with a tree, or with the part that `path` names: a division, or a submitter's folder.

    Raises RequestError if there is no such folder, or no such round.
    """
    root, only = _root_of(path)
    only = (only[0], submitter or only[1])
    findings: list[Finding] = []
    name = round_name or _detect(root, findings)
    rules = rounds.read(name)
    plan = _Plan(root, rules, only, findings)
    plan.make()
    outcomes = list(_judge(root, name, plan, workers or len(os.sched_getaffinity(0)), progress))
    findings += [each for outcome in outcomes for each in outcome.findings]
    findings += _duplicates(rules, outcomes)
    submitters = tuple(sorted({each.submitter for each in plan.subjects}))
    return Report(str(root), name, submitters, len(plan.subjects), sorted({*findings}))


def _root_of(path: Path) -> tuple[Path, tuple[str, str]]:
    """Return the folder that holds the divisions, and which division and submitter are meant, "" for all."""
    if not path.is_dir():
        raise RequestError(
            "there is no such folder", where=display(path), mend="name the folder that holds closed, open or network"
        )
    path = path.resolve()
    if any((path / name).is_dir() for name in DIVISIONS):
        return path, ("", "")
    if path.name in DIVISIONS:
        return path.parent, (path.name, "")
    if path.parent.name in DIVISIONS:
        return path.parent.parent, (path.parent.name, path.name)
    return path, ("", "")


def _detect(root: Path, findings: list[Finding]) -> str:
    """Return the round whose seeds most of the first logs have; else the newest, which is said."""
    known = {tuple(rounds.read(name).seeds.all().values()): name for name in rounds.names()}
    found: Counter[str] = Counter()
    for file in _some_logs(root):
        log = loadgen.read(root, file)
        seeds = (
            tuple(log.get(f"effective_{name}") for name in rounds.read(rounds.names()[-1]).seeds.all()) if log else ()
        )
        if all(isinstance(seed, int) for seed in seeds) and seeds in known:
            found[known[seeds]] += 1
    if found:
        return found.most_common(1)[0][0]
    newest = rounds.names()[-1]
    findings.append(rulebook.ROUND.at(".", found="no log with the seeds of a round", expected=f"{newest} is taken"))
    return newest


def _some_logs(root: Path) -> Iterator[str]:
    count = 0
    for division in DIVISIONS:
        for submitter in sight.folders(root, division, [])[0] if (root / division).is_dir() else ():
            results = f"{division}/{submitter}/results"
            for place in _places(root, results, 3):
                log = f"{place}/{(PERFORMANCE_RUN / DETAIL_LOG).as_posix()}"
                if (root / log).is_file():
                    yield log
                    count += 1
                if count >= ASKED_FOR_ROUND:
                    return


def _places(root: Path, folder: str, depth: int) -> Iterator[str]:
    if not depth:
        yield folder
    elif (root / folder).is_dir() and not (root / folder).is_symlink():
        for name in sight.folders(root, folder, [])[0]:
            yield from _places(root, f"{folder}/{name}", depth - 1)


class _Plan:
    """What a tree holds: the results, and the folders in which only names, links and sizes are looked at."""

    def __init__(self, root: Path, rules: Round, only: tuple[str, str], findings: list[Finding]) -> None:
        self.root, self.rules, self.only, self.findings = root, rules, only, findings
        self.subjects: list[Subject] = []
        self.sweeps: list[str] = []

    def make(self) -> None:
        names, _ = self._list("", quiet=True)
        for name in names:
            if name in self.rules.layout.divisions:
                if self.only[0] in ("", name):
                    self._division(name)
            elif not name.startswith(".") and self._holds_results(name):
                mend = did_you_mean(name, DIVISIONS, rulebook.FOREIGN.mend)
                expected = "closed, network or open"
                self.findings.append(
                    rulebook.FOREIGN.at(name, found="a folder with results", expected=expected, mend=mend)
                )
        if not self.subjects:
            self.findings.append(rulebook.NO_RESULT.at(".", found="no result", expected="division/submitter/results"))

    def _list(self, folder: str, *, quiet: bool = False) -> tuple[list[str], list[str]]:
        notes: list[Finding] = []
        found = sight.folders(self.root, folder, notes)
        self.findings += () if quiet else notes
        return found

    def _holds_results(self, name: str) -> bool:
        inner = self._list(name, quiet=True)[0]
        return "results" in inner or any("results" in self._list(f"{name}/{each}", quiet=True)[0] for each in inner)

    def _entries(self, folder: str, files: Iterable[str], expected: str) -> None:
        for file in files:
            rule = rulebook.MISPLACED if file in KNOWN else rulebook.UNKNOWN_ENTRY
            self.findings.append(rule.at(f"{folder}/{file}", found="a file", expected=expected))

    def _division(self, division: str) -> None:
        submitters, files = self._list(division)
        self._entries(division, files, "a folder of each submitter")
        for submitter in submitters:
            if self.only[1] in ("", submitter):
                self._submitter(division, submitter)

    def _submitter(self, division: str, submitter: str) -> None:
        tree = Tree(self.rules.layout, division, submitter)
        folder = tree.folder.as_posix()
        names, files = self._list(folder)
        place = Place("x", "x", "x")
        parts: tuple[Path, ...] = (tree.code, tree.calibration.parent, tree.system("x").parent)
        parts += (tree.results(place), tree.measurements(place), tree.audit(place, "x"))
        known = {path.relative_to(tree.folder).parts[0] for path in parts}
        for name in names:
            if name not in known:
                rule = rulebook.LAYOUT if name in LAYOUT_FOLDERS else rulebook.UNKNOWN_ENTRY
                self.findings.append(rule.at(f"{folder}/{name}", found="a folder", expected=" ".join(sorted(known))))
        mapping = PurePosixPath(tree.layout.model_mapping).name
        allowed = {mapping} if division == "open" else set()
        self._entries(folder, [name for name in files if name not in allowed and not name.endswith(".md")], "a folder")
        if rehearsal.MARK.name in files:
            where = f"{folder}/{rehearsal.MARK}"
            self.findings.append(rulebook.REHEARSED.at(where, found="a rehearsal", expected="real runs"))
        judged = {tree.system("x").parent.name, *(path.relative_to(tree.folder).parts[0] for path in parts[3:])}
        self.sweeps += [f"{folder}/{name}" for name in names if name not in judged]
        if "results" not in names:
            self.findings.append(rulebook.NO_RESULT.at(folder, found="no results", expected="results"))
        mapped = self._mapping(f"{folder}/{mapping}") if mapping in files and division == "open" else {}
        self._documents(tree, names)
        self._systems(tree, names, mapped)

    def _mapping(self, file: str) -> Mapping[str, str]:
        told = sight.json_object(self.root, file, self.findings) or {}
        good: dict[str, str] = {}
        known = self.rules.mappable()
        for name, benchmark in told.items():
            if model := known.get(str(benchmark)):
                good[name] = model
            else:
                own = self.rules.benchmarks.checker_names.get(str(benchmark), "")
                near = f"the checkers call it {own}" if own else ""
                mend = near or did_you_mean(str(benchmark), known, rulebook.MAPPING.mend)
                expected = f"a benchmark of {self.rules.round}, as the checkers call it"
                self.findings.append(rulebook.MAPPING.at(file, name, found=benchmark, expected=expected, mend=mend))
        return good

    def _model(self, name: str) -> str:
        return self.rules.name_of(name)

    def _documents(self, tree: Tree, names: Sequence[str]) -> None:
        if not (self.root / tree.code).is_dir() or not any(self._list(str(tree.code), quiet=True)):
            self.findings.append(rulebook.CODE.at(str(tree.code), found="no sources", expected="a folder with sources"))
        calibration = self.root / tree.calibration
        if tree.division != "open" and not calibration.is_file():
            self.findings.append(rulebook.CALIBRATION.at(str(tree.calibration), found="not there", expected="a file"))
        elif tree.division != "open" and not calibration.stat().st_size:
            self.findings.append(rulebook.EMPTY.at(str(tree.calibration), found="0 bytes", expected="a text"))

    def _systems(self, tree: Tree, names: Sequence[str], mapped: Mapping[str, str]) -> None:
        folder = tree.system("x").parent
        files = [] if folder.name not in names else self._system_files(folder.as_posix())
        described_systems: dict[str, Mapping[str, Any]] = {}
        for name in files:
            system = name.removesuffix(".json")
            described_systems[system] = described.check(
                self.root, f"{folder.as_posix()}/{name}", tree.division, tree.submitter, self.rules, self.findings
            )
        results = f"{tree.folder.as_posix()}/results"
        systems = self._level(results, "a folder of each system") if "results" in names else []
        for system in systems:
            if system not in described_systems:
                where, near = str(tree.system(system)), did_you_mean(system, described_systems, "")
                mend = f"{near} {rulebook.SYSTEM_MISSING.mend}".strip()
                self.findings.append(
                    rulebook.SYSTEM_MISSING.at(where, found="not there", expected="a description", mend=mend)
                )
            if rehearsal.is_named(system):
                self.findings.append(
                    rulebook.REHEARSED.at(f"{results}/{system}", found="a rehearsal", expected="real runs")
                )
            self._benchmarks(tree, system, described_systems.get(system, {}), mapped)
        for system in described_systems.keys() - {*systems}:
            self.findings.append(
                rulebook.SYSTEM_UNUSED.at(str(tree.system(system)), found="no results", expected="results")
            )
        self._orphans(tree, names)

    def _system_files(self, folder: str) -> list[str]:
        inner, files = self._list(folder)
        self.sweeps += [f"{folder}/{name}" for name in inner]
        for name in files:
            if not name.endswith((".json", "_power.yaml")):
                self.findings.append(rulebook.BESIDE.at(f"{folder}/{name}", found="a file", expected="<system>.json"))
        return [name for name in files if name.endswith(".json")]

    def _level(self, folder: str, expected: str) -> list[str]:
        names, files = self._list(folder)
        for file in files:
            rule = rulebook.MISPLACED if file in KNOWN else rulebook.BESIDE
            self.findings.append(rule.at(f"{folder}/{file}", found="a file", expected=expected))
        return names

    def _benchmarks(self, tree: Tree, system: str, told: Mapping[str, Any], mapped: Mapping[str, str]) -> None:
        folder = f"{tree.folder.as_posix()}/results/{system}"
        for benchmark in self._level(folder, "a folder of each benchmark"):
            where = f"{folder}/{benchmark}"
            model = self._known(where, benchmark, tree.division, mapped)
            there: list[str] = []
            for scenario in self._level(where, "a folder of each scenario"):
                named = self._scenario(f"{where}/{scenario}", scenario)
                if named:
                    there.append(named)
                    self.subjects.append(self._subject(tree, system, benchmark, scenario, model, told))
            self._required(where, model, there, tree.division, str(told.get("system_type", "")).lower())

    def _subject(
        self, tree: Tree, system: str, benchmark: str, scenario: str, model: str, told: Mapping[str, Any]
    ) -> Subject:
        category, network = str(told.get("system_type", "")).lower(), described.is_network(told)
        return Subject(tree.division, tree.submitter, system, benchmark, scenario, model, category, network)

    def _known(self, where: str, benchmark: str, division: str, mapped: Mapping[str, str]) -> str:
        """Return the benchmark of the round that a folder stands for; "" if none."""
        model = self._model(benchmark) or mapped.get(benchmark, "")
        if model:
            return model
        names = {**{name: name for name in self.rules.benchmarks.models}, **self.rules.benchmarks.also_named, **GUESSES}
        near = [name for name in names if name in benchmark and self._model(names[name])]
        if division == "open" and near:
            guess = self._model(names[max(near, key=len)])
            self.findings.append(rulebook.GUESSED.at(where, found=benchmark, expected=f"taken for {guess}"))
            return guess
        mend = did_you_mean(benchmark, self.rules.benchmarks.models, rulebook.BENCHMARK.mend)
        expected = f"a benchmark of {self.rules.round}"
        self.findings.append(rulebook.BENCHMARK.at(where, found=benchmark, expected=expected, mend=mend))
        return ""

    def _scenario(self, where: str, name: str) -> str:
        if name in SCENARIOS:
            return name
        if spelled := SPELLED.get(name.lower()):
            self.findings.append(rulebook.SPELLED.at(where, found=name, expected=spelled))
            return spelled
        mend = did_you_mean(name, SCENARIOS)
        self.findings.append(rulebook.SCENARIO.at(where, found=name, expected=" / ".join(SCENARIOS), mend=mend))
        return ""

    def _required(self, where: str, model: str, there: Sequence[str], division: str, category: str) -> None:
        known = self.rules.benchmarks.models.get(model)
        if known is None or division == "open" or not category:
            return
        scenarios = known.scenarios(category)
        for name in scenarios.missing(there):
            found = ", ".join(there) or "no scenario"
            self.findings.append(rulebook.SCENARIO_MISSING.at(where, found=found, expected=f"{name}, too"))
        for name in there:
            if name not in scenarios.all():
                expected = " / ".join(scenarios.all()) or f"no {model} in {category}"
                self.findings.append(
                    rulebook.SCENARIO.at(f"{where}/{name}", found=f"{name} in {category}", expected=expected)
                )

    def _orphans(self, tree: Tree, names: Sequence[str]) -> None:
        """Measurements and audits lie in trees of their own up to v5.1."""
        known = {(each.system, each.benchmark, each.scenario) for each in self.subjects if self._of(each, tree)}
        place = Place("x", "x", "x")
        others = {
            path.relative_to(tree.folder).parts[0] for path in (tree.measurements(place), tree.audit(place, "x").parent)
        }
        for part in sorted((others - {"results"}) & {*names}):
            folder = f"{tree.folder.as_posix()}/{part}"
            for system in self._level(folder, "a folder of each system"):
                for benchmark in self._level(f"{folder}/{system}", "a folder of each benchmark"):
                    for scenario in self._level(f"{folder}/{system}/{benchmark}", "a folder of each scenario"):
                        if (system, benchmark, scenario) not in known:
                            where = f"{folder}/{system}/{benchmark}/{scenario}"
                            self.findings.append(
                                rulebook.ORPHAN.at(where, found="no result", expected="a result of this name")
                            )
                            self.sweeps.append(where)

    @staticmethod
    def _of(subject: Subject, tree: Tree) -> bool:
        return (subject.division, subject.submitter) == (tree.division, tree.submitter)


# Judging


def _judge(root: Path, round_name: str, plan: _Plan, workers: int, progress: Progress) -> Iterator[Outcome]:
    subjects, sweeps = plan.subjects, plan.sweeps
    total = len(subjects)
    batches = [subjects[at : at + AT_ONCE] for at in range(0, total, AT_ONCE)]
    done = 0
    if total < FEW or workers < 2:
        yield _swept(root, round_name, sweeps)
        for batch in batches:
            yield from judge(root, round_name, batch)
            done += len(batch)
            progress(done, total)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        running = [pool.submit(judge, root, round_name, batch) for batch in batches]
        running += [pool.submit(_sweep_all, root, round_name, [folder]) for folder in sweeps]
        for finished in as_completed(running):
            outcomes = finished.result()
            yield from outcomes
            done += sum(bool(each.subject.system) for each in outcomes)
            progress(done, total)


def judge(root: Path, round_name: str, subjects: Sequence[Subject]) -> list[Outcome]:
    """Return what was found of some results. Other processes run this."""
    rules = rounds.read(round_name)
    return [result.check(root, rules, subject) for subject in subjects]


def _sweep_all(root: Path, round_name: str, folders: Sequence[str]) -> list[Outcome]:
    return [_swept(root, round_name, folders)]


def _swept(root: Path, round_name: str, folders: Sequence[str]) -> Outcome:
    """Look at names, links and sizes alone."""
    limit = rounds.read(round_name).limits.file_bytes
    found = [each for folder in folders for each in sight.look(root, folder, most_bytes=limit).findings]
    return Outcome(Subject("", "", "", "", "", "", ""), found)


def _duplicates(rules: Round, outcomes: Iterable[Outcome]) -> Iterator[Finding]:
    """No run stands for two systems or two benchmarks; for two scenarios only where one follows from the other."""
    for kind in ("performance", "accuracy"):
        first: dict[str, Outcome] = {}
        for outcome in sorted(outcomes, key=lambda each: msgspec.structs.astuple(each.subject)):
            identity = getattr(outcome, kind)
            if not identity:
                continue
            other = first.setdefault(identity, outcome)
            if other is not outcome and _group(other.subject) != _group(outcome.subject):
                where = _where(rules, outcome.subject, kind)
                yield rulebook.DUPLICATE.at(
                    where, found="the run of " + _where(rules, other.subject, kind), expected="a run of its own"
                )


def _group(subject: Subject) -> tuple[str, ...]:
    return subject.system, BASE.sub("", subject.model or subject.benchmark)


def _where(rules: Round, subject: Subject, kind: str) -> str:
    tree = Tree(rules.layout, subject.division, subject.submitter)
    place = Place(subject.system, subject.benchmark, subject.scenario)
    return str((tree.performance(place) if kind == "performance" else tree.accuracy(place)) / DETAIL_LOG)
