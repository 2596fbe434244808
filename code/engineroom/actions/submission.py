"""From runs to an archive that can be handed in: stage, cut the logs short, check, pack, export; or all of it at once."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

import msgspec

from engineroom import run_args, terminal, versions
from engineroom.actions import plan, run
from engineroom.actions.staging import Prepared, benchmarks_of, prepare, scenarios_of
from engineroom.actions.work import Work
from engineroom.actions.works import works
from engineroom.artifacts import agree
from engineroom.config import fields
from engineroom.errors import ExitCode, Mistakes, RequestError
from engineroom.paths import SUBMISSION, display, typed
from engineroom.rounds import read as read_round
from engineroom.run_args import Request
from engineroom.steps.submission import check, official, pack, scrub, stage, truncate
from engineroom.steps.submission.choose import UNTOLD, Run, read_runs, select
from engineroom.steps.submission.documents import result_in_words
from engineroom.steps.submission.entry import NOTICE, REHEARSAL, Entry, Settings, entry_of, read_settings
from engineroom.steps.submission.layout import Tree
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
    "public=WORD,...": "words that may be published although they name this user, machine or network",
}
WHICH = {
    "benchmarks=LIST": "comma list of benchmarks; default: MLPerf's that have runs",
    "system=ID": "id of the system whose runs count; default: this machine's",
}
OFFICIAL = {"official=PATH": "let MLCommons' checker judge, too, from this checkout of mlcommons/inference"}
SETTINGS = Settings.__struct_fields__
ORIGINALS, EXPORTED = ".originals", ".exported.json"
ERRORS_SHOWN = 20

# How short a rehearsal's tests are, unless flags say otherwise.
SHORT = {"min_duration": "1000", "min_query_count": "64"}


def stage_results(argv: Sequence[str]) -> int:
    """Choose the best runs that belong together, and lay them out as a submission. What is staged already stays."""
    asked = run_args.options(argv, {**WHO, **WHAT, **WHICH})
    entry = _entry(asked)
    system = asked.get("system") or detect().system
    names = benchmarks_of(asked.get("benchmarks"))
    if not asked.get("benchmarks"):
        names = [name for name in names if read_runs([name], system).runs] or names
    _stage(entry, names, system)
    return ExitCode.GOOD


def truncate_results(argv: Sequence[str]) -> int:
    """Cut accuracy logs short as a submission wants them, with the hash of the whole; keep the whole ones beside."""
    asked = run_args.options(argv, {**WHO, "restore": "put the whole logs back"})
    entry = _entry(asked)
    _truncate(entry, restore="restore" in asked)
    return ExitCode.GOOD


def export_submission(argv: Sequence[str]) -> int:
    """Copy the checked tree to where it is handed in, such as a checkout. What is there and not ours stays."""
    asked = run_args.options(argv, {**WHO, "to=PATH": "folder that gets closed/ or open/", **OFFICIAL})
    if not (to := asked.get("to")):
        raise RequestError("no folder is named", where=f"{run_args.WHERE}: --to", mend="--to=PATH")
    entry, target = _entry(asked), typed(to).absolute()
    code = _checked(entry, asked.get("official"))
    written = pack.export(entry.root, entry.folder, target, SUBMISSION / f"{entry.title}{EXPORTED}")
    terminal.note(f"exported {len(written):,} files to {target / entry.division / entry.submitter}; others were there")
    return code


def pack_submission(argv: Sequence[str]) -> int:
    """Check the tree, and pack it into an archive: the same tree gives the same bytes."""
    asked = run_args.options(argv, {**WHO, **OFFICIAL})
    entry = _entry(asked)
    code = _checked(entry, asked.get("official"))
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
    missing = [work for each in asked for work in _missing(entry, each)]
    if request.plan:
        return _plan(entry, request, asked, missing)
    if missing:
        _run_missing(entry, request, missing)
    _stage(entry, [work.benchmark.name for work in asked], asked[0].system)
    _truncate(entry)
    code = _checked(entry, request.extras.get("official"))
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
    signs = check.rehearsed(entry.root, tree)
    if signs and not entry.rehearsal:
        raise RequestError(
            f"holds a rehearsal, which is never submitted: {', '.join(signs)}",
            where=display(entry.folder),
            mend="stage real runs: make stage_results; --rehearsal works on the rehearsal",
        )
    return tree


def _stage(entry: Entry, names: Sequence[str], system: str) -> None:
    prepared = prepare(entry, names, system)
    done = stage.stage(entry, prepared.items, scrub.of_this_machine())
    _show_staged(entry, prepared)
    for name, value in dict.fromkeys((each.placeholder, each.value) for each in done.replaced):
        count = sum(each.placeholder == name for each in done.replaced)
        terminal.note(f"replaced {value} by {name}, {count} times", hanging=2)
    if entry.rehearsal:
        terminal.note(NOTICE)
    terminal.note(f"staged {display(done.folder)}")


def _show_staged(entry: Entry, prepared: Prepared) -> None:
    rules = read_round(entry.round).inferred
    rows = [
        (
            f"{item.benchmark.name} {scenario}" + (f", by {chosen.inferred_from}" if chosen.inferred_from else ""),
            result_in_words(chosen, scenario, rules),
            "\n".join(
                [*(each.folder.name for each in chosen.runs), *(path.parent.name for path in chosen.audits.values())]
            ),
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
    originals, limits = SUBMISSION / f"{entry.name}{ORIGINALS}", read_round(entry.round).limits
    done = (truncate.restore if restore else truncate.truncate)(entry.root, entry.root / tree.folder, originals, limits)
    for state in dict.fromkeys(each.state for each in done):
        terminal.note(f"{sum(each.state == state for each in done)} accuracy logs: {state}")
    terminal.note(f"the whole logs are in {display(originals)}")


def _checked(entry: Entry, checkout: str | None) -> ExitCode:
    """Check the tree; return the exit code that MLCommons' checker, if it is asked, leaves. Raises Mistakes."""
    tree = _tree(entry)
    if wrong := check.problems(entry.root, tree, read_round(entry.round), entry):
        raise Mistakes(wrong)
    folder = entry.root / tree.folder
    stage.refuse(scrub.scrub(folder, entry.root / tree.code, stage.private_words(entry), change=False))
    terminal.note(f"checked {display(entry.folder)}: it has what {entry.round} asks for")
    return _judged(entry, checkout) if checkout is not None else ExitCode.GOOD


def _judged(entry: Entry, checkout: str) -> ExitCode:
    """Show the verdict of MLCommons' checker. That of a rehearsal, whose tests are too short for it, counts for nothing."""
    csv = SUBMISSION / f"{entry.title}.official.csv"
    verdict = official.check(typed(checkout).absolute(), entry.root, entry.round, entry.submitter, csv)
    terminal.note(f"MLCommons' checker {'accepts it' if verdict.accepted else 'refuses it'}:")
    for line in (*verdict.errors[:ERRORS_SHOWN], *verdict.summary):
        terminal.note(f"  {line}", hanging=4)
    return ExitCode.GOOD if verdict.accepted or entry.rehearsal else ExitCode.INVALID


def _pack(entry: Entry) -> None:
    archive = SUBMISSION / f"{entry.title}.tar.gz"
    sha256 = pack.pack(entry.root, entry.folder, archive)
    terminal.note(f"packed {display(archive)}, {terminal.size(archive.stat().st_size)}, SHA-256 {sha256}")


# The whole way


def _asked(request: Request, asked: Sequence[Work]) -> tuple[Entry, list[Work]]:
    """Return the entry, and the work on the scenarios of the round. A rehearsal's tests are short."""
    rehearsal = REHEARSAL in request.extras
    flags = {name: request.extras[name] for name in SETTINGS if name in request.extras}
    settings = read_settings(flags)
    if rehearsal:
        asked = [
            replace(work, request=replace(work.request, overrides={**SHORT, **work.request.overrides}))
            for work in asked
        ]
    wanted: list[Work] = []
    entries: dict[str, Entry] = {}
    for work in asked:
        first = work.resolve(work.scenarios[0], TestMode.PERFORMANCE_ONLY)
        entry = entry_of(settings, first.config.round, rehearsal=rehearsal)
        entries[entry.round] = entry
        scenarios = request.scenarios or scenarios_of(entry, work.benchmark.name)
        wanted.append(replace(work, request=replace(work.request, scenarios=tuple(scenarios))))
    if len(entries) > 1:
        raise RequestError(f"one submission is of one round, not of {' and '.join(entries)}", where="round")
    return next(iter(entries.values())), wanted


def _missing(entry: Entry, work: Work) -> list[Work]:
    """Return the work that is still to be done: a piece for each scenario, with the tests that it lacks."""
    found = read_runs([work.benchmark.name], work.system)
    for each in found.passed_over:
        terminal.say(f"passed over: {each}")
    scenarios = work.scenarios
    fitting = [each for each in found.runs if _as_asked(each, work, entry)]
    if not (selection := select(fitting, entry, scenarios)).lacks:
        return []
    now = [each for each in fitting if each.revision == versions.git_revision() and _as_now(each, work)]
    selection = select(now, entry, scenarios)
    return [
        replace(work, request=replace(work.request, scenarios=(scenario,), test_modes=modes), needs={})
        for scenario, lack in selection.lacks.items()
        if (
            modes := tuple(mode for mode in (TestMode.PERFORMANCE_ONLY, TestMode.ACCURACY_ONLY) if mode in lack.missing)
        )
    ]


def _as_asked(each: Run, work: Work, entry: Entry) -> bool:
    """Tell whether a run has the settings that flags ask for. How long it lasted is the rules' matter."""
    benchmark = work.benchmark
    if (each.config.dataset, each.config.weights) != (benchmark.dataset, benchmark.weights):
        return False
    if (each.config.model_path or None) != (str(benchmark.own_model) if benchmark.own_model else None):
        return False
    if each.config.scenario not in work.scenarios:
        return False
    mode = each.config.test_mode
    wanted = work.resolve(each.config.scenario, mode).config
    names = [name for name in work.request.overrides if not fields.about(name).loadgen and name not in UNTOLD]
    names = [name for name in names if not (name == "round" and entry.rehearsal)]
    auto = {"auto"}
    return all(getattr(wanted, name) in auto or getattr(each.config, name) == getattr(wanted, name) for name in names)


def _as_now(each: Run, work: Work) -> bool:
    """Tell whether a run was made with what would be run now: settings, model, engine, samples."""
    planned = replace(work, request=replace(work.request, plan=True), needs={})
    resolved, engine = planned.best_precision(planned.resolve(each.config.scenario, each.config.test_mode))
    names = [name for name in fields.names() if not fields.about(name).loadgen and name not in (*UNTOLD, "round")]
    same = all(getattr(resolved.config, name) == getattr(each.config, name) for name in names)
    return same and agree(each.result.made_from, engine.inputs)


def _in_words(work: Work) -> str:
    kinds = {TestMode.PERFORMANCE_ONLY: "performance", TestMode.ACCURACY_ONLY: "accuracy"}
    return f"{work.benchmark.name} {', '.join(work.scenarios)}: {', '.join(kinds[mode] for mode in work.request.test_modes)}"


def _run_missing(entry: Entry, request: Request, missing: Sequence[Work]) -> None:
    """Run the tests that are missing. Raises RequestError where a submission cannot go on with what came out."""
    terminal.say(f"missing: {'; '.join(map(_in_words, missing))}")
    planned = [replace(work, request=replace(work.request, plan=True), needs={}) for work in missing]
    terminal.say(f"this will take {plan.seconds_in_words(plan.of_run(replace(request, plan=True), planned))}")
    code = run.run_works(request, missing)
    if code == ExitCode.GOOD or (entry.rehearsal and code == ExitCode.INVALID):
        return
    if code == ExitCode.INVALID:
        raise RequestError(
            "a run is INVALID or misses its accuracy target, so it cannot be submitted",
            mend="see the table above; change the settings, and type the same command again: what is good is kept",
        )
    raise RequestError("a test failed", mend="see above; type the same command again: what is good is kept")


def _plan(entry: Entry, request: Request, asked: Sequence[Work], missing: Sequence[Work]) -> int:
    """Say what is missing and how long it will run."""
    there = [f"{work.benchmark.name} {scenario}" for work in asked for scenario in work.scenarios]
    lacking = {f"{work.benchmark.name} {scenario}" for work in missing for scenario in work.scenarios}
    ready = [name for name in there if name not in lacking]
    if not missing:
        print(json.dumps({"missing": [], "ready": ready, "hours": 0})) if request.json else terminal.note(
            "Nothing is missing."
        )
        return ExitCode.GOOD
    found = plan.of_run(request, missing)
    if request.json:
        told = {"missing": [_in_words(work) for work in missing], "ready": ready, "plan": msgspec.to_builtins(found)}
        print(json.dumps({**told, "hours": round(found.total.seconds.least / 3600, 3)}, indent=1))
        return ExitCode.GOOD
    code = run.run_works(request, missing)
    terminal.note(f"Ready: {', '.join(ready) or 'nothing'}.")
    terminal.note(f"Missing: {'; '.join(map(_in_words, missing))}.")
    terminal.note(f"To run: {plan.seconds_in_words(found)}.")
    return code
