"""What a tree holds: submitters, systems and results, and what belongs to none of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from engineroom.errors import did_you_mean
from engineroom.rounds import Round
from engineroom.steps.submission import rehearsal
from engineroom.steps.submission.layout import DIVISIONS, SCENARIOS, SPELLED, Place, Tree
from engineroom.steps.submission.validate import described, rulebook, sight
from engineroom.steps.submission.validate.case import Subject
from engineroom.steps.submission.validate.findings import Finding, Near, Rule
from engineroom.steps.submission.validate.result import KNOWN

GUESSES = {"efficientnet": "resnet50"}  # checker, get_mlperf_model: beside the benchmarks' own names
# Top folders of a submitter in either layout; those of the other one are a sign of another round.
LAYOUT_FOLDERS = {"code", "src", "measurements", "compliance", "results", "systems", "documentation"}


def _is_hidden(name: str) -> bool:
    return name.startswith(".") and name != "."


class Survey:
    """What a tree holds: the results, and the folders in which only names, links and sizes are looked at."""

    def __init__(self, root: Path, rules: Round, only: tuple[str, str], findings: list[Finding]) -> None:
        self.root, self.rules, self.only, self.findings = root, rules, only, findings
        self.subjects: list[Subject] = []
        self.sweeps: list[str] = []

    def make(self) -> None:
        for name in self._at_root():
            if name in self.rules.layout.divisions:
                if self.only[0] in ("", name):
                    self._division(name)
            elif not _is_hidden(name) and self._holds_results(name):
                mend = did_you_mean(name, DIVISIONS, rulebook.FOREIGN.mend)
                expected = "closed, network or open"
                self.findings.append(
                    rulebook.FOREIGN.at(name, found="a folder with results", expected=expected, mend=mend)
                )
        if not self.subjects:
            self.findings.append(rulebook.NO_RESULT.at(".", found="no result", expected="division/submitter/results"))

    def _at_root(self) -> list[str]:
        """Return the folders at the root. What a repository holds there of other names, or hides, is its own affair."""
        notes: list[Finding] = []
        names, files = sight.folders(self.root, "", notes, most_bytes=self.rules.limits.file_bytes)
        if not self.only[0]:
            shown = [each for each in notes if not _is_hidden(each.file)]
            self.findings += [each for each in shown if each.rule != rulebook.NAME.id]
            self._entries("", [name for name in files if name in KNOWN], "a folder of each division")
        return names

    def _list(self, folder: str, *, quiet: bool = False) -> tuple[list[str], list[str]]:
        notes: list[Finding] = []
        found = sight.folders(self.root, folder, notes, most_bytes=self.rules.limits.file_bytes)
        self.findings += () if quiet else notes
        return found

    def _holds_results(self, name: str) -> bool:
        inner = self._list(name, quiet=True)[0]
        return "results" in inner or any("results" in self._list(f"{name}/{each}", quiet=True)[0] for each in inner)

    def _entries(
        self, folder: str, files: Iterable[str], expected: str, otherwise: Rule = rulebook.UNKNOWN_ENTRY
    ) -> None:
        """Tell files that do not belong directly into a folder: `otherwise` of those that belong nowhere else."""
        for file in files:
            rule = rulebook.MISPLACED if file in KNOWN else otherwise
            where = f"{folder}/{file}" if folder else file
            self.findings.append(rule.at(where, found="a file", expected=expected))

    def _level(self, folder: str, expected: str, otherwise: Rule = rulebook.BESIDE) -> list[str]:
        """Return the folders in a folder that holds nothing else, and tell what else it holds."""
        names, files = self._list(folder)
        self._entries(folder, files, expected, otherwise)
        return names

    def _division(self, division: str) -> None:
        for submitter in self._level(division, "a folder of each submitter", rulebook.UNKNOWN_ENTRY):
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
        self._documents(tree)
        self._systems(tree, names, mapped)

    def _mapping(self, file: str) -> Mapping[str, str]:
        told = sight.json_object(self.root, file, self.findings) or {}
        good: dict[str, str] = {}
        known, nearest = self.rules.mappable(), Near()
        for name, benchmark in told.items():
            if model := known.get(str(benchmark)):
                good[name] = model
            else:
                own = self.rules.benchmarks.checker_names.get(str(benchmark), "")
                near = f"the checkers call it {own}" if own else ""
                mend = near or nearest(str(benchmark), known, rulebook.MAPPING.mend)
                expected = f"a benchmark of {self.rules.round}, as the checkers call it"
                self.findings.append(rulebook.MAPPING.at(file, name, found=benchmark, expected=expected, mend=mend))
        return good

    def _documents(self, tree: Tree) -> None:
        if not sight.is_folder(self.root, str(tree.code)) or not any(self._list(str(tree.code), quiet=True)):
            self.findings.append(rulebook.CODE.at(str(tree.code), found="no sources", expected="a folder with sources"))
        if tree.division != "open":
            self._calibration(tree)

    def _calibration(self, tree: Tree) -> None:
        sizes = {path: sight.size_of(self.root, str(path)) for path in tree.calibrations}
        there = [path for path, size in sizes.items() if size is not None]
        if not there:
            expected = f"a file, here or as {', or '.join(map(str, tree.calibrations[1:]))}"
            self.findings.append(rulebook.CALIBRATION.at(str(tree.calibration), found="not there", expected=expected))
        elif not any(sizes[path] for path in there):
            self.findings.append(rulebook.EMPTY.at(str(there[0]), found="0 bytes", expected="a text"))

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
        model = self.rules.name_of(benchmark) or mapped.get(benchmark, "")
        if model:
            return model
        names = {**{name: name for name in self.rules.benchmarks.models}, **self.rules.benchmarks.also_named, **GUESSES}
        near = [name for name in names if name in benchmark and self.rules.name_of(names[name])]
        if division == "open" and near:
            guess = self.rules.name_of(names[max(near, key=len)])
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
