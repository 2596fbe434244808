"""Executes one LoadGen test: writes its folder, runs what that describes, scores it, and records what took part."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from engineroom import artifacts, registry, runs, systems, terminal
from engineroom.actions import rulebook, verification
from engineroom.actions.verification import Audit
from engineroom.actions.work import Work
from engineroom.artifacts import Artifact
from engineroom.benchmarks import Benchmark, Part, variant_of
from engineroom.config import Resolved, RunConfig
from engineroom.detection import Machine
from engineroom.engines import Engine
from engineroom.errors import EngineError, ExitCode, RequestError
from engineroom.paths import LIB, ROOT, VENV, display, overlays, sha256_file, write_text
from engineroom.runs import Result
from engineroom.steps import accuracy, answers, audit, build, harness, inventory, native, recipes, report, rules, sizing
from engineroom.steps.report import Row
from engineroom.telemetry.summary import Window, summarize
from engineroom.terms import SCORED, TestMode

# What harness.json and run_config.yaml both say: which test this is.
TOLD = (
    "benchmark",
    "dataset",
    "weights",
    "model_path",
    "scenario",
    "test_mode",
    "precision",
    "batch_size",
    "instances",
)
LOADGEN_KEYS = ("result_", "effective_", "early_stopping_", "loadgen_version")  # of the detail log, kept in the result


def measure(work: Work, resolved: Resolved, engine: Artifact) -> Result:
    """Prepare the folder of one LoadGen test and execute it. Raises EngineError if engine or harness fail."""
    artifacts.check_content(engine)
    folder = runs.open_folder(resolved.config)
    _write_recipe(work, resolved.config, engine, folder)
    if sizing.needs_probe(resolved.config):
        found = harness.probe(resolved.config, folder)
        resolved = sizing.sized(resolved, found, work.machine.memory_bytes)
        _write_recipe(work, resolved.config, engine, folder)
    result = _finish(work, resolved, folder)
    if again := sizing.after_short_test(resolved, result, work.machine.memory_bytes):
        terminal.say(f"{report.line(result)}: faster than while it was probed, so too short; once more")
        folder = runs.open_folder(again.config)
        _write_recipe(work, again.config, engine, folder)
        result = _finish(work, again, folder, replaces=result.run)
    return result


def measure_audit(work: Work, resolved: Resolved, engine: Artifact, about: Audit) -> Result:
    """Run an audit with the settings of the performance run that it follows. Raises EngineError as `measure` does."""
    artifacts.check_content(engine)
    folder = runs.open_folder(resolved.config, audit=about.test)
    _write_recipe(work, resolved.config, engine, folder, about)
    return _finish(work, resolved, folder)


def _finish(work: Work, resolved: Resolved, folder: Path, *, replaces: str = "") -> Result:
    runs.write_config(folder, resolved)
    return execute(folder, work.benchmark, work.machine, replaces=replaces)


def made_from(work: Work, config: RunConfig, engine: Artifact) -> dict[str, str]:
    """Return what engine, samples, right answers and LoadGen of a run are made from."""
    expected = work.expected(config) if config.test_mode in SCORED else None
    return {
        **engine.inputs,
        **{f"samples {name}": value for name, value in work.samples.inputs.items()},
        **({f"expected {name}": value for name, value in expected.inputs.items()} if expected else {}),
        "LoadGen": " ".join(native.loadgen_pin()),
    }


def _write_recipe(work: Work, config: RunConfig, engine: Artifact, folder: Path, about: Audit | None = None) -> None:
    benchmark = work.benchmark
    total = benchmark.sample_count(Part.EVALUATION)
    expected = work.expected(config) if config.test_mode in SCORED else None
    values: dict[str, Any] = {
        **msgspec.to_builtins(config),
        "inputs": [
            {**msgspec.to_builtins(spec), "path": str(work.samples.file(f"{spec.name}.npy"))}
            for spec in benchmark.inputs
        ],
        "outputs": benchmark.outputs,
        "answer_offset": benchmark.answer_offset,
        "total_sample_count": total,
        "performance_sample_count": config.performance_sample_count or total,
        "expected": str(expected.file(answers.LABELS)) if expected else None,
        "cpu_affinity": cpu_affinity(config, work.machine),
        "engine": {"name": config.engine, "options": {**build.options_of(engine), **_run_options(work, config)}},
        "made_from": made_from(work, config, engine),
        "audit": msgspec.to_builtins(about),
        "loadgen_settings": recipes.loadgen_settings(config),
        "lib": str(LIB),
        "overlays": os.pathsep.join(map(str, reversed(overlays()))),
        "python": str(VENV / "bin" / "python"),
    }
    for name in ("user.conf", "harness.json", "run.sh", *((audit.CONFIG,) if about else ())):
        write_text(folder / runs.RECIPE / name, recipes.render(name, config.system, values))
    (folder / runs.RECIPE / "run.sh").chmod(0o755)


def _run_options(work: Work, config: RunConfig) -> dict[str, str]:
    """Return what of the engine's options no build depends on."""
    engine: Engine = registry.get("engines", config.engine).load().ENGINE
    return engine.run_options(config, work.machine)


def cpu_affinity(config: RunConfig, machine: Machine) -> list[list[int]]:
    """Return the CPUs that each instance's work is done on, of those this process may use; none for "anywhere".

    Where the engine runs an instance on a GPU, they are near that one. Pinned workers get CPUs of their own, as far as
    there are some near the GPU, and consecutive ones. For a stream's one instance LoadGen's issuing thread works.
    """
    engine: Engine = registry.get("engines", config.engine).load().ENGINE
    free = list(config.cpus or machine.cpu.usable)
    on_node: dict[int | None, set[int]] = {node.number: set(node.cpus) for node in machine.numa}
    chosen = []
    for instance in range(config.instances):
        near = on_node.get(engine.numa_node_of(instance, machine), set())
        there = [cpu for cpu in free if cpu in near]
        if config.pin_workers:
            threads = max(1, config.threads_per_instance)
            chosen.append([*there, *(cpu for cpu in free if cpu not in near)][:threads])
            free = [cpu for cpu in free if cpu not in chosen[-1]]
        else:
            chosen.append(there if len(there) < len(free) else [])
    return chosen


def execute(
    folder: Path, benchmark: Benchmark, machine: Machine, notes: tuple[str, ...] = (), replaces: str = ""
) -> Result:
    """Run the test that a prepared `*.partial` folder describes, score it, and finish the folder."""
    config = runs.read_config(folder).config
    started, begin = datetime.now(UTC), time.perf_counter()
    write_text(folder / "env.json", json.dumps(inventory.environment(machine), indent=1) + "\n")
    recipe = _recipe(folder, config)
    compared = verification.opened(recipe["audit"]) if recipe.get("audit") else None
    counters = harness.run_test(config, folder)
    log = harness.read_log(folder)
    performance = None if config.test_mode is TestMode.ACCURACY_ONLY else harness.performance(config, log, counters)
    scored = None
    if config.test_mode in SCORED:
        expected = recipe.get("expected")
        scored = accuracy.score(benchmark, folder, answers.read(Path(expected)) if expected else benchmark.labels())
    if scored is None and performance is None:
        raise EngineError(f"{config.test_mode} gives nothing to report", where=display(folder))
    conf = rules.read_user_conf(folder / runs.RECIPE / recipe["user_conf"], config.benchmark, config.scenario)
    verdict = rules.after(
        benchmark, config, conf, log, performance, scored, compared.about.settings if compared else None
    )
    audited = verification.verify(folder, benchmark, config, compared, log) if compared else None
    good = not log["errors"] and (performance is None or performance.valid) and (scored is None or scored.met)
    good = good and (audited is None or audited.passed)
    result = Result(
        benchmark=config.benchmark,
        scenario=config.scenario,
        test_mode=config.test_mode,
        system=config.system,
        engine=config.engine,
        precision=config.precision,
        dataset=benchmark.dataset,
        weights=benchmark.whose_weights,
        variant=benchmark.variant_words,
        exit_code=ExitCode.GOOD if good else ExitCode.INVALID,
        started=started.isoformat(timespec="seconds"),
        seconds=round(time.perf_counter() - begin, 3),
        performance=performance,
        accuracy=scored,
        submittable=bool(verdict.divisions),
        rules=verdict,
        audit=audited,
        errors=tuple(log["errors"]),
        notes=(*_notes(benchmark, config, machine, recipe["engine"]["options"]), *rules.ignored(config, conf), *notes),
        made_from=recipe["made_from"],
        loadgen={key: value for key, value in log.items() if key.startswith(LOADGEN_KEYS)},
        counters=counters,
        telemetry=summarize(folder, _window(counters)),
        checksums=_checksums(folder, recipe, benchmark),
        replaces=replaces,
    )
    final = runs.finish(folder, result)
    return msgspec.structs.replace(result, run=display(final))


def rerun(argv: Sequence[str]) -> int:
    """Run a recipe folder again, by hand: in a new run folder, with the same settings.

    Raises RequestError if what the recipe names is no longer what the first run used.
    """
    recipe = Path(argv[0])
    config = runs.read_config(recipe.parent).config
    user_conf = recipe / _recipe(recipe.parent, config)["user_conf"]
    notes = check_unchanged(recipe.parent)
    benchmark = benchmark_of(config)
    if remark := rulebook.remark_on(benchmark, config, user_conf):
        terminal.say(remark)
    about = _recipe(recipe.parent, config).get("audit") or {}
    folder = runs.open_folder(config, audit=about.get("test", ""))
    shutil.copytree(recipe, folder / runs.RECIPE, dirs_exist_ok=True)
    shutil.copy(recipe.parent / runs.RUN_CONFIG, folder / runs.RUN_CONFIG)
    result = execute(folder, benchmark, systems.detect(), notes)
    if result.audit:
        report.print_audits([result])
        return result.exit_code
    row = Row(result.benchmark, result.scenario, result.engine, result.precision, variant=result.variant)
    row.performance = result if result.performance else None
    row.accuracy = result if result.accuracy else None
    report.print_table([row])
    return result.exit_code


def benchmark_of(config: RunConfig) -> Benchmark:
    """Return the benchmark that a run was of."""
    named: Benchmark = registry.get("benchmarks", config.benchmark).load().BENCHMARK
    return variant_of(named, dataset=config.dataset, weights=config.weights, model_path=config.model_path)


def check_unchanged(run: Path) -> tuple[str, ...]:
    """Compare engine, samples and recipe with the checksums in the run's result.json; return remarks on the recipe."""
    if (result := runs.read_result(run)) is None:
        return ("The run that the recipe is from did not finish: nothing says what it used.",)
    edited = []
    for name, sha256 in result.checksums.items():
        ours = name.startswith(f"{runs.RECIPE}/") or name == runs.RUN_CONFIG
        if ours and sha256_file(run / name) != sha256:
            edited.append(name)
        outside = ROOT / name  # an absolute name stays what it is
        if not (run / name).is_file() and outside.is_file() and sha256_file(outside) != sha256:
            raise RequestError(
                "is not what the first run used", where=name, mend="make run_harness runs what is here now"
            )
    return (f"The recipe was edited by hand: {', '.join(edited)}.",) if edited else ()


def _window(counters: Mapping[str, Any]) -> Window:
    """Return from when to when the test lasted: from the first query to the last step of a worker."""
    last = max(counters.get("heartbeat_ns", ()), default=0)
    return Window(counters.get("test_start_ns", 0) / 1e9, last / 1e9, counters.get("completed_samples", 0))


def _recipe(folder: Path, config: RunConfig) -> dict[str, Any]:
    """Read harness.json and make sure that it is the test which run_config.yaml tells of. Raises RequestError."""
    path = folder / runs.RECIPE / "harness.json"
    try:
        recipe: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        told = {name: recipe[name] for name in TOLD}
        told["engine"] = recipe["engine"]["name"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RequestError(f"is no recipe: {type(error).__name__} {error}", where=display(path)) from None
    for name, value in told.items():
        if value != getattr(config, name):
            raise RequestError(
                f"{name} is {value!r}, but {runs.RUN_CONFIG} says {getattr(config, name)!r}",
                where=display(path),
                mend="to run something else, use make run_harness with RUN_ARGS",
            )
    return recipe


def _notes(benchmark: Benchmark, config: RunConfig, machine: Machine, options: Mapping[str, str]) -> tuple[str, ...]:
    engine: Engine = registry.get("engines", config.engine).load().ENGINE
    notes = [*benchmark.notes, *engine.notes_of(config, options)]
    if config.system != machine.system:
        notes.append(f"The settings are those of {config.system}; the machine is {machine.system}.")
    if benchmark.task is None:
        kind = "a quick start, not an" if benchmark.quick_start else "no"
        notes.append(f"{benchmark.name} is {kind} MLPerf benchmark: its results are not submittable.")
    if not engine.measures_model:
        notes.append(f"The engine {config.engine} answers without running the model: it measures the harness.")
    return tuple(notes)


def _checksums(folder: Path, recipe: dict[str, Any], benchmark: Benchmark) -> dict[str, str]:
    """Return the SHA-256 of every file of the run, and of the model, engine, samples and harness that it used."""
    named = [Path(item["path"]) for item in recipe["inputs"]]
    named += [Path(value) for value in recipe["engine"]["options"].values() if value.startswith("/")]
    named += [Path(recipe["expected"])] if recipe.get("expected") else []
    named += [benchmark.model_file()[0]]
    named += sorted(LIB.glob("engineroom_native*.so"))
    inside = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != runs.RESULT]
    found = {str(path.relative_to(folder)): sha256_file(path) for path in inside}
    return {**found, **{display(path): artifacts.sha256_in_use(path) for path in named if path.is_file()}}
