"""The rules of MLPerf's rounds, one data file per round: <round>.yaml beside this one. Each section says its source."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import msgspec

from engineroom.errors import RequestError, did_you_mean, shown
from engineroom.paths import display
from engineroom.terms import Scenario
from engineroom.yaml_file import load

FOLDER = Path(__file__).parent


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    source: str  # document and place


class LoadGen(_Section, frozen=True, kw_only=True):
    """The releases of LoadGen that were built for the round."""

    versions: tuple[str, ...]


class Seeds(_Section, frozen=True, kw_only=True):
    """The seeds by which LoadGen chooses samples and arrival times."""

    qsl_rng_seed: int
    sample_index_rng_seed: int
    schedule_rng_seed: int

    def all(self) -> dict[str, int]:
        """Return each seed by LoadGen's name."""
        return {name: getattr(self, name) for name in ("qsl_rng_seed", "sample_index_rng_seed", "schedule_rng_seed")}


class Duration(_Section, frozen=True, kw_only=True):
    """How long a performance test lasts at least."""

    min_duration_ms: int


class PerScenario(_Section, frozen=True, kw_only=True):
    """A number for those scenarios that have it."""

    single_stream: float | None = msgspec.field(default=None, name="SingleStream")
    multi_stream: float | None = msgspec.field(default=None, name="MultiStream")
    server: float | None = msgspec.field(default=None, name="Server")

    def of(self, scenario: Scenario) -> float | None:
        """Return the number of a scenario, None if it has none."""
        found = {
            Scenario.SINGLE_STREAM: self.single_stream,
            Scenario.MULTI_STREAM: self.multi_stream,
            Scenario.SERVER: self.server,
        }
        return found.get(scenario)


class UserConf(_Section, frozen=True, kw_only=True):
    """The keys that LoadGen reads from user.conf: `key` in every scenario, or `Scenario.key`."""

    allowed: tuple[str, ...]
    open_only: tuple[str, ...]
    by_effect: tuple[str, ...]

    def knows(self, key: str, scenario: Scenario) -> bool:
        """Tell whether LoadGen reads a key in this scenario."""
        return bool({key, f"{scenario}.{key}"} & {*self.allowed, *self.open_only, *self.by_effect})


class Audit(_Section, frozen=True, kw_only=True):
    """LoadGen's settings that only an audit changes, with what they are otherwise."""

    performance_issue_unique: int
    performance_issue_same: int
    accuracy_log_rng_seed: int
    accuracy_log_sampling_target: int

    def all(self) -> dict[str, int]:
        """Return each setting by LoadGen's name."""
        return {name: getattr(self, name) for name in self.__struct_fields__ if name != "source"}


class Model(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A benchmark of the round: its scenarios by category, and its limits where one number says them.

    `accuracy` is the least score of the closed division by metric, in the metric's unit.
    """

    edge: tuple[str, ...] = ()
    datacenter: tuple[str, ...] = ()
    dataset_size: int
    performance_sample_count: int
    offline_min_samples: int | None = None
    accuracy: dict[str, float] = {}
    server_latency_ms: float | None = None


class Models(_Section, frozen=True, kw_only=True):
    """The benchmarks by name."""

    models: dict[str, Model]


class Round(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A round's rules, as far as a single run can keep or break them."""

    round: str
    loadgen: LoadGen
    seeds: Seeds
    duration: Duration
    percentiles: PerScenario
    early_stopping: PerScenario
    samples_per_query: PerScenario
    user_conf: UserConf
    audit: Audit
    benchmarks: Models


@cache
def names() -> tuple[str, ...]:
    """Return the rounds that have a file, the oldest first."""
    found = (path.stem for path in FOLDER.glob("v*.yaml"))
    return tuple(sorted(found, key=lambda name: [int(part) for part in name[1:].split(".")]))


@cache
def read(name: str) -> Round:
    """Return a round's rules. Raises RequestError if it has no file here, or one that does not fit."""
    if name not in names():
        raise RequestError(
            f"no rules of a round {shown(name)} are here", where="round", mend=did_you_mean(name, names())
        )
    return read_file(FOLDER / f"{name}.yaml")


def read_file(path: Path) -> Round:
    """Return the rules in a file. Raises RequestError for an unknown key, a missing one or a wrong type."""
    try:
        return msgspec.convert(load(path), Round)
    except msgspec.ValidationError as error:
        raise RequestError(f"holds no round's rules: {error}", where=display(path)) from None
