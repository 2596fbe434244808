"""Where the files of a submission lie: the layout of the rounds up to v5.1, and the one from v6.0 on.

Source: mlcommons/inference at b66003e1, tools/submission/submission_checker/constants.py (PERFORMANCE_LOG_PATH and those
below it) and tools/submission/submission_structure.md. All paths are below <division>/<submitter>/.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

SUMMARY_LOG = "mlperf_log_summary.txt"
DETAIL_LOG = "mlperf_log_detail.txt"
ACCURACY_LOG = "mlperf_log_accuracy.json"
ACCURACY = "accuracy.txt"
USER_CONF = "user.conf"
README = "README.md"
MODEL_MAPPING = "model_mapping.json"
CALIBRATION = Path("documentation", "calibration.md")
DIVISIONS = ("closed", "open", "network")
PERFORMANCE = Path("performance", "run_1")
FIRST_OF_NEW = (6, 0)

# Of every scenario. An audit has what its own step wrote.
OF_PERFORMANCE = (DETAIL_LOG, SUMMARY_LOG)
OF_ACCURACY = (ACCURACY, ACCURACY_LOG, DETAIL_LOG, SUMMARY_LOG)


@dataclass(frozen=True)
class Place:
    """Which result of a submitter: a system, a benchmark, a scenario, each as the folder of its name is called."""

    system: str
    benchmark: str
    scenario: str

    @property
    def path(self) -> Path:
        """The part of a path that names it."""
        return Path(self.system, self.benchmark, self.scenario)

    def __str__(self) -> str:
        return f"{self.system} {self.benchmark} {self.scenario}"


@dataclass(frozen=True)
class Layout:
    """One layout: the folder of the sources, and those that hold a result's measurements and audits."""

    sources: str
    measured: str
    audited: str
    measurements_name: str  # "{system}" stands for the system's id

    def systems(self, system: str) -> Path:
        """Return the file of a system's description."""
        return Path("systems", f"{system}.json")

    def results(self, place: Place) -> Path:
        """Return the folder of a result."""
        return Path("results") / place.path

    def performance(self, place: Place) -> Path:
        """Return the folder of its performance run."""
        return self.results(place) / PERFORMANCE

    def accuracy(self, place: Place) -> Path:
        """Return the folder of its accuracy run."""
        return self.results(place) / "accuracy"

    def measurements(self, place: Place) -> Path:
        """Return the folder of user.conf, README.md and the measurements."""
        return Path(self.measured) / place.path

    def measurements_file(self, place: Place) -> Path:
        """Return the file of the measurements."""
        return self.measurements(place) / self.measurements_name.format(system=place.system)

    def audit(self, place: Place, test: str) -> Path:
        """Return the folder of an audit, such as TEST01."""
        return Path(self.audited) / place.path / test

    def of_benchmark(self, system: str, benchmark: str) -> list[Path]:
        """Return the folders that hold what one benchmark has on one system, in the layout's every part."""
        return [Path(top, system, benchmark) for top in dict.fromkeys(("results", self.measured, self.audited))]


OLD = Layout(
    sources="code", measured="measurements", audited="compliance", measurements_name="{system}.json"
)
NEW = Layout(sources="src", measured="results", audited="results", measurements_name="measurements.json")


def of_round(name: str) -> Layout:
    """Return the layout of a round."""
    return NEW if tuple(int(part) for part in name.removeprefix("v").split(".")) >= FIRST_OF_NEW else OLD
