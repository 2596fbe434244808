"""Settles the settings of one run, and refuses those that benchmark, engine or machine cannot serve."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec

from engineroom import registry
from engineroom.benchmarks import Benchmark, Part
from engineroom.config import Resolved, RunConfig, resolve
from engineroom.config.fields import OF_BENCHMARK
from engineroom.config.layers import COMMON, Kind
from engineroom.config.rules import Context, gpu_here
from engineroom.config.values import ranges
from engineroom.detection import Machine
from engineroom.engines import Engine
from engineroom.errors import RequestError, plain
from engineroom.paths import display
from engineroom.run_args import Request
from engineroom.terms import Precision, Scenario, TestMode

TEST_RUN_MS = 60_000
OF_CALIBRATION = ("calibrator", "observer", "observer_percentile", "float_layers", "calibration_list")


def settle(
    benchmark: Benchmark,
    which: Mapping[str, Any],
    request: Request,
    machine: Machine,
    scenario: Scenario,
    test_mode: TestMode,
) -> Resolved:
    """Return the settings of one run; `which` are the fields OF_BENCHMARK, by which the benchmark was chosen.

    Raises Mistakes for wrong settings, RequestError for what the benchmark, the engine or the machine cannot serve.
    """
    context = context_of(benchmark, request, machine, scenario)
    resolved = resolve(context, test_mode, request.overrides, environment=request.environment)
    if test_mode is TestMode.FIND_PEAK_PERFORMANCE and scenario is not Scenario.SERVER:
        raise RequestError(
            f"LoadGen has no FindPeakPerformance for {scenario}", where="--test_mode", mend="add --scenarios=Server"
        )
    resolved = _of_benchmark(resolved, benchmark, which)
    resolved = _shortened(resolved) if request.test_run else resolved
    where = resolved.origins["engine"].text
    plugin: Engine = registry.get("engines", resolved.config.engine, where=where).load().ENGINE
    _check_engine(resolved, benchmark, plugin)
    _check_precision(resolved, benchmark, plugin, machine)
    _check_samples(resolved, benchmark)
    _check_cpus(resolved, machine)
    said = (*resolved.warnings, _fallen_back(resolved, machine), _without_effect(resolved, benchmark, plugin))
    return replace(resolved, warnings=tuple(filter(None, said)))


def context_of(benchmark: Benchmark, request: Request, machine: Machine, scenario: Scenario) -> Context:
    """Return what the rules may look at."""
    return Context(
        benchmark.name,
        scenario,
        replace(machine, system=request.system or machine.system),
        quick_start=benchmark.quick_start,
        sample_bytes=benchmark.sample_bytes,
        model_bytes=benchmark.model_bytes,
        benchmark_settings=benchmark.own_settings,
    )


def calibrates(benchmark: Benchmark, plugin: Engine) -> bool:
    """Tell whether int8 means that the model has to be calibrated for this engine."""
    return plugin.measures_model and not benchmark.came_quantized


def _of_benchmark(resolved: Resolved, benchmark: Benchmark, which: Mapping[str, Any]) -> Resolved:
    """Settle what follows from the benchmark. Raises RequestError if it would be another one in this scenario."""
    config = resolved.config
    for name in OF_BENCHMARK:
        if (value := getattr(config, name)) != which[name]:
            raise RequestError(
                f"{name} is {value} in {config.scenario}, but {which[name]} for the benchmark",
                where=resolved.origins[name].text,
                mend=f"set it for all scenarios, in the section {COMMON}",
            )
    if benchmark.own_model:
        whole = msgspec.structs.replace(config, model_path=str(benchmark.own_model))
        resolved = replace(resolved, config=whole)
    if config.dataset == "auto":
        kind = "the drawn one" if benchmark.dataset == benchmark.drawn_dataset else "its own"
        resolved = resolved.replace(f"rule dataset: {kind}", dataset=benchmark.dataset)
    usual = benchmark.performance_sample_count
    if config.performance_sample_count is None and usual:
        count = min(usual, benchmark.sample_count(Part.EVALUATION))
        resolved = resolved.replace("rule performance_sample_count: MLPerf's, or all", performance_sample_count=count)
    return resolved


def _shortened(resolved: Resolved) -> Resolved:
    """Make a test short: Offline, where LoadGen goes by samples, whatever their number."""
    config = resolved.config
    if config.min_duration is None or config.min_duration > TEST_RUN_MS:
        resolved = resolved.replace("--test_run", min_duration=TEST_RUN_MS)
    if config.scenario is Scenario.OFFLINE:
        resolved = resolved.replace("--test_run", min_query_count=1)
    return resolved


def _check_engine(resolved: Resolved, benchmark: Benchmark, plugin: Engine) -> None:
    """Refuse an engine that cannot read the model, naming those that can."""
    model = benchmark.model_file()[0]
    if plugin.measures_model and model.suffix not in plugin.formats:
        engines: dict[str, Engine] = {name: each.load().ENGINE for name, each in registry.find("engines").items()}
        able = [name for name, each in engines.items() if each.measures_model and model.suffix in each.formats]
        raise RequestError(
            f"the engine {plugin.name} does not take {model.suffix} models, only {', '.join(plugin.formats)}",
            where=display(model),
            mend=f"add --engine={' or --engine='.join(able)}" if able else None,
        )


def _check_precision(resolved: Resolved, benchmark: Benchmark, plugin: Engine, machine: Machine) -> None:
    """Refuse a precision that the benchmark or the engine does not have, here."""
    config, where = resolved.config, resolved.origins["precision"].text
    if config.precision is Precision.AUTO:
        return
    for owner, has in (
        (benchmark.name, benchmark.precisions),
        (f"the engine {plugin.name}", plugin.precisions_on(machine, config)),
    ):
        if config.precision not in has:
            raise RequestError(
                f"{owner} has no precision {config.precision} on this machine",
                where=where,
                mend=f"it has {', '.join(has)}",
            )
    if config.precision is Precision.INT8 and calibrates(benchmark, plugin) and not plugin.takes_qdq:
        raise RequestError(
            f"the engine {plugin.name} runs no model in int8 that was calibrated here",
            where=where,
            mend="name another engine, or another precision",
        )


def _check_samples(resolved: Resolved, benchmark: Benchmark) -> None:
    samples, asked = benchmark.sample_count(Part.EVALUATION), resolved.config.performance_sample_count
    if (asked or 0) > samples:
        raise RequestError(
            f"performance_sample_count is {asked}, but {benchmark.name} has {samples} samples",
            where=resolved.origins["performance_sample_count"].text,
            mend=f"give at most {samples}",
        )


def _check_cpus(resolved: Resolved, machine: Machine) -> None:
    config, origins = resolved.config, resolved.origins
    if closed := [number for number in config.cpus if number not in machine.cpu.usable]:
        raise RequestError(
            f"this process may not use CPU {plain(ranges(closed))}",
            where=origins["cpus"].text,
            mend=f"it may use {ranges(machine.cpu.usable)}",
        )
    threads, usable = _threads(config), len(config.cpus or machine.cpu.usable)
    if config.pin_workers and threads > usable:
        raise RequestError(
            f"{threads} threads cannot be pinned to the {usable} CPUs that this run may use",
            where=origins["pin_workers"].text,
            mend="lower instances or threads_per_instance",
        )


def _threads(config: RunConfig) -> int:
    return config.instances * max(1, config.threads_per_instance)


def _fallen_back(resolved: Resolved, machine: Machine) -> str | None:
    chosen = resolved.config.engine
    if gpu_here(machine) is None or resolved.origins["engine"].kind is not Kind.RULE or chosen == "tensorrt":
        return None
    why = resolved.origins["engine"].text.partition(": ")[2]
    return f"{why}; --engine=openvino says so without this warning"


def _without_effect(resolved: Resolved, benchmark: Benchmark, plugin: Engine) -> str | None:
    """Name the settings of calibration that were asked for where nothing is calibrated."""
    asked = [name for name in OF_CALIBRATION if resolved.origins[name].kind is not Kind.DEFAULT]
    if not asked or (calibrates(benchmark, plugin) and plugin.takes_qdq):
        return None
    return f"{benchmark.name} is not calibrated for {plugin.name}: without effect: {', '.join(asked)}"
