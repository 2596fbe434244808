"""From runs to an archive that can be handed in: stage, cut logs short, check, pack, export; or all at once."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import msgspec

from engineroom import run_args, terminal, versions
from engineroom.actions import audits, missing, plan, rulebook, run
from engineroom.actions.missing import Piece
from engineroom.actions.staging import Prepared, benchmarks_of, described, prepare
from engineroom.actions.work import Work
from engineroom.actions.works import works
from engineroom.config import fields
from engineroom.errors import EngineError, ExitCode, Mistakes, RequestError
from engineroom.paths import ROOT, SUBMISSION, display, typed
from engineroom.rounds import read as read_round
from engineroom.run_args import Request
from engineroom.runs import Result
from engineroom.steps import report
from engineroom.steps.audit import TRIES
from engineroom.steps.estimate import NOTHING
from engineroom.steps.submission import official, pack, privacy, rehearsal, scrub, stage, truncate
from engineroom.steps.submission.choose import Run, read_runs, unnamed
from engineroom.steps.submission.documents import result_in_words, retraining
from engineroom.steps.submission.entry import NOTICE, REHEARSAL, Entry, Settings, entry_of, read_settings
from engineroom.steps.submission.layout import Tree
from engineroom.steps.submission.validate import whole
from engineroom.steps.submission.validate.findings import Finding, Level
from engineroom.steps.submission.validate.rulebook import RULES
from engineroom.systems import detect
from engineroom.terms import TestMode

WHO = {
    "submitter=NAME": "organization that submits; default: `submitter` in configs/submission.yaml",
    "division=closed|open": "division; default: open",
    "category=edge|datacenter|both": "category of the system; default: edge",
    "round=ROUND": f"round of MLPerf Inference; default: {fields.defaults()['round']}",
    "rehearsal": "work on the rehearsal, which is marked as one everywhere, instead of a submission",
}
WHAT = {
    "status=available|preview|rdi": "availability of the system, unless systems/<id>.yaml says it; default: available",
    "retraining=no|yes": "whether a model of your own (--model_path) was trained further; MLPerf asks for it",
    "public=WORD,...": "words that may be published although they name this user, machine or network",
}
WHICH = {
    "benchmarks=LIST": "comma list of benchmarks; default: MLPerf's that have runs",
    "system=ID": "id of the system whose runs count; default: this machine's",
}
OFFICIAL = {"official=PATH": "let MLCommons' checker judge, too, from this checkout of mlcommons/inference"}
SETTINGS = Settings.__struct_fields__
ORIGINALS, EXPORTED = "originals", ".exported.json"
ERRORS_SHOWN = 20


def stage_results(argv: Sequence[str]) -> int:
    """Choose the best runs that belong together, and lay them out as a submission. What is staged already stays."""
    asked = run_args.options(argv, {**WHO, **WHAT, **WHICH})
    entry = _entry(asked)
    system = asked.get("system") or detect().system
    names = benchmarks_of(asked.get("benchmarks"))
    if not asked.get("benchmarks"):
        names = [name for name in names if read_runs([name], system).runs] or names
    done = _stage(entry, names, system)
    if done.former_archive:
        terminal.note(f"the archive of the tree before it is {display(done.former_archive)} now")
    return ExitCode.GOOD


def truncate_results(argv: Sequence[str]) -> int:
    """Cut accuracy logs short as a submission wants them, with the hash of the whole; keep the whole ones beside."""
    asked = run_args.options(argv, {**WHO, "restore": "put the whole logs back"})
    entry = _entry(asked)
    with stage.held(entry):
        _truncate(entry, restore="restore" in asked)
    return ExitCode.GOOD


def export_submission(argv: Sequence[str]) -> int:
    """Copy the checked tree to where it is handed in, such as a checkout. What is there and not ours stays."""
    asked = run_args.options(argv, {**WHO, "to=PATH": "folder that gets closed/ or open/", **OFFICIAL})
    if not (to := asked.get("to")):
        raise RequestError("no folder is named", where=f"{run_args.WHERE}: --to", mend="--to=PATH")
    entry, target, judge = _entry(asked), typed(to).absolute(), _outside_judge(asked)
    with stage.held(entry):
        code = _checked(entry, judge)
        written = pack.export(entry.root, entry.folder, target, SUBMISSION / f"{entry.title}{EXPORTED}")
    terminal.note(f"exported {len(written):,} files to {target / entry.division / entry.submitter}; others were there")
    return code


def pack_submission(argv: Sequence[str]) -> int:
    """Check the tree, and pack it into an archive: the same tree gives the same bytes."""
    asked = run_args.options(argv, {**WHO, **OFFICIAL})
    entry, judge = _entry(asked), _outside_judge(asked)
    with stage.held(entry):
        code = _checked(entry, judge)
        _pack(entry)
    return code


def submission(argv: Sequence[str]) -> int:
    """Run what is missing, stage, cut the logs short, check and pack. What is there already is not done again.

    With --plan, only say what is missing, and for how many hours it will run. With --rehearsal, do all of it with short
    tests, marked as a rehearsal everywhere.
    """
    extras = {flag.partition("=")[0]: meaning for flag, meaning in {**WHO, **WHAT, **OFFICIAL}.items()}
    request, asked = works(argv, extras={name: text for name, text in extras.items() if name != "round"})
    entry, asked = _asked(request, asked)
    judge = _outside_judge(request.extras)
    lacking = [piece for work in asked for piece in missing.of(entry, work)]
    if lacking and not entry.rehearsal:
        _check_submittable(entry, request, lacking)
    if request.plan:
        return _plan(request, asked, lacking)
    if lacking:
        _run_missing(entry, request, lacking)
    by_name = {work.benchmark.name: work for work in asked}

    def counts(each: Run) -> bool:
        return missing.as_asked(each, by_name[each.config.benchmark], entry)

    _stage(entry, list(by_name), asked[0].system, counts)
    with stage.held(entry):
        _truncate(entry)
        code = _checked(entry, judge)
        _pack(entry)
    return code


def _entry(asked: Mapping[str, str | None]) -> Entry:
    """Return the entry that flags and configs/submission.yaml name."""
    settings = read_settings({name: value for name in SETTINGS if (value := asked.get(name)) is not None})
    round_name = asked.get("round") or str(fields.defaults()["round"])
    read_round(round_name)
    return entry_of(settings, round_name, rehearsal="rehearsal" in asked)


def _tree(entry: Entry) -> Tree:
    """Return where the entry's files lie. Raises RequestError if nothing is staged, or a rehearsal's was put there."""
    tree = stage.tree_of(entry)
    if not entry.folder.is_dir():
        raise RequestError(
            "nothing is staged there", where=display(entry.folder), mend="make stage_results stages runs"
        )
    if not entry.rehearsal and (signs := rehearsal.signs(entry.root, tree)):
        raise RequestError(
            f"holds a rehearsal, which is never submitted: {', '.join(signs)}",
            where=display(entry.folder),
            mend="stage real runs: make stage_results; --rehearsal works on the rehearsal",
        )
    return tree


def _stage(
    entry: Entry, names: Sequence[str], system: str, counts: Callable[[Run], bool] = lambda run: True
) -> stage.Staged:
    prepared = prepare(entry, names, system, counts)
    done = stage.stage(entry, prepared.items, privacy.of_this_machine())
    _show_staged(entry, prepared)
    for name, value in {each.placeholder: each.told for each in done.replaced}.items():
        count = sum(each.placeholder == name for each in done.replaced)
        terminal.note(f"replaced {value} by {name}, {count} times", hanging=2)
    if entry.rehearsal:
        terminal.note(NOTICE)
    terminal.note(f"staged {display(done.folder)}")
    return done


def _show_staged(entry: Entry, prepared: Prepared) -> None:
    rules = read_round(entry.round).inferred
    rows = [
        (
            f"{item.benchmark.name} {scenario}" + (f", by {chosen.inferred_from}" if chosen.inferred_from else ""),
            result_in_words(chosen, scenario, rules),
            "\n".join(each.folder.name for each in chosen.all_runs),
        )
        for item in prepared.items
        for scenario, chosen in item.chosen.items()
    ]
    title = f"{entry.round} {entry.division} {entry.submitter}{', ' + REHEARSAL if entry.rehearsal else ''}"
    terminal.table(title, ("Result", "Figure", "From build/runs"), rows, whole=("Result",))
    for note in prepared.notes:
        terminal.note(note, hanging=2)


def _truncate(entry: Entry, *, restore: bool = False) -> None:
    tree = _tree(entry)
    originals, limits = SUBMISSION / ORIGINALS / entry.name, read_round(entry.round).limits
    done = (truncate.restore if restore else truncate.truncate)(entry.root, entry.root / tree.folder, originals, limits)
    for state in dict.fromkeys(each.state for each in done):
        terminal.note(f"{sum(each.state == state for each in done)} accuracy logs: {state}")
    terminal.note(f"the whole logs are in {display(originals)}")


def _outside_judge(asked: Mapping[str, str | None]) -> official.Checker | None:
    """Return MLCommons' checker if it is asked for. Raises RequestError if it is not there: before hours of work."""
    checkout = asked.get("official")
    return official.find(typed(checkout).absolute()) if checkout else None


def _checked(entry: Entry, judge: official.Checker | None) -> ExitCode:
    """Let the validator judge the tree; return the exit code that MLCommons' checker, if it is asked, leaves.

    Raises Mistakes for what is wrong; of a rehearsal, what it may not fall short of.
    """
    tree = _tree(entry)
    verdict = whole.validate(entry.folder, entry.round)
    errors, may_break = verdict.of(Level.ERROR), rehearsal.MAY_BREAK if entry.rehearsal else frozenset[str]()
    if wrong := [each for each in errors if each.rule not in may_break]:
        raise Mistakes(_in_words(wrong, entry))
    folder = entry.root / tree.folder
    stage.refuse(scrub.scrub(folder, entry.root / tree.code, stage.scrubber_of(entry), change=False))
    for rule, count in sorted(Counter(each.rule for each in errors).items()):
        terminal.note(f"not met, as a rehearsal may: {rule}, {count} times: {RULES[rule].checks}", hanging=2)
    if doubtful := len(verdict.of(Level.WARNING)):
        terminal.note(f"{doubtful} warnings: {_show_all(entry)}")
    rest = "in everything else " if errors else ""
    terminal.note(f"checked {display(entry.folder)}: {rest}it is as {entry.round} asks for")
    return _judged(entry, judge) if judge else ExitCode.GOOD


def _in_words(findings: Sequence[Finding], entry: Entry) -> list[RequestError]:
    told = [
        RequestError(f"found {each.found}, expected {each.expected} ({each.rule})", where=each.where, mend=each.mend)
        for each in findings[:ERRORS_SHOWN]
    ]
    more = len(findings) - len(told)
    return [*told, *([RequestError(f"and {more} more", mend=_show_all(entry))] if more else [])]


def _show_all(entry: Entry) -> str:
    return f'make check_submission RUN_ARGS="{display(entry.folder)} --round={entry.round} --all" shows all'


def _judged(entry: Entry, judge: official.Checker) -> ExitCode:
    """Show the verdict of MLCommons' checker. A rehearsal's tests are too short for it: that counts for nothing."""
    csv = SUBMISSION / f"{entry.title}.official.csv"
    verdict = judge.check(entry.root, entry.round, entry.submitter, csv)
    terminal.note(f"MLCommons' checker {'accepts it' if verdict.accepted else 'refuses it'}:")
    lines = (*_first(verdict.errors), *_first([f"warning: {each}" for each in verdict.warnings]), *verdict.summary)
    for line in lines:
        terminal.note(f"  {line}", hanging=4)
    return ExitCode.GOOD if verdict.accepted or entry.rehearsal else ExitCode.INVALID


def _first(lines: Sequence[str]) -> list[str]:
    more = len(lines) - ERRORS_SHOWN
    return [*lines[:ERRORS_SHOWN], *([f"and {more:,} more"] if more > 0 else [])]


def _pack(entry: Entry) -> None:
    sha256 = pack.pack(entry.root, entry.folder, entry.archive)
    size = terminal.size(entry.archive.stat().st_size)
    terminal.note(f"packed {display(entry.archive)}, {size}, SHA-256 {sha256}")


# The whole way


def _asked(request: Request, asked: Sequence[Work]) -> tuple[Entry, list[Work]]:
    """Return the entry, and the work on the scenarios that count."""
    flags = {name: request.extras[name] for name in SETTINGS if name in request.extras}
    settings = read_settings(flags)
    wanted: list[Work] = []
    entries: dict[str, Entry] = {}
    for work in asked:
        first = work.resolve(work.scenarios[0], TestMode.PERFORMANCE_ONLY)
        entry = entry_of(settings, first.config.round, rehearsal=REHEARSAL in request.extras)
        entries[entry.round] = entry
        retraining(work.benchmark, entry)  # asked now, not after hours
        scenarios = missing.counted(entry, work, request.scenarios)
        wanted.append(replace(work, request=replace(work.request, scenarios=scenarios)))
    if len(entries) > 1:
        raise RequestError(f"one submission is of one round, not of {' and '.join(entries)}", where="round")
    return next(iter(entries.values())), wanted


def _check_submittable(entry: Entry, request: Request, lacking: Sequence[Piece]) -> None:
    """Refuse what no run could mend: it is said now, not after hours. Raises Mistakes."""
    wrong: list[RequestError] = []
    if not request.plan and (why := unnamed(versions.git_revision())):
        wrong.append(RequestError(f"what is missing would be run {why}", where=str(ROOT)))
    lines = rulebook.refused([piece.work for piece in lacking], entry.division)
    wrong += [RequestError(f"cannot go to the {entry.division} division: {line}", where="--division") for line in lines]
    first = lacking[0].work
    configs = [piece.work.resolve(piece.work.scenarios[0], TestMode.PERFORMANCE_ONLY).config for piece in lacking]
    try:
        described(entry, first.machine, first.system, dict.fromkeys(config.engine for config in configs))
    except RequestError as error:
        wrong.append(error)
    if wrong:
        raise Mistakes(wrong)


def _run_missing(entry: Entry, request: Request, lacking: Sequence[Piece]) -> None:
    """Run what is missing. Raises EngineError if a test fails, RequestError if what comes out cannot be submitted."""
    terminal.say(f"missing: {'; '.join(map(str, lacking))}")
    planned = plan.of_run(replace(request, plan=True), *missing.planned(lacking))
    terminal.say(f"this will take {plan.seconds_in_words(planned)}")
    tests = [piece.work for piece in lacking if piece.work.request.test_modes]
    code = run.run_works(request, tests) if tests else ExitCode.GOOD
    if code == ExitCode.INVALID and not entry.rehearsal:
        raise RequestError(
            "a run is INVALID or misses its accuracy target, so it cannot be submitted",
            mend="see the table above; change the settings, and type the same command again: what is good is kept",
        )
    if code not in (ExitCode.GOOD, ExitCode.INVALID):
        raise EngineError("a test failed", mend="see above; type the same command again: what is good is kept")
    results = [result for piece in lacking for result in _audited(entry, piece)]
    if results:
        report.print_audits(results)
    if failed := [result.run for result in results if result.audit and not result.audit.passed and not entry.rehearsal]:
        raise RequestError(f"an audit did not pass: {', '.join(failed)}", mend="see the table above")


def _audited(entry: Entry, piece: Piece) -> Iterator[Result]:
    if piece.tests:
        both = replace(piece.work.request, test_modes=Request.test_modes)
        work = replace(piece.work, request=both)
        yield from audits.of_scenario(audits.Task(work, work.scenarios[0], piece.tests, rehearses=entry.rehearsal))


def _plan(request: Request, asked: Sequence[Work], lacking: Sequence[Piece]) -> int:
    """Say what is missing and how long it will run."""
    absent = {(piece.work.benchmark.name, piece.work.scenarios[0]) for piece in lacking}
    counted = [(work.benchmark.name, scenario) for work in asked for scenario in work.scenarios]
    ready = [f"{name} {scenario}" for name, scenario in counted if (name, scenario) not in absent]
    tests, audited = missing.planned(lacking)
    found = plan.of_run(request, tests, audited) if lacking else None
    if request.json:
        told = {"missing": list(map(str, lacking)), "ready": ready, "hours": _hours(found)}
        print(json.dumps({**told, "plan": msgspec.to_builtins(found)}, indent=1))
        return ExitCode.GOOD
    code: int = ExitCode.GOOD
    if lacking:
        run.check(request, [*tests, *(each.work for each in audited)])
        code = plan.running(request, tests, audited)
    terminal.note(f"Ready: {', '.join(ready) or 'nothing'}.")
    terminal.note(f"Missing: {'; '.join(map(str, lacking)) or 'nothing'}.")
    if found:
        tries = ", ".join(f"{test} up to {count} times" for test, count in TRIES.items())
        again = f" The most counts audits that fail and are run again, {tries}." if audited else ""
        terminal.note(f"To run: {plan.seconds_in_words(found)}.{again}")
    return code


def _hours(found: plan.Plan | None) -> dict[str, float | None]:
    """Return the least and the most hours that a plan takes; None where nothing says how much it can become."""
    seconds = found.total.seconds if found else NOTHING
    return {
        "least": round(seconds.least / 3600, 3),
        "most": None if seconds.most is None else round(seconds.most / 3600, 3),
    }
