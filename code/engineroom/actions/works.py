"""From RUN_ARGS to the work on each benchmark that they ask for."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace

from engineroom import registry, run_args, shell, systems, terminal
from engineroom.actions.settle import context_of
from engineroom.actions.work import Work
from engineroom.benchmarks import Benchmark, variant_of
from engineroom.config import layers
from engineroom.detection import Machine
from engineroom.errors import Mistakes, RequestError
from engineroom.run_args import Request
from engineroom.steps import fetch


def works(
    argv: Sequence[str], *, explain: bool = False, extras: Mapping[str, str] | None = None
) -> tuple[Request, list[Work]]:
    """Return the request and its benchmarks; by default every one whose model and data are here.

    `explain` is for tasks whose whole outcome is what they made or reused. `extras` are flags that only this task has.
    Raises Help if the flags are asked for.
    """
    if run_args.asks_help(argv):
        raise run_args.Help({**(extras or {}), **run_args.flags()})
    request = run_args.parse(argv, os.environ, extras)
    request = replace(request, explain=request.explain or explain)
    shell.verbose = request.verbose
    for note in request.notes:
        terminal.say(note)
    machine = systems.detect()
    if request.system:
        request = replace(request, system=systems.named(machine, request.system).system)
    refused: list[RequestError] = []
    asked = [_work(name, request, machine, refused) for name in request.benchmarks or registry.find("benchmarks")]
    fitting = [work for work in asked if work]
    if not fitting:
        raise Mistakes({str(error): error for error in refused}.values())
    if not (chosen := [work for work in fitting if request.benchmarks or fetch.has_files(work.benchmark)]):
        raise RequestError(
            f"none has its model and data here: {', '.join(work.benchmark.name for work in fitting)}",
            mend='name one: make download_model download_data RUN_ARGS="--benchmarks=NAME"',
        )
    return request, chosen


def _work(name: str, request: Request, machine: Machine, refused: list[RequestError]) -> Work | None:
    """Return the work on a benchmark, with the data set and the model that the settings name.

    Raises RequestError if it has no such. If it was not asked for by its name, that goes to `refused` instead.
    """
    benchmark: Benchmark = registry.get("benchmarks", name).load().BENCHMARK
    context = context_of(benchmark, request, machine, benchmark.scenarios[0])
    which = layers.which(context, request.overrides, request.environment)
    try:
        variant = variant_of(
            benchmark, dataset=which["dataset"], weights=which["weights"], model_path=which["model_path"]
        )
    except RequestError as error:
        if request.benchmarks:
            raise
        refused.append(error)
        return None
    return Work(variant, request, machine, which)
