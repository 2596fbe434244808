"""Runs LoadGen tests: prepares each run's folder, executes what it describes, scores it and shows the results."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from engineroom import artifacts, registry, runs, systems, terminal, versions
from engineroom.actions import engines
from engineroom.actions.work import Work, helped, works
from engineroom.artifacts import Artifact
from engineroom.benchmarks import Benchmark, Part
from engineroom.config import Resolved, RunConfig
from engineroom.errors import EngineError, ExitCode
from engineroom.paths import LIB, VENV, display, sha256_file, write_text
from engineroom.runs import Result
from engineroom.steps import accuracy, build, harness, native, recipes, report, sizing
from engineroom.steps.report import Row
from engineroom.systems import Machine
from engineroom.terms import Precision, Scenario, TestMode

SCORED = (TestMode.ACCURACY_ONLY, TestMode.SUBMISSION_RUN)
LOADGEN_KEYS = ("result_", "effective_", "early_stopping_", "loadgen_version")  # of the detail log, kept in the result


def run(argv: Sequence[str]) -> int:
    """generate_engines, then run_harness."""
    return engines.generate_engines(argv) or run_harness(argv)


def run_harness(argv: Sequence[str]) -> int:
    """Set up and build what is missing, run LoadGen, score, and print one table."""
    if helped(argv):
        return ExitCode.GOOD
    request, asked = works(argv)
    for work in asked:  # every mistake of the request shows before the first minute is spent
        for scenario in work.scenarios:
            for mode in request.test_modes:
                work.resolve(scenario, mode)
    native.build_harness(may_build=not request.no_build)
    rows: list[Row] = []
    try:
        for work in asked:
            for scenario in work.scenarios:
                rows.append(row := Row(work.benchmark.name, scenario, "", ""))
                _run_scenario(work, scenario, row)
    finally:
        done = [row for row in rows if row.performance or row.accuracy or row.failure]
        if done:
            (report.print_json if request.json else report.print_table)(done)
    return max(_exit_code(row) for row in rows)


def _run_scenario(work: Work, scenario: Scenario, row: Row) -> None:
    """Fill one row: every test mode asked for, in the precision that holds. A failure ends only this row."""
    try:
        while True:
            for mode in work.request.test_modes:
                resolved, engine = work.best_precision(work.resolve(scenario, mode))
                row.engine, row.precision = resolved.config.engine, resolved.config.precision
                result = _run(work, resolved, engine)
                terminal.say(report.line(result))
                if result.accuracy:
                    row.accuracy = result
                    build.remember_accuracy(engine, {**msgspec.to_builtins(result.accuracy), "run": result.run})
                if result.performance:
                    row.performance = result
            if not _falls_back(work, scenario, row):
                return
            row.performance = row.accuracy = None
    except EngineError as error:
        row.failure = str(error)
        print(f"error: {error}", file=sys.stderr)


def _falls_back(work: Work, scenario: Scenario, row: Row) -> bool:
    """With precision `auto`, tell whether a miss of the accuracy target leaves another precision to try."""
    missed = row.accuracy and row.accuracy.accuracy and not row.accuracy.accuracy.met
    if not registry.get("engines", row.engine).load().ENGINE.measures_model:
        return False
    if not missed or work.resolve(scenario, TestMode.ACCURACY_ONLY).config.precision is not Precision.AUTO:
        return False
    following = work.best_precision(work.resolve(scenario, TestMode.ACCURACY_ONLY))[0].config.precision
    if following == row.precision:
        return False
    terminal.warn(f"{row.benchmark} {scenario} misses its accuracy target in {row.precision}; going on in {following}")
    return True


def _exit_code(row: Row) -> ExitCode:
    if row.failure:
        return ExitCode.ENGINE
    results = [result for result in (row.performance, row.accuracy) if result]
    return ExitCode(max((result.exit_code for result in results), default=ExitCode.GOOD))


def _run(work: Work, resolved: Resolved, engine: Artifact) -> Result:
    """Prepare a run folder and execute it."""
    if wrong := artifacts.check_content(engine):
        raise EngineError(wrong, mend="build it again: make generate_engines RUN_ARGS=--force")
    if wrong := artifacts.check_content(work.samples):
        raise EngineError(wrong, mend="make it again: make preprocess_data RUN_ARGS=--force")
    folder = runs.open_folder(resolved.config)
    _write_recipe(work, resolved.config, engine, folder)
    if sizing.needs_probe(resolved.config):
        found = harness.probe(resolved.config, folder)
        resolved = sizing.sized(resolved, found, work.machine.memory_bytes)
        _write_recipe(work, resolved.config, engine, folder)
    runs.write_config(folder, resolved)
    return execute(folder, work.machine)


def _write_recipe(work: Work, config: RunConfig, engine: Artifact, folder: Path) -> None:
    benchmark = work.benchmark
    total = benchmark.sample_count(Part.EVALUATION)
    threads = max(1, config.threads_per_instance)
    values: dict[str, Any] = {
        **msgspec.to_builtins(config),
        "inputs": [
            {**msgspec.to_builtins(spec), "path": str(work.samples.file(f"{spec.name}.npy"))}
            for spec in benchmark.inputs
        ],
        "outputs": benchmark.outputs,
        "total_sample_count": total,
        "performance_sample_count": min(config.performance_sample_count or total, total),
        "cpu_affinity": [
            list(range(first * threads, (first + 1) * threads)) if config.pin_workers else []
            for first in range(config.instances)
        ],
        "engine": {"name": config.engine, "options": build.options_of(engine)},
        "made_from": engine.inputs,
        "loadgen_settings": recipes.loadgen_settings(config),
        "lib": LIB,
        "python": VENV / "bin" / "python",
    }
    values["lib"], values["python"] = str(values["lib"]), str(values["python"])
    for name in ("user.conf", "harness.json", "run.sh"):
        write_text(folder / runs.RECIPE / name, recipes.render(name, config.system, values))
    (folder / runs.RECIPE / "run.sh").chmod(0o755)


def execute(folder: Path, machine: Machine) -> Result:
    """Run the test that a prepared `*.partial` folder describes, score it, and finish the folder."""
    resolved = runs.read_config(folder)
    config = resolved.config
    benchmark: Benchmark = registry.get("benchmarks", config.benchmark).load().BENCHMARK
    started, begin = datetime.now(UTC), time.perf_counter()
    write_text(folder / "env.json", json.dumps(_environment(machine), indent=1) + "\n")
    recipe = json.loads((folder / runs.RECIPE / "harness.json").read_text(encoding="utf-8"))
    counters = harness.run_test(config, folder)
    log = harness.read_log(folder)
    performance = None if config.test_mode is TestMode.ACCURACY_ONLY else harness.performance(config, log, counters)
    scored = accuracy.score(benchmark, folder) if config.test_mode in SCORED else None
    if scored is None and performance is None:
        raise EngineError(f"{config.test_mode} gives nothing to report", where=display(folder))
    good = (performance is None or (performance.valid and not performance.errors)) and (scored is None or scored.met)
    result = Result(
        benchmark=config.benchmark,
        scenario=config.scenario,
        test_mode=config.test_mode,
        system=config.system,
        engine=config.engine,
        precision=config.precision,
        exit_code=ExitCode.GOOD if good else ExitCode.INVALID,
        started=started.isoformat(timespec="seconds"),
        seconds=round(time.perf_counter() - begin, 3),
        performance=performance,
        accuracy=scored,
        notes=_notes(benchmark, config),
        made_from=recipe["made_from"],
        loadgen={key: value for key, value in log.items() if key.startswith(LOADGEN_KEYS)},
        counters=counters,
        checksums=_checksums(folder, recipe),
    )
    final = runs.finish(folder, result)
    return msgspec.structs.replace(result, run=display(final))


def rerun(argv: Sequence[str]) -> int:
    """Run a recipe folder again, by hand: in a new run folder, with the same settings."""
    recipe = Path(argv[0])
    resolved = runs.read_config(recipe.parent)
    folder = runs.open_folder(resolved.config)
    shutil.copytree(recipe, folder / runs.RECIPE, dirs_exist_ok=True)
    shutil.copy(recipe.parent / runs.RUN_CONFIG, folder / runs.RUN_CONFIG)
    result = execute(folder, systems.detect())
    row = Row(result.benchmark, result.scenario, result.engine, result.precision)
    row.performance = result if result.performance else None
    row.accuracy = result if result.accuracy else None
    report.print_table([row])
    return result.exit_code


def _notes(benchmark: Benchmark, config: RunConfig) -> tuple[str, ...]:
    notes = []
    if not benchmark.mlperf:
        notes.append(f"{benchmark.name} is a quick start, not an MLPerf benchmark: its results are not submittable.")
    if not registry.get("engines", config.engine).load().ENGINE.measures_model:
        notes.append(f"The engine {config.engine} answers without running the model: it measures the harness.")
    return tuple(notes)


def _environment(machine: Machine) -> dict[str, Any]:
    return {
        "machine": msgspec.to_builtins(machine),
        "python": sys.version.split()[0],
        "distributions": versions.all_distributions(),
        "revision": versions.git_revision(),
    }


def _checksums(folder: Path, recipe: dict[str, Any]) -> dict[str, str]:
    """Return the SHA-256 of every file of the run, and of the engine and the samples that the recipe names."""
    named = [Path(item["path"]) for item in recipe["inputs"]]
    named += [Path(value) for value in recipe["engine"]["options"].values() if value.startswith("/")]
    inside = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != runs.RESULT]
    found = {str(path.relative_to(folder)): sha256_file(path) for path in inside}
    return {**found, **{display(path): sha256_file(path) for path in named if path.is_file()}}
