"""Scores accuracy runs again, from what their folders hold: LoadGen's log and the right answers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from engineroom import responses, run_args, runs, terminal
from engineroom.actions.execute import benchmark_of
from engineroom.errors import ExitCode, Mistakes, RequestError
from engineroom.paths import display, sha256_file, typed
from engineroom.runs import AccuracyResult, Result
from engineroom.steps import accuracy
from engineroom.terms import SCORED

FLAGS = {
    "FOLDER ...": "folders of accuracy runs, such as build/runs/20260101T120000.000Z-...-AccuracyOnly",
    "json": "print JSON instead of a table",
}
COLUMNS = ("Run", "Accuracy (target)", "Recorded")
COMPARED = ("metric", "value", "good", "total", "target", "met")


class Scored(msgspec.Struct, frozen=True, kw_only=True):
    """A run that was scored again. `differs` names what result.json says otherwise; it stays as it is."""

    run: str
    accuracy: AccuracyResult
    recorded: AccuracyResult | None
    differs: tuple[str, ...]


def score(argv: Sequence[str]) -> int:
    """Score accuracy runs again from their logs, and compare with what was recorded. No run is changed."""
    if run_args.asks_help(argv):
        raise run_args.Help(FLAGS)
    asked = run_args.options([word for word in argv if word.startswith("--")], {"json": FLAGS["json"]})
    folders = [typed(word).absolute() for word in argv if not word.startswith("--")]
    if not folders:
        mend = 'name one: make score RUN_ARGS="build/runs/FOLDER"'
        raise RequestError("no run is named", where=run_args.WHERE, mend=mend)
    _check(folders)
    found = [_score(folder) for folder in folders]
    if "json" in asked:
        print(json.dumps(msgspec.to_builtins(found), indent=1))
    else:
        _print(found)
    return ExitCode.GOOD if all(each.accuracy.met and not each.differs for each in found) else ExitCode.INVALID


def _check(folders: Iterable[Path]) -> None:
    """Refuse what is no accuracy run, or whose files are no longer those that it wrote: all of them at once."""
    mistakes = []
    for folder in folders:
        try:
            _check_run(folder)
        except RequestError as error:
            mistakes.append(error)
    if mistakes:
        raise Mistakes(mistakes)


def _check_run(folder: Path) -> None:
    if runs.read_config(folder).config.test_mode not in SCORED:
        raise RequestError("is no accuracy run", where=display(folder), mend="name one that ends in AccuracyOnly")
    recorded = runs.read_result(folder)
    for name in (responses.LOG, accuracy.LABELS):
        path = folder / name
        if not path.is_file():
            raise RequestError("is not there, so nothing can be scored", where=display(path))
        wanted = recorded.checksums.get(name) if recorded else None
        if wanted and sha256_file(path) != wanted:
            raise RequestError(
                f"is not what the run wrote: its SHA-256 is not the one in {runs.RESULT}",
                where=display(path),
                mend="restore it, or run the test again",
            )


def _score(folder: Path) -> Scored:
    result = runs.read_result(folder)
    again = accuracy.score_again(benchmark_of(runs.read_config(folder).config), folder)
    recorded = result.accuracy if result else None
    return Scored(run=display(folder), accuracy=again, recorded=recorded, differs=_differences(recorded, again, result))


def _differences(recorded: AccuracyResult | None, again: AccuracyResult, result: Result | None) -> tuple[str, ...]:
    if recorded is None:
        return (f"{runs.RESULT} has no accuracy",) if result else ()
    pairs = [(name, getattr(recorded, name), getattr(again, name)) for name in COMPARED]
    return tuple(f"{name} was {before}, is {now}" for name, before, now in pairs if before != now)


def _print(found: Sequence[Scored]) -> None:
    terminal.table("Scored again", COLUMNS, [_row(each) for each in found])
    for each in found:
        for difference in each.differs:
            terminal.note(f"{each.run}: {difference}")
        terminal.note(f"wrote {each.run}/{accuracy.RESCORED}/{accuracy.ACCURACY}")


def _row(each: Scored) -> tuple[str, str, str]:
    now = each.accuracy
    target = f" ({now.target:.3f}{now.unit}) {'met' if now.met else 'missed'}" if now.target else " (no target)"
    recorded = "differs" if each.differs else "the same" if each.recorded else "nothing: the run did not finish"
    return each.run, f"{now.value:.3f}{now.unit}{target}", recorded
