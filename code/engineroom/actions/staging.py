"""From runs to what is staged: chooses them, completes what may be inferred, describes the system."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import msgspec

from engineroom import registry, rounds, systems
from engineroom.actions.execute import benchmark_of
from engineroom.detection import Machine
from engineroom.errors import Mistakes, RequestError, did_you_mean
from engineroom.paths import display
from engineroom.steps import description
from engineroom.steps.submission import inference
from engineroom.steps.submission.choose import Chosen, Run, Selection, one_machine, read_runs, select, verify
from engineroom.steps.submission.entry import NOTICE, UNKNOWN_HERE, Entry
from engineroom.steps.submission.stage import Item
from engineroom.terms import Scenario, TestMode

OPEN = "open"
SHOWN = 5


@dataclass(frozen=True)
class Prepared:
    """What can be staged, and what a person should know of it: better runs that were passed over, for instance."""

    items: tuple[Item, ...]
    notes: tuple[str, ...]


def scenarios_of(entry: Entry, benchmark: str) -> tuple[Scenario, ...]:
    """Return the scenarios that the round has of a benchmark in the entry's category, as far as they can be run here.

    Raises RequestError if the round does not have the benchmark there.
    """
    names = _model(entry, benchmark).scenarios(entry.system_type).all()
    if not names:
        raise RequestError(f"{entry.round} has no {benchmark} in the category {entry.category}", where="--category")
    return tuple(scenario for scenario in Scenario if scenario.value in names)


def asked_scenarios(entry: Entry, benchmark: str, asked: Sequence[Scenario]) -> tuple[Scenario, ...]:
    """Return the scenarios that are asked for, by default all of `scenarios_of`.

    Raises RequestError for one that the round does not have there.
    """
    there = scenarios_of(entry, benchmark)
    if foreign := [scenario for scenario in asked if scenario not in there]:
        what = f"{entry.round} has no {', '.join(foreign)} of {benchmark} in the category {entry.category}"
        raise RequestError(what, where="--scenarios", mend=f"it has {', '.join(there)}")
    return tuple(asked) or there


def left_out(entry: Entry, benchmark: str, there: Sequence[Scenario]) -> tuple[str, ...]:
    """Return what the round requires of a benchmark and is neither there nor inferred from a scenario that is."""
    inferable = [way.scenario for way in _ways(entry, benchmark) if way.by in there]
    return _model(entry, benchmark).scenarios(entry.system_type).missing([*there, *inferable])


def _ways(entry: Entry, benchmark: str) -> tuple[rounds.Way, ...]:
    return rounds.read(entry.round).inferences(_model(entry, benchmark), entry.system_type)


def _model(entry: Entry, benchmark: str) -> rounds.Model:
    """Return the benchmark of the round that one here is submitted for. Raises RequestError if there is none."""
    known, plugin = rounds.read(entry.round).benchmarks.models, registry.find("benchmarks").get(benchmark)
    about = plugin.load().BENCHMARK if plugin else None
    model = known.get((about and about.task) or benchmark)
    if model is None:
        raise RequestError(
            f"{entry.round} has no benchmark {benchmark}", where="--benchmarks", mend=did_you_mean(benchmark, known)
        )
    if about and not about.mlperf and entry.division != OPEN:
        what = f"{benchmark} is another model than {about.task}'s"
        raise RequestError(what, where="--division", mend=f"it can go to --division={OPEN}")
    return model


def prepare(
    entry: Entry, benchmarks: Sequence[str], system: str, counts: Callable[[Run], bool] = lambda run: True
) -> Prepared:
    """Choose the runs of each benchmark on a system, verify them, and describe the system they ran on.

    Only a run that `counts` is chosen: by default every one.
    Raises Mistakes with everything that is missing, and why what is there was no good.
    """
    mistakes: list[RequestError] = []
    notes: list[str] = []
    selected: dict[str, dict[Scenario, Chosen]] = {}
    for name in benchmarks:
        wanted = scenarios_of(entry, name)
        found = read_runs([name], system)
        selection = select([run for run in found.runs if counts(run)], entry, wanted)
        chosen = _completed(selection, wanted, _ways(entry, name))
        notes += [f"passed over: {each}" for each in found.passed_over]
        notes += [f"{name} {scenario}: {note}" for scenario, each in chosen.items() for note in each.notes]
        if lacking := _lacking(entry, name, system, chosen, selection, found.passed_over):
            mistakes += lacking
        else:
            selected[name] = chosen
    if mistakes:
        raise Mistakes(mistakes)
    every = [run for chosen in selected.values() for each in chosen.values() for run in each.all_runs]
    one_machine(every)
    _verify(every)
    engines = dict.fromkeys(run.config.engine for run in every)
    text = described(entry, _machine(every[0]), system, engines)
    items = tuple(
        Item(entry.system(system), benchmark_of(next(iter(chosen.values())).performance.config), chosen, text)
        for chosen in selected.values()
    )
    return Prepared(items, tuple(dict.fromkeys(notes)))


def _completed(selection: Selection, wanted: Sequence[Scenario], ways: Sequence[rounds.Way]) -> dict[Scenario, Chosen]:
    """Return what was chosen, in the round's order, with what may be inferred where no performance test was run."""
    chosen = dict(selection.chosen)
    for scenario in wanted:
        was_run = scenario in chosen or selection.lacks[scenario].why
        if not was_run and (inferred := inference.infer(scenario, chosen, ways)):
            chosen[scenario] = inferred
    return {scenario: chosen[scenario] for scenario in wanted if scenario in chosen}


def _lacking(
    entry: Entry,
    benchmark: str,
    system: str,
    chosen: dict[Scenario, Chosen],
    selection: Selection,
    passed_over: Sequence[str],
) -> list[RequestError]:
    """Say of each scenario that is missing what it lacks, and why the runs that there are do not fill it."""
    model = _model(entry, benchmark)
    found = []
    for names in model.scenarios(entry.system_type).missing([scenario.value for scenario in chosen]):
        lacks = [selection.lacks[each] for each in selection.lacks if each in names.split(" or ")]
        why = [*(line for lack in lacks for line in lack.why), *passed_over]
        more = [f"... and {len(why) - SHOWN} more"] if len(why) > SHOWN else []
        what = lacks[0].missing if lacks else ()
        found.append(
            RequestError(
                f"{_missing_in_words(what)} on {system}",
                where=f"{benchmark} {names}",
                mend="\n  ".join([*why[:SHOWN], *more, _way_out(entry, benchmark)]),
            )
        )
    return found


def _missing_in_words(missing: Sequence[str]) -> str:
    if len(missing) == 1:
        what = "accuracy run" if missing[0] == TestMode.ACCURACY_ONLY else missing[0]
        return f"has no {what} that belongs to its performance run"
    return "has no performance run that fits"


def _way_out(entry: Entry, benchmark: str) -> str:
    flags = f"--benchmarks={benchmark} --division={entry.division} --category={entry.category}"
    return f'make submission RUN_ARGS="{flags}{" --rehearsal" if entry.rehearsal else ""}" runs what is missing'


def _verify(runs: Iterable[Run]) -> None:
    mistakes = []
    for run in {run.folder: run for run in runs}.values():
        try:
            verify(run)
        except RequestError as error:
            mistakes.append(error)
    if mistakes:
        raise Mistakes(mistakes)


def described(entry: Entry, machine: Machine, system: str, engines: Iterable[str]) -> str:
    """Return systems/<id>.json: what was found of the machine, what a person says of it, and the entry.

    Raises RequestError for fields without which a submission is refused; a rehearsal says that they are unknown.
    """
    told = systems.read_all().get(system)
    each = [description.describe(machine, told, engine=engine) for engine in engines]
    fields = {name: value.text for name, value in each[0].items()}
    fields["framework"] = ", ".join(dict.fromkeys(one["framework"].text for one in each if one["framework"].text))
    fields |= {
        "submitter": entry.submitter,
        "division": entry.division,
        "system_type": entry.system_type,
        "status": told.description["status"].text if told and "status" in told.description else entry.status,
    }
    missing = [name for name in description.REQUIRED if not fields.get(name)]
    if entry.rehearsal:
        fields |= dict.fromkeys(missing, UNKNOWN_HERE)
        fields["sw_notes"] = " ".join(filter(None, (NOTICE, fields.get("sw_notes", ""))))
    elif missing:
        where = display(told.path) if told else f"systems/{system}.yaml"
        raise RequestError(
            f"a submission needs these fields of the system's description: {', '.join(sorted(missing))}",
            where=where,
            mend="say them there, in `description:`"
            if told
            else "make add_system writes that file, with the blanks to fill in",
        )
    return msgspec.json.format(msgspec.json.encode(fields), indent=2).decode() + "\n"


def _machine(run: Run) -> Machine:
    try:
        return msgspec.convert(run.machine, Machine)
    except msgspec.ValidationError as error:
        raise RequestError(f"describes no machine: {error}", where=f"{run.name}/env.json") from None


def benchmarks_of(asked: str | None) -> list[str]:
    """Return the benchmarks that a comma list names, by default MLPerf's. Raises RequestError for an unknown one."""
    known = registry.find("benchmarks")
    if not asked:
        return [name for name, plugin in known.items() if plugin.load().BENCHMARK.mlperf]
    names = [name.strip() for name in asked.split(",") if name.strip()]
    for name in names:
        if name not in known:
            raise RequestError(f"unknown benchmark {name}", where="--benchmarks", mend=did_you_mean(name, known))
    return list(dict.fromkeys(names))
