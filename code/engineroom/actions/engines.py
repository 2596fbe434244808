"""From model and data to engines: fetch, preprocess, calibrate, build."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from engineroom import registry, run_args, terminal
from engineroom.actions import observers, plan
from engineroom.actions.work import Kind, Need, Todo, Way, Work
from engineroom.actions.works import works
from engineroom.benchmarks import Part
from engineroom.datasets import Dataset
from engineroom.errors import ExitCode, Mistakes, RequestError, did_you_mean
from engineroom.paths import display, typed
from engineroom.run_args import Request
from engineroom.steps import estimate, fetch
from engineroom.steps.fetch import State, Wanted
from engineroom.terms import TestMode

FROM = {"from": "a file or folder that has what is asked for: it is verified and linked, never copied"}
ACCEPT = {"accept_licence": "comma list of data sets and models whose licences you accept"}


def download_model(argv: Sequence[str]) -> int:
    """Make sure that each benchmark's model is here and is the right one."""
    request, asked = works(argv, extras={**FROM, **ACCEPT})
    wanted = [(work, fetch.model_wanted(work.benchmark)) for work in asked]
    if request.plan:
        return _planned(request, wanted, Kind.MODEL)
    _bring(request, wanted)
    return _right((work.benchmark.model_file()[0], work.model_sha256, work) for work in asked)


def download_data(argv: Sequence[str]) -> int:
    """Make sure that each benchmark's data is here and is the right one."""
    request, asked = works(argv, extras={**FROM, **ACCEPT})
    datasets = [Dataset(work.benchmark.dataset) for work in asked]
    wanted = [(work, fetch.data_wanted(dataset, work.benchmark)) for work, dataset in zip(asked, datasets, strict=True)]
    if request.plan:
        return _planned(request, wanted, Kind.DATA)
    _bring(request, wanted)
    return _right((path, sha256, work) for work in asked for path, sha256 in work.data.items())


def _bring(request: Request, wanted: Sequence[tuple[Work, Sequence[Wanted]]]) -> None:
    """Fetch or register what is missing, each file once, however many benchmarks want it.

    Nothing is fetched for a benchmark that was not named: it could be gigabytes.
    """
    files = {each.place: each for _, several in wanted for each in several}
    asked = {work.benchmark.name for work, _ in wanted}
    if not request.benchmarks and (others := [name for name in registry.find("benchmarks") if name not in asked]):
        terminal.say(f"not here and not asked for: {', '.join(others)} (--benchmarks=NAME fetches what it needs)")
    accepted = _accepted(request, files.values())
    if "from" in request.extras and not files:
        terminal.say("what was asked for is shipped or made here: --from is not used for that")
    for line in fetch.bring(list(files.values()), given=_given(request), accepted=accepted):
        terminal.say(line)


def _planned(request: Request, wanted: Sequence[tuple[Work, Sequence[Wanted]]], kind: Kind) -> int:
    """Show what is here and what would be fetched or registered. What is shipped is checked as ever.

    Raises Mistakes, after the plan, with what keeps a file from coming here.
    """
    given, todo = _given(request), {}
    accepted = _accepted(request, (each for _, files in wanted for each in files))
    right: list[Wanted] = []
    for work, files in wanted:
        for each, state in zip(files, fetch.states(files, remember=False), strict=True):
            right += [each] if state is State.RIGHT else []
            need = Need(kind, f"{work.benchmark.name}, {each.place.name}")
            if state is not State.RIGHT:
                need, todo[each.place] = replace(need, todo=_todo(each, state, given)), each
            work.needs[each.result] = need
        if not any(need.todo for need in work.needs.values()):
            _ = work.model_sha256 if kind is Kind.MODEL else work.data
    if given and (words := fetch.not_used(right, given)):
        terminal.say(words)
    code = plan.making(request, [work for work, _ in wanted])
    if refusals := fetch.refusals(todo.values(), given=given, accepted=accepted):
        raise Mistakes(refusals)
    return code


def _todo(wanted: Wanted, state: State, given: Path | None) -> Todo:
    size, unpacked = fetch.missing_bytes(wanted, state)
    if state is State.HERE:
        cost = estimate.registering(wanted.place.stat().st_size, unpacked=unpacked)
        return Todo(Way.REGISTER, "it is here, and is still to be verified", cost)
    if given:
        why = f"from {display(given)}, if it is there"
        return Todo(Way.REGISTER, why, estimate.registering(size, unpacked=unpacked))
    if not wanted.file.sources:
        why = f"its owner hands it out to registered users only, under {wanted.licence.name}"
        return Todo(Way.BY_HAND, why, estimate.registering(size, unpacked=unpacked))
    under = f", under {wanted.licence.name}" if wanted.licence.accept else ""
    cost = estimate.fetching(size, unpacked=unpacked, about=bool(wanted.file.about_bytes))
    return Todo(Way.FETCH, f"it is not here{under}", cost)


def _accepted(request: Request, files: Iterable[Wanted]) -> list[str]:
    """Return whose licences the user accepts. Raises RequestError for a name that none of the files has."""
    accepted = [name.strip() for name in request.extras.get("accept_licence", "").split(",")]
    licences = {each.owner: each.licence for each in files}
    if unknown := [name for name in accepted if name and name not in licences]:
        owners = sorted(owner for owner, licence in licences.items() if licence.accept)
        where = f"{run_args.WHERE}: --accept_licence"
        raise RequestError(f"nothing here is {unknown[0]}'s", where=where, mend=did_you_mean(unknown[0], owners))
    return accepted


def _given(request: Request) -> Path | None:
    """Return the file or folder that --from names. Raises RequestError if there is none."""
    text, where = request.extras.get("from"), f"{run_args.WHERE}: --from"
    if text is None:
        return None
    if not text.strip():
        raise RequestError("is empty", where=where, mend="leave it out, or name a file or folder")
    if not typed(text).exists():
        raise RequestError(f"{display(typed(text))} is not there", where=where)
    return typed(text)


def _right(files: Iterable[tuple[Path, str, Work]]) -> int:
    for path, sha256, work in files:
        print(f"{work.benchmark.name}: {display(path)} is right ({sha256[:12]})")
    return ExitCode.GOOD


def preprocess_data(argv: Sequence[str]) -> int:
    """Write the arrays that the harness maps into memory and those that calibration reads.

    What is wrong with one part keeps no other from being made: all that is wrong is told in one pass.
    """
    request, asked = works(argv, explain=True)
    mistakes: dict[str, RequestError] = {}
    for work in asked:
        for make in _parts_of(work):
            try:
                make()
            except RequestError as error:
                mistakes.setdefault(str(error), error)
    if mistakes:
        raise Mistakes(mistakes.values())
    return plan.making(request, asked) if request.plan else ExitCode.GOOD


def _parts_of(work: Work) -> Iterator[Callable[[], object]]:
    if work.benchmark.is_calibrated and not work.lacks_calibration_data:
        yield work.calibration_samples
    yield partial(work.part, Part.EVALUATION)


def calibrate(argv: Sequence[str]) -> int:
    """Write one quantized model per benchmark; with --compare_observers one by each observer, and compare them."""
    request, asked = works(argv, explain=True, extras=observers.FLAGS)
    if not request.benchmarks:
        asked = [work for work in asked if work.benchmark.is_calibrated]
    if observers.FLAG in request.extras:
        observers.compare(request, asked)
    else:
        for work in asked:
            work.calibration(work.resolve(work.scenarios[0], TestMode.PERFORMANCE_ONLY).config)
    return plan.making(request, asked) if request.plan else ExitCode.GOOD


def generate_engines(argv: Sequence[str]) -> int:
    """Build the engine of each benchmark and scenario."""
    request, asked = works(argv, explain=True)
    build_engines(asked)
    return plan.making(request, asked) if request.plan else ExitCode.GOOD


def build_engines(asked: Iterable[Work]) -> None:
    """Build the engine of each scenario that is asked for, in the best precision."""
    for work in asked:
        for scenario in work.scenarios:
            resolved = work.resolve(scenario, TestMode.PERFORMANCE_ONLY)
            work.check_installed(resolved.config)
            work.best_precision(resolved)
