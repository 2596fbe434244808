"""Runs benchmarks: scenario by scenario, each for performance and accuracy, and shows one table."""

from __future__ import annotations

from collections.abc import Sequence

from engineroom import artifacts, shell, terminal
from engineroom.actions import engines, execute, mishaps, plan, rulebook
from engineroom.actions.plan import times
from engineroom.actions.work import Work
from engineroom.actions.works import works
from engineroom.artifacts import Artifact
from engineroom.config import Resolved, fields
from engineroom.errors import EngineroomError, ExitCode, Mistakes, RequestError
from engineroom.run_args import Request
from engineroom.runs import Result
from engineroom.steps import build, native, report, sizing
from engineroom.steps.report import Row
from engineroom.terms import SCORED, Precision, Scenario, TestMode

REPEAT = {"repeat": "run each performance test so many times; median and spread are shown"}


def run(argv: Sequence[str]) -> int:
    """generate_engines, then run_harness."""
    request, asked = _asked(argv, explain=True)
    find_inputs(asked)
    engines.build_engines(asked)
    return run_works(request, asked)


def run_harness(argv: Sequence[str]) -> int:
    """Set up and build what is missing, run LoadGen, score, and print one table."""
    return run_works(*_asked(argv))


def _asked(argv: Sequence[str], *, explain: bool = False) -> tuple[Request, list[Work]]:
    request, asked = works(argv, explain=explain, extras=REPEAT)
    times(request, TestMode.PERFORMANCE_ONLY)  # refused here, if it is no number
    return request, asked


def run_works(request: Request, asked: Sequence[Work]) -> int:
    """Run what each work asks for, show one table, return the exit code. With --plan only say what that would be."""
    if request.test_run:
        terminal.say("--test_run: performance tests of about a minute, whose results cannot be submitted")
    check(request, asked)
    if request.plan:
        return plan.running(request, asked)
    for remark in rulebook.remarks(asked):
        terminal.say(remark)
    native.build_harness(may_build=not request.no_build)
    rows: list[Row] = []
    try:
        for work in asked:
            for scenario in work.scenarios:
                rows.append(row := Row(work.benchmark.name, scenario, "", "", variant=work.benchmark.variant_words))
                _run_scenario(work, scenario, row)
    finally:
        done = [row for row in rows if row.performance or row.accuracy or row.failure]
        if done:
            (report.print_json if request.json else report.print_table)(done)
    return max(_exit_code(row) for row in rows)


def check(request: Request, asked: Sequence[Work]) -> None:
    """Find every mistake of the request and of the data before the first minute is spent. Raises what it finds."""
    find_inputs(asked)
    for work in asked:
        for scenario in work.scenarios:
            for mode in work.request.test_modes:
                resolved = work.resolve(scenario, mode)
                work.check_installed(resolved.config)
                if mode in SCORED and not request.plan:
                    work.benchmark.golden()
                    work.expected(resolved.config)
                if not request.plan:  # which shows what does not fit, and then refuses it, too
                    _check_memory(work, resolved)
        samples = work.samples
        if not request.plan:
            artifacts.check_content(samples)


def find_inputs(asked: Sequence[Work]) -> None:
    """Look for the model and the data of every benchmark. Raises Mistakes with all that is missing or wrong."""
    mistakes: dict[str, RequestError] = {}
    for work in asked:
        for name in ("model_sha256", "data"):
            try:
                getattr(work, name)
            except RequestError as error:
                mistakes[str(error)] = error
    if mistakes:
        raise Mistakes(mistakes.values())


def _check_memory(work: Work, resolved: Resolved) -> None:
    """Refuse an expectation for which the machine's memory is surely too small. LoadGen generates all queries ahead."""
    config, machine = resolved.config, work.machine
    needed, _ = sizing.queries_bytes(config, None, machine.memory_bytes)
    limit = machine.memory_bytes + machine.swap_bytes
    if needed > limit:
        expected = (sizing.expected_rate(config) or 0) * sizing.min_duration_s(config)
        field = fields.EXPECTED[config.scenario] if expected > (config.min_query_count or 0) else "min_query_count"
        raise RequestError(
            f"LoadGen's queries alone would take {needed / 1e9:,.0f} GB; this machine has {limit / 1e9:,.0f} GB",
            where=resolved.origins[field].text,
            mend="ask for fewer queries, for a slower rate, or for a shorter test",
        )


def _run_scenario(work: Work, scenario: Scenario, row: Row) -> None:
    """Fill one row. A failure of any kind ends only this row: the results of the others are worth having."""
    try:
        _measure_row(work, scenario, row)
    except EngineroomError as error:
        _fail(row, error)
    except mishaps.MISHAPS as mishap:
        _fail(row, mishaps.named(mishap, verbose=shell.verbose))


def _fail(row: Row, error: EngineroomError) -> None:
    row.failure, row.failure_code = str(error), error.code
    terminal.say(f"{row.benchmark} {row.scenario} failed: {error}")


def _measure_row(work: Work, scenario: Scenario, row: Row) -> None:
    """Run every test mode asked for, in the precision that holds."""
    while True:
        for mode in work.request.test_modes:
            resolved, engine = work.best_precision(work.resolve(scenario, mode))
            row.engine, row.precision = resolved.config.engine, resolved.config.precision
            for count in range(1, times(work.request, mode) + 1):
                _measure(work, resolved, engine, row, count)
        if not _falls_back(work, scenario, row):
            return
        row.performance, row.accuracy, row.repeated = None, None, ()


def _measure(work: Work, resolved: Resolved, engine: Artifact, row: Row, count: int) -> None:
    """Run one test, the `count`th of its kind, and fill in what came out."""
    of = times(work.request, resolved.config.test_mode)
    result = measure(work, resolved, engine, f"{count} of {of}: " if of > 1 else "")
    if result.accuracy:
        row.accuracy = result
    if result.performance:
        row.repeat(result)


def measure(work: Work, resolved: Resolved, engine: Artifact, which: str = "") -> Result:
    """Run one test, say what came out, and remember how accurate the engine is."""
    result = execute.measure(work, resolved, engine)
    terminal.say(f"{which}{report.line(result)}")
    if score := result.accuracy:
        expected = work.expected_key(resolved.config)
        record = build.AccuracyRecord(work.samples.key, expected, score.target, score.value, result.run)
        build.remember_accuracy(engine, record)
    return result


def _falls_back(work: Work, scenario: Scenario, row: Row) -> bool:
    """With precision `auto`, tell whether a miss of the accuracy target leaves another precision to try."""
    missed = row.accuracy and row.accuracy.accuracy and not row.accuracy.accuracy.met
    asked = work.resolve(scenario, TestMode.ACCURACY_ONLY)
    if not missed or asked.config.precision is not Precision.AUTO:
        return False
    following = work.best_precision(asked)[0].config.precision
    if following == row.precision:
        return False
    terminal.warn(f"{row.benchmark} {scenario} misses its accuracy target in {row.precision}; going on in {following}")
    return True


def _exit_code(row: Row) -> ExitCode:
    if row.failure:
        return row.failure_code
    return ExitCode(max((result.exit_code for result in row.results), default=ExitCode.GOOD))
