"""Runs audits, each beside the performance run and, for TEST01, the accuracy run that it is compared with."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from engineroom import rounds, run_args, runs, terminal, versions
from engineroom.actions import execute, plan, run
from engineroom.actions.verification import Audit
from engineroom.actions.work import Work
from engineroom.actions.works import works
from engineroom.artifacts import Artifact
from engineroom.config import Resolved, RunConfig, fields
from engineroom.errors import EngineroomError, ExitCode, Mistakes, RequestError
from engineroom.paths import ROOT, RUNS, display, overlay_versions, sha256_file
from engineroom.run_args import Request
from engineroom.runs import Result
from engineroom.steps import audit, native, report, sizing
from engineroom.terms import METRICS, Scenario, TestMode

FLAGS = {"audit_test": "comma list of TEST01, TEST04; default: those that the round's rules ask for"}
NEEDED = {
    audit.TEST01: (TestMode.ACCURACY_ONLY, TestMode.PERFORMANCE_ONLY),
    audit.TEST04: (TestMode.PERFORMANCE_ONLY,),
}

OF_LENGTH = ("min_duration", "max_duration", "min_query_count", "max_query_count", "probe_s")


def run_audit_harness(argv: Sequence[str]) -> int:
    """Run the audits that the round's rules ask for, and verify them."""
    return _run(argv)


def run_audit_test01(argv: Sequence[str]) -> int:
    """Run TEST01: what is answered in performance mode is what was answered in accuracy mode."""
    return _run(argv, audit.TEST01)


def run_audit_test04(argv: Sequence[str]) -> int:
    """Run TEST04: answers to the same sample are not kept and used again."""
    return _run(argv, audit.TEST04)


@dataclass(frozen=True)
class Task:
    """The audits of one benchmark in one scenario. A rehearsal has them beside any finished run, however short."""

    work: Work
    scenario: Scenario
    tests: Sequence[str]
    rehearses: bool = False


def _run(argv: Sequence[str], test: str = "") -> int:
    request, asked = works(argv, extras={} if test else FLAGS)
    if request.test_modes != Request.test_modes:
        mend = "leave it out: an audit is a performance test"
        raise RequestError("means nothing to an audit", where=f"{run_args.WHERE}: --test_mode", mend=mend)
    tasks = _tasks(asked, [test] if test else _named(request))
    run.check(request, list({id(task.work): task.work for task in tasks}.values()))
    if request.plan:
        return _plan(request, tasks)
    native.build_harness(may_build=not request.no_build)
    results: list[Result] = []
    failures: list[EngineroomError] = []
    try:
        for task in tasks:
            try:
                results.extend(of_scenario(task))
            except EngineroomError as error:  # ends only this scenario: the audits of the others are worth having
                terminal.say(f"{task.work.benchmark.name} {task.scenario} failed: {error}")
                failures.append(error)
    finally:
        if results:
            _show(results, as_json=request.json)
    codes = [*(result.exit_code for result in results), *(error.code for error in failures)]
    return max(codes, default=ExitCode.GOOD)


def _named(request: Request) -> list[str]:
    text = request.extras.get("audit_test")
    names = [name.strip().upper() for name in (text or "").split(",") if name.strip()]
    if text is not None and not names:
        raise RequestError("is empty", where=f"{run_args.WHERE}: --audit_test", mend="give TEST01, TEST04, or both")
    return names


def _tasks(asked: Sequence[Work], tests: Sequence[str]) -> list[Task]:
    """Return what to do. A benchmark that has no audits is left out where others have some. Raises RequestError."""
    found: list[Task] = []
    refused: dict[str, RequestError] = {}
    for work in asked:
        for scenario in work.scenarios:
            rules = rounds.read(work.resolve(scenario, TestMode.PERFORMANCE_ONLY).config.round)
            try:
                found.append(Task(work, scenario, audit.chosen(rules, work.benchmark.name, tests)))
            except RequestError as error:
                refused[str(error)] = error
    if refused and (work.request.benchmarks or not found):
        raise Mistakes(refused.values())
    return found


def _show(results: Sequence[Result], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps([_plain(result) for result in results], indent=1))
    else:
        report.print_audits(results)


def _plain(result: Result) -> dict[str, object]:
    names = ("benchmark", "scenario", "system", "engine", "precision", "exit_code", "run", "audit")
    return {name: msgspec.to_builtins(getattr(result, name)) for name in names}


# The runs that an audit is compared with


@dataclass(frozen=True)
class Reference:
    """A run that an audit is compared with: its settings, its engine, its folder and what came out."""

    resolved: Resolved
    engine: Artifact
    result: Result

    @property
    def folder(self) -> Path:
        """Where it lies."""
        return ROOT / self.result.run


def of_scenario(task: Task) -> Iterator[Result]:
    """Run the audits of a scenario, and before them the runs that are missing."""
    references = _references(task)
    performance = references[TestMode.PERFORMANCE_ONLY]
    if not _usable(performance.result, task.rehearses):
        raise RequestError(
            "is no VALID performance run, so there is nothing to compare an audit with",
            where=performance.result.run,
            mend="mend that first: make run_harness",
        )
    for test in task.tests:
        yield _until_passed(task, test, references)


def _references(task: Task) -> dict[TestMode, Reference]:
    """Find the runs, or make them. Accuracy comes first: it may leave `auto` another precision."""
    modes = [mode for mode in TestMode if any(mode in NEEDED[test] for test in task.tests)]
    while True:
        found = {mode: _reference(task, mode) for mode in sorted(modes, key=lambda mode: mode.value)}
        if len({reference.resolved.config.precision for reference in found.values()}) == 1:
            return found


def _reference(task: Task, mode: TestMode) -> Reference:
    resolved, engine = task.work.best_precision(task.work.resolve(task.scenario, mode))
    if result := _found(task, resolved, engine):
        terminal.say(f"{_title(task, mode)}: {result.run}")
    else:
        result = run.measure(task.work, resolved, engine)
    return Reference(resolved, engine, result)


def _title(task: Task, mode: TestMode) -> str:
    return f"{task.work.benchmark.name} {task.scenario} {mode}"


def _found(task: Task, resolved: Resolved, engine: Artifact) -> Result | None:
    """Return the best good run with these settings, by this engine and this code; of equals the newest."""
    config, made_from = resolved.config, execute.made_from(task.work, resolved.config, engine)
    pattern = f"*-{config.system}-{config.benchmark}-{config.scenario}-{config.test_mode}/{runs.RESULT}"
    good = []
    for path in sorted(RUNS.glob(pattern)):
        try:
            result = runs.read_result(path.parent)
            alike = result and result.made_from == made_from and _same_settings(path.parent, config, task.rehearses)
            if result and alike and _usable(result, task.rehearses) and _untouched(path.parent, result):
                good.append(msgspec.structs.replace(result, run=display(path.parent)))
        except EngineroomError:  # of another version, or damaged: no run to compare with
            continue
    return max(good, key=_rank, default=None)


def _usable(result: Result, rehearses: bool = False) -> bool:
    """Tell whether an audit can be compared with it. The score of an accuracy run does not matter."""
    return not result.audit and (rehearses or _is_good(result))


def _is_good(result: Result) -> bool:
    return not result.errors and (result.performance is None or result.performance.valid)


def _rank(result: Result) -> tuple[bool, float, str]:
    """Return what the best run has most of. Only a rehearsal looks at INVALID ones."""
    if result.performance is None:
        return True, 0.0, result.run
    value, lower = result.performance.value, METRICS[Scenario(result.scenario)].key.startswith("early_stopping")
    return result.performance.valid, -value if lower else value, result.run


def _same_settings(folder: Path, asked: RunConfig, rehearses: bool) -> bool:
    """Compare all settings of a run but those that change nothing.

    What is asked to be probed may have been probed as anything. LoadGen heeds no length of an accuracy test, and a
    rehearsal that of none.
    """
    ran = runs.read_config(folder).config
    expected = fields.EXPECTED[asked.scenario]
    free = {expected} if getattr(asked, expected) is None else set()
    if rehearses or asked.test_mode is TestMode.ACCURACY_ONLY:
        free |= {expected, *OF_LENGTH}
    return all(getattr(ran, name) == getattr(asked, name) for name in asked.__struct_fields__ if name not in free)


def _untouched(folder: Path, result: Result) -> bool:
    """Tell whether the files of a run are those that it wrote, and what it used, overlays too, is what is here now."""
    environment = json.loads((folder / "env.json").read_text(encoding="utf-8"))
    if environment.get("revision") != versions.git_revision() or execute.check_unchanged(folder):
        return False
    if [each["version"] for each in environment.get("overlays", ())] != list(overlay_versions()):
        return False
    logs = [name for name in result.checksums if name.startswith("mlperf_log_")]
    return all(sha256_file(folder / name) == result.checksums[name] for name in logs)


# The audit itself


def _until_passed(task: Task, test: str, references: dict[TestMode, Reference]) -> Result:
    """Run an audit until it passes, as often as it may: a busy machine fails its band now and then."""
    performance = references[TestMode.PERFORMANCE_ONLY]
    accuracy = references.get(TestMode.ACCURACY_ONLY) if test == audit.TEST01 else None
    rules = rounds.read(performance.resolved.config.round)
    about = Audit(
        test=test,
        settings=rules.audits.tests[test].of(task.work.benchmark.name, task.scenario),
        reference=performance.result.run,
        accuracy_run=accuracy.result.run if accuracy else "",
    )
    resolved = _expecting_the_same(performance)
    tries = audit.TRIES[test] if _is_good(performance.result) else 1  # beside an INVALID run none passes
    for number in range(1, tries + 1):
        result = execute.measure_audit(task.work, resolved, performance.engine, about)
        terminal.say(f"{'' if number == 1 else f'try {number}: '}{report.audit_line(result)}")
        assert result.audit
        if result.audit.passed or not result.audit.answers_agree or number == tries:
            break
        resolved = _again(task, test, resolved, result)
    return result


def _expecting_the_same(performance: Reference) -> Resolved:
    """Return the settings of the performance run: with what it expected, where that was probed."""
    resolved, expected = performance.resolved, fields.EXPECTED[performance.resolved.config.scenario]
    if getattr(resolved.config, expected) is not None:
        return resolved
    value = getattr(runs.read_config(performance.folder).config, expected)
    return resolved.replace(f"{sizing.PROBED}: as {performance.result.run}", **{expected: value})


def _again(task: Task, test: str, resolved: Resolved, result: Result) -> Resolved:
    """Return the settings of another try: long enough, and in Server TEST01 a little slower, within its band."""
    resolved = sizing.after_short_test(resolved, result, task.work.machine.memory_bytes) or resolved
    if test != audit.TEST01 or task.scenario is not Scenario.SERVER:
        return resolved
    rate = audit.SERVER_RETRY * (resolved.config.server_target_qps or 0)
    return resolved.replace(f"rule audit_retry: {audit.SERVER_RETRY} of the rate", server_target_qps=rate)


def _plan(request: Request, tasks: Sequence[Task]) -> int:
    """Say which runs are here, which would be made, and how long that and the audits take."""
    there: list[plan.Step] = []
    missing: list[Work] = []
    audited: list[plan.Audited] = []
    for task in tasks:
        modes = [mode for mode in TestMode if any(mode in NEEDED[test] for test in task.tests)]
        found = {
            mode: _found(task, *task.work.best_precision(task.work.resolve(task.scenario, mode))) for mode in modes
        }
        there += [
            plan.Step(
                what=f"{_title(task, mode)}:\n{result.run}", state=plan.REUSE, why="it is good", folder=result.run
            )
            for mode, result in found.items()
            if result
        ]
        lacking = tuple(mode for mode, result in found.items() if result is None)
        if lacking:
            missing.append(_asking(task, lacking))
        alike = _asking(task, (TestMode.PERFORMANCE_ONLY,))
        audited += [plan.Audited(alike, task.scenario, test) for test in task.tests]
    return plan.running(request, missing, audited, there)


def _asking(task: Task, modes: tuple[TestMode, ...]) -> Work:
    return replace(
        task.work, request=replace(task.work.request, scenarios=(task.scenario,), test_modes=modes), needs={}
    )
