"""What a submission still lacks: which scenarios and runs count, and what is still to run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from engineroom import rounds, terminal, versions
from engineroom.actions import plan
from engineroom.actions.staging import asked_scenarios, left_out, scenarios_of
from engineroom.actions.work import Work
from engineroom.artifacts import agree
from engineroom.config import RunConfig, fields
from engineroom.errors import RequestError
from engineroom.paths import overlay_versions
from engineroom.steps.submission.choose import UNTOLD, Found, Lack, Run, audits_needed, read_runs, select
from engineroom.steps.submission.entry import Entry
from engineroom.terms import Scenario, TestMode

KINDS = {TestMode.PERFORMANCE_ONLY: "performance", TestMode.ACCURACY_ONLY: "accuracy"}

# How short a rehearsal's tests are, unless flags say otherwise.
SHORT = {"min_duration": "1000", "min_query_count": "64"}


@dataclass(frozen=True)
class Piece:
    """What one scenario still lacks: tests, for which `work` asks in its test modes, and audits."""

    work: Work
    tests: tuple[str, ...]

    def __str__(self) -> str:
        kinds = [KINDS[mode] for mode in self.work.request.test_modes]
        return f"{self.work.benchmark.name} {self.work.scenarios[0]}: {', '.join((*kinds, *self.tests))}"

    def planned(self) -> Work:
        """Return the work for a plan, which only says what it would do."""
        return replace(self.work, request=replace(self.work.request, plan=True), needs={})

    def audits(self) -> list[plan.Audited]:
        """Return the audits for a plan."""
        planned = self.planned()
        alike = replace(planned.request, test_modes=(TestMode.PERFORMANCE_ONLY,))
        return [plan.Audited(replace(planned, request=alike), planned.scenarios[0], test) for test in self.tests]


def planned(missing: Sequence[Piece]) -> tuple[list[Work], list[plan.Audited]]:
    """Return tests and audits for a plan."""
    tests = [piece.planned() for piece in missing if piece.work.request.test_modes]
    return tests, [audit for piece in missing for audit in piece.audits()]


def counted(entry: Entry, work: Work, asked: Sequence[Scenario]) -> tuple[Scenario, ...]:
    """Return the scenarios of a submission: those that are asked for, by default all that the round has there.

    What the round requires beside them counts if its runs are finished, and belong to what there is of those asked for
    or to what would be run of them now. Raises RequestError for what is required and is neither there nor inferred.
    """
    name = work.benchmark.name
    wanted = asked_scenarios(entry, name, asked)
    if not left_out(entry, name, wanted):
        return wanted
    every = replace(work, request=replace(work.request, scenarios=scenarios_of(entry, name)))
    fitting = _fitting(entry, every, _read(every))
    finished = select(fitting, entry, every.scenarios).chosen
    if not finished.keys() >= {*wanted}:
        now = _Now(every)
        finished = select([each for each in fitting if now.made(each)], entry, every.scenarios).chosen
    found = tuple(scenario for scenario in every.scenarios if scenario in wanted or scenario in finished)
    if lacking := left_out(entry, name, found):
        raise RequestError(
            f"{entry.round} also requires {', '.join(lacking)} of {name} in the category {entry.category}",
            where="--scenarios",
            mend="ask for it, too: no finished runs of it are here that belong to the others",
        )
    return found


def of(entry: Entry, work: Work) -> list[Piece]:
    """Return what is still to be done: a piece for each scenario that lacks something."""
    found = _read(work)
    for line in found.passed_over:
        terminal.say(f"passed over: {line}")
    fitting = _fitting(entry, work, found)
    if not select(fitting, entry, work.scenarios).lacks:
        return []
    now = _Now(work)
    lacks = select([each for each in fitting if now.made(each)], entry, work.scenarios).lacks
    return [_piece(entry, work, scenario, lack) for scenario, lack in lacks.items()]


def _read(work: Work) -> Found:
    return read_runs([work.benchmark.name], work.system)


def _fitting(entry: Entry, work: Work, found: Found) -> list[Run]:
    return [each for each in found.runs if as_asked(each, work, entry)]


def _piece(entry: Entry, work: Work, scenario: Scenario, lack: Lack) -> Piece:
    modes = tuple(mode for mode in KINDS if mode in lack.missing)
    needed = audits_needed(entry, work.benchmark.name)
    tests = needed if modes else tuple(test for test in needed if test in lack.missing)
    request = replace(work.request, scenarios=(scenario,), test_modes=modes)
    if entry.rehearsal:
        short = _short(entry, scenario, audited=bool(needed))
        request = replace(request, overrides={**short, **request.overrides})
    return Piece(replace(work, request=request, needs={}), tests)


def _short(entry: Entry, scenario: Scenario, *, audited: bool) -> dict[str, str]:
    """Return how short a rehearsal's test is. One with audits is as long as LoadGen needs for a VALID run, which an
    audit has to be compared with to pass.
    """
    least = rounds.read(entry.round).early_stopping.of(scenario) if audited else None
    return {**SHORT, "min_query_count": f"{least:.0f}"} if least else dict(SHORT)


def as_asked(run: Run, work: Work, entry: Entry) -> bool:
    """Tell whether a run has the settings that flags ask for. How long it lasted is the rules' matter."""
    benchmark, config = work.benchmark, run.config
    own = str(benchmark.own_model) if benchmark.own_model else None
    if (config.dataset, config.weights, config.model_path) != (benchmark.dataset, benchmark.weights, own):
        return False
    if config.scenario not in work.scenarios:
        return False
    wanted = work.resolve(config.scenario, config.test_mode).config
    free = (*UNTOLD, "dataset", "weights", "model_path", *(("round",) if entry.rehearsal else ()))
    names = [name for name in work.request.overrides if name not in free]
    return all(getattr(wanted, name) in ("auto", getattr(config, name)) for name in names)


class _Now:
    """What would be run now, by scenario and test mode: found once, without making anything."""

    def __init__(self, work: Work) -> None:
        self._work = replace(work, request=replace(work.request, plan=True), needs={})
        self._found: dict[tuple[Scenario, TestMode], tuple[RunConfig, Mapping[str, str]]] = {}

    def made(self, run: Run) -> bool:
        """Tell whether a run was made with just that: code, settings, model, engine, samples."""
        key = (run.config.scenario, run.config.test_mode)
        if key not in self._found:
            resolved, engine = self._work.best_precision(self._work.resolve(*key))
            self._found[key] = resolved.config, engine.inputs
        config, inputs = self._found[key]
        names = [name for name in fields.names() if name not in (*UNTOLD, "round")]
        same = all(getattr(config, name) == getattr(run.config, name) for name in names)
        same = same and overlay_versions() == tuple(overlay.version for overlay in run.overlays)
        return same and run.revision == versions.git_revision() and agree(run.result.made_from, inputs)
