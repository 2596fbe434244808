"""Where the files of a submission lie, by the layout in the rules of its round (code/engineroom/rounds/)."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

from engineroom import detail_log, responses, rounds

SUMMARY_LOG = "mlperf_log_summary.txt"
DETAIL_LOG = detail_log.NAME
ACCURACY_LOG = responses.LOG
ACCURACY = "accuracy.txt"
USER_CONF = "user.conf"
README = "README.md"
PERFORMANCE_RUN = Path("performance", "run_1")

# The names of folders in the trees of all rounds. Those of scenarios are in lower case in some.
DIVISIONS = ("closed", "network", "open")
SCENARIOS = ("SingleStream", "MultiStream", "Server", "Interactive", "Offline")
SPELLED = {name.lower(): name for name in SCENARIOS}


@dataclass(frozen=True)
class Place:
    """Which result of a submitter: a system, a benchmark, a scenario, each as the folder of its name is called.

    `implementation` is a name of the submitter's choice, which only the layout up to v5.1 shows.
    """

    system: str
    benchmark: str
    scenario: str
    implementation: str = ""

    def __str__(self) -> str:
        return f"{self.system} {self.benchmark} {self.scenario}"


@dataclass(frozen=True)
class Tree:
    """The part of one submitter in one division. Every path begins at the folder that holds the divisions."""

    layout: rounds.Layout
    division: str
    submitter: str

    @property
    def folder(self) -> Path:
        """The submitter's folder."""
        return Path(self.division, self.submitter)

    def system(self, system: str) -> Path:
        """Return the file of a system's description."""
        return self._path(self.layout.system, Place(system, "", ""))

    @property
    def code(self) -> Path:
        """The folder of the sources."""
        return self._path(self.layout.code)

    def code_of(self, place: Place) -> Path:
        """Return the folder of the sources of a benchmark."""
        return self._path(self.layout.code_of_benchmark, place)

    @property
    def calibration(self) -> Path:
        """The file that tells how the models were quantized."""
        return self._path(self.layout.calibration)

    @property
    def calibrations(self) -> tuple[Path, ...]:
        """That file, and wherever else it may lie."""
        return (self.calibration, *(self._path(template) for template in self.layout.calibration_also))

    @property
    def model_mapping(self) -> Path:
        """The file that maps models of other names to their benchmarks, in the open division."""
        return self._path(self.layout.model_mapping)

    def results(self, place: Place) -> Path:
        """Return the folder of a result."""
        return self._path(self.layout.results, place)

    def performance(self, place: Place) -> Path:
        """Return the folder of its performance run."""
        return self.results(place) / PERFORMANCE_RUN

    def accuracy(self, place: Place) -> Path:
        """Return the folder of its accuracy run."""
        return self.results(place) / "accuracy"

    def measurements(self, place: Place) -> Path:
        """Return the folder of user.conf, README.md and the measurements."""
        return self._path(self.layout.measurements, place)

    def measurements_file(self, place: Place) -> Path:
        """Return the file of the measurements."""
        return self.measurements(place) / self._path(self.layout.measurements_file, place)

    def audit(self, place: Place, test: str) -> Path:
        """Return the folder of an audit, such as TEST01."""
        return self._path(self.layout.audits, place) / test

    def of_benchmark(self, system: str, benchmark: str) -> list[Path]:
        """Return the folders that hold what one benchmark has on one system, in every part of the tree."""
        place = Place(system, benchmark, "x")
        parts = (self.results(place), self.measurements(place), self.audit(place, "x").parent)
        return [path.parent for path in dict.fromkeys(parts)]

    def systems(self, root: Path) -> list[str]:
        """Return the ids of the systems that the tree in `root` describes."""
        return sorted(path.stem for path in (root / self.system("x")).parent.glob("*.json"))

    def places(self, root: Path) -> list[Place]:
        """Return the results that lie in `root`."""
        results = root / self.folder / "results"
        found = sorted(path.relative_to(results).parts for path in results.glob("*/*/*") if path.is_dir())
        places = [Place(system, benchmark, scenario) for system, benchmark, scenario in found]
        return [replace(place, implementation=self._implementation(root, place)) for place in places]

    def _implementation(self, root: Path, place: Place) -> str:
        """Return the name of choice from the file of the measurements, whose beginning and end are known."""
        before, _, after = self.layout.measurements_file.partition("{implementation}")
        if not after:
            return ""
        begin, end = before.format(system=place.system), after.format(scenario=place.scenario)
        names = (path.name for path in sorted((root / self.measurements(place)).glob("*.json")))
        fitting = (name for name in names if name.startswith(begin) and name.endswith(end))
        return next((name.removeprefix(begin).removesuffix(end) for name in fitting), "")

    def _path(self, template: str, place: Place = Place("", "", "")) -> Path:  # noqa: B008  (frozen)
        return Path(
            template.format(
                division=self.division,
                submitter=self.submitter,
                system=place.system,
                benchmark=place.benchmark,
                scenario=place.scenario,
                implementation=place.implementation,
            )
        )


def submitters(root: Path, layout: rounds.Layout) -> list[Tree]:
    """Return the part of every submitter in every division of the tree in `root`."""
    return [
        Tree(layout, division, path.name)
        for division in layout.divisions
        for path in sorted((root / division).glob("*"))
        if path.is_dir()
    ]


def model_mapping(path: Path) -> dict[str, str]:
    """Return what a model_mapping.json maps; nothing if there is none that can be read."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {name: str(model) for name, model in told.items()} if isinstance(told, dict) else {}
