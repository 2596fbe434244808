"""Builds engines from rendered recipes, keyed by everything they depend on, each in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Unpack

import msgspec

from engineroom import processes, registry, shell, terminal
from engineroom.artifacts import Artifact, Switches, obtain
from engineroom.benchmarks import Benchmark
from engineroom.child import PARENT_VARIABLE
from engineroom.config import RunConfig
from engineroom.detection import Machine
from engineroom.engines import Engine, placed
from engineroom.errors import EngineError
from engineroom.paths import ENGINES, sha256_files, write_text

RECIPE = "engine.json"
LOG = "build.log"
ACCURACY = "accuracy.json"
STOP_S = 30  # so long a builder that stops by itself at the limit has for that; then it is killed, as others are


def engine_of(config: RunConfig) -> Engine:
    """Return the engine plug-in that the configuration names. Raises RequestError if what it needs is not here."""
    engine: Engine = registry.get("engines", config.engine, where="engine").load().ENGINE
    engine.check_settings(config)
    return engine


def inputs_of(
    benchmark: Benchmark,
    config: RunConfig,
    machine: Machine,
    model_sha256: str,
    calibration_key: str,
    recipe_sha256: str,
) -> dict[str, str]:
    """Return everything the engine depends on; what differs is what "rebuilt because" says."""
    engine = engine_of(config)
    return {
        "model": model_sha256,
        "calibration": calibration_key,
        "tensors": _tensors(benchmark),
        "precision": config.precision.value,
        "batch_size": str(config.batch_size),
        **engine.settings_of(config),
        **engine.machine_inputs(config, machine),
        "recipe": recipe_sha256,
        "code": sha256_files((registry.get("engines", engine.name).path, *engine.sources)),
    }


def _tensors(benchmark: Benchmark) -> str:
    """Return which inputs and outputs of the model are meant: an engine may hold no others."""
    specs = (f"{each.name} {each.dtype} {list(each.shape)}" for each in (*benchmark.inputs, *benchmark.outputs))
    return ", ".join((*specs, *([str(benchmark.quantization)] if benchmark.quantization else [])))


def values_of(benchmark: Benchmark, config: RunConfig, model: Path, model_sha256: str) -> dict[str, Any]:
    """Return what engine.json is rendered with. `model` is the Q/DQ model where the precision is int8."""
    engine = engine_of(config)
    return {
        "engine": engine.name,
        "model": str(model),
        "model_sha256": model_sha256,
        "precision": config.precision,
        "batch_size": config.batch_size,
        "inputs": benchmark.inputs,
        "outputs": benchmark.outputs,
        "quantization": benchmark.quantization,
        "settings": engine.settings_of(config),
    }


def build(
    config: RunConfig, inputs: Mapping[str, str], recipe: Callable[[], str], **switches: Unpack[Switches]
) -> Artifact:
    """Return the engine made from `inputs`. `recipe` renders engine.json; it is called only if there is work."""
    engine = engine_of(config)
    system = "any" if engine.serves_machines(config) else config.system
    whose = "all" if engine.serves_scenarios else config.scenario.value
    shelf = ENGINES / system / config.benchmark / whose / f"{config.engine}-{config.precision}"
    title = f"the {config.engine} engine of {config.benchmark} {config.scenario} in {config.precision}"
    limit_s = config.engine_build_limit_s

    def unfit(facts: Mapping[str, Any]) -> str | None:
        return engine.unfit(facts["options"])

    def make(folder: Path) -> dict[str, Any]:
        return _make(title, recipe(), folder, limit_s)

    return obtain(shelf, inputs, make, what=title, unfit=unfit, **switches)


def options_of(engine: Artifact) -> dict[str, str]:
    """Return the options the harness hands to the engine, with file names made absolute."""
    return placed(engine.facts["options"], engine.folder)


class AccuracyRecord(msgspec.Struct, frozen=True):
    """accuracy.json beside an engine: its score, on which samples and against which target.

    `samples` is their key, `expected` that of the answers held to be right, "" where those are the labels.
    """

    samples: str
    expected: str
    target: float
    value: float
    run: str


def known_accuracy(engine: Artifact, samples: str, expected: str, target: float) -> bool | None:
    """Tell whether this very engine has met `target` before; None if it was not scored so. Keys as in the record."""
    if engine.planned:
        return None  # what lies in its folder is about an engine that will be made again
    try:
        record = msgspec.json.decode(engine.file(ACCURACY).read_bytes(), type=AccuracyRecord)
    except (OSError, ValueError):  # msgspec's errors are ValueErrors
        return None
    same = (record.samples, record.expected, record.target) == (samples, expected, target)
    return record.value >= target if same else None


def remember_accuracy(engine: Artifact, record: AccuracyRecord) -> None:
    """Keep the score beside the engine, so that the precision can be chosen without measuring it again."""
    write_text(engine.file(ACCURACY), msgspec.json.encode(record).decode() + "\n")


def _make(title: str, recipe: str, folder: Path, limit_s: float) -> dict[str, Any]:
    write_text(folder / RECIPE, recipe)
    command = [sys.executable, "-m", "engineroom.build_engine", str(folder / RECIPE), str(folder), f"{limit_s:g}"]
    log = folder / LOG
    shell.show(command)
    environ = {**os.environ, PARENT_VARIABLE: str(os.getpid())}
    answer: dict[str, Any] = {}
    with (
        terminal.progress(f"build {title}", 1) as update,
        log.open("w", encoding="utf-8") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, env=environ, text=True) as process,
        _ended_after(process, limit_s + STOP_S) as limit,
    ):
        for line in process.stdout or ():
            answer = _answer(line)
            if "progress" in answer:
                update(*answer["progress"])
            elif "say" in answer:
                terminal.say(answer["say"])
    if process.returncode and (limit.is_set() or answer.get("stopped")):
        raise EngineError(
            f"building {title} took longer than {limit_s:g} s and was ended",
            mend="allow it more: --engine_build_limit_s=SECONDS",
        )
    if "options" in answer and process.returncode == 0:
        return {"options": answer["options"]}
    if "error" in answer:
        error = answer["error"]
        raise EngineError(error["what"], where=error["where"] or title, mend=error["mend"])
    tail = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
    said = tail[0] if tail else "it said nothing"
    name = processes.signal_of(process.returncode)
    how = f"was ended by {name}" if name else f"ended with status {process.returncode}: {said}"
    raise EngineError(f"building {title} {how}")


@contextmanager
def _ended_after(process: subprocess.Popen[str], limit_s: float) -> Iterator[threading.Event]:
    """Kill the process after `limit_s`, and set the event that is yielded, or if the body is left by an exception."""
    over = threading.Event()

    def end() -> None:
        over.set()
        process.kill()

    timer = threading.Timer(limit_s, end)
    timer.daemon = True
    timer.start()
    try:
        yield over
        process.wait()
    except BaseException:
        process.kill()
        raise
    finally:
        timer.cancel()


def _answer(line: str) -> dict[str, Any]:
    """Return the JSON object in a line that the building process wrote, or {} if it is none."""
    try:
        answer = json.loads(line)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}
