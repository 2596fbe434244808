"""The command of the bench: which measurements, how many pairs, and the table at the end."""

from __future__ import annotations

import os
import platform
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import import_module
from statistics import median

from engineroom import run_args, systems, terminal, versions
from engineroom.bench import models
from engineroom.bench.figures import Comparison, Figure
from engineroom.errors import EngineroomError, ExitCode, RequestError, did_you_mean
from engineroom.steps.native import loadgen_pin
from engineroom.steps.report import significant

MEASUREMENTS = {
    "startup": "targets that find nothing to do, beside `inv --version`",
    "overhead": "what a run costs outside LoadGen",
    "throughput": "Offline on the openvino engine, beside a bare loop and OpenVINO's benchmark_app",
    "latency": "SingleStream on the openvino engine, beside a bare synchronous loop",
    "memory": "resident memory of a run",
    "preprocess": "the time of a core from a JPEG to ResNet-50's input",
    "harness": "the null engine beside a bare LoadGen null SUT",
    "rates": "the highest VALID Server rate of the null engine, beside that of a bare LoadGen null SUT",
    "wheel": "the null engine beside LoadGen's own Python wheel (needs --extra=peers)",
    "bridge": "what the way into Python costs, with a callable that does nothing and with ONNX Runtime",
    "gather": "how fast batches are gathered, beside memcpy, and beside inference",
    "scaling": "rate and memory against batch size, instances, samples pending and run length",
    "queues": "what queue and worker add to a batch, by the engine fixed_delay",
    "server": "the highest VALID Server rate of the openvino engine, beside a simulated M/D/c queue",
    "reference": "ResNet-50 Offline, beside MLCommons' reference application (wants --reference)",
    "precisions": "ResNet-50 Offline on the openvino engine, int8 and bf16 beside fp32",
    "torch_loop": "ResNet-50 Offline on the torch engine, beside a bare loop of PyTorch",
    "validator": "judging a submission as large as a whole round (writes 3 GB)",
    "cuda": "the cuda_null engine beside CUDA itself (needs an NVIDIA GPU)",
    "fresh": "from a fresh clone to the first table",
}
# They take minutes, or need packages that not everybody has: --only names them.
WHEN_ASKED_FOR = (
    "preprocess",
    "rates",
    "wheel",
    "bridge",
    "gather",
    "scaling",
    "queues",
    "server",
    "reference",
    "precisions",
    "torch_loop",
    "validator",
    "cuda",
    "fresh",
)
FLAGS = {
    "only=NAME": "only this measurement (or several, with commas between; all: every one, which takes hours)",
    "pairs=N": "how often each value and its peer are taken, in turn; default 5, of harness and throughput 15",
    "fresh": "measure a fresh clone, too",
    "benchmarks=NAMES": "of throughput, latency and server: digits (default), resnet50 (needs --extra=imagenet)",
    "precisions=NAMES": "of the same: int8, bf16 or fp32, with commas between (default: all that this machine has)",
    "reference=PATH": "of reference: a checkout of mlcommons/inference, outside this tree (needs --extra=peers)",
    "json": "print JSON with every single value instead of a table",
    "help": "print this",
}
# Flags that only some measurements take; they reach `measure` by name.
OWN_FLAGS = {
    "throughput": ("benchmarks", "precisions"),
    "latency": ("benchmarks", "precisions"),
    "server": ("benchmarks", "precisions"),
    "reference": ("reference",),
}
ALL = "all"
PAIRS = 5
# Their limits lie so close to 1 that the noise of five pairs could decide.
PAIRS_OF = {"harness": 15, "throughput": 15}
GIBIBYTE = 1 << 30


@dataclass
class Report:
    """What was measured, and what could not be and why."""

    machine: dict[str, str]
    figures: list[Figure] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)


def main(argv: Sequence[str]) -> int:
    """Measure and print. A limit that is missed is no failure: the code is 0 unless something could not be measured."""
    given = run_args.options(argv, FLAGS)
    if "help" in given:
        print('RUN_ARGS="--flag=value ...", for example RUN_ARGS="--only=startup --pairs=15"\n')
        for flag, meaning in FLAGS.items():
            print(f"  --{flag:<16}  {meaning}")
        print("\nmeasurements:")
        for name, meaning in MEASUREMENTS.items():
            print(f"  {name:<12}  {meaning}{' (only when asked for)' if name in WHEN_ASKED_FOR else ''}")
        return ExitCode.GOOD
    names, pairs = _chosen(given), _pairs(given.get("pairs"))
    own = {name: _own(name, given) for name in names}
    _refuse_unused(given, names)
    report = Report(_machine())
    try:
        for name in names:
            _measure(name, pairs or PAIRS_OF.get(name, PAIRS), own[name], report)
    finally:
        if report.figures or report.failures:
            (_print_json if "json" in given else _print_table)(report)
    return ExitCode.ENGINE if report.failures else ExitCode.GOOD


def _chosen(given: dict[str, str | None]) -> list[str]:
    only = [name for name in (given.get("only") or "").split(",") if name]
    for name in only:
        if name not in (*MEASUREMENTS, ALL):
            mend = did_you_mean(name, (*MEASUREMENTS, ALL))
            raise RequestError(f"unknown measurement {name!r}", where="--only", mend=mend)
    if ALL in only:
        return list(MEASUREMENTS)
    wanted = only or [name for name in MEASUREMENTS if name not in WHEN_ASKED_FOR]
    return [name for name in MEASUREMENTS if name in wanted or (name == "fresh" and "fresh" in given)]


def _pairs(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 1000):
        raise RequestError(f"is {text!r}, must be a whole number from 1 to 1000", where="--pairs")
    return int(text)


def _own(name: str, given: dict[str, str | None]) -> dict[str, str | None]:
    """Return the flags that only some measurements take, for this one."""
    return {flag: given[flag] for flag in OWN_FLAGS.get(name, ()) if flag in given}


def _refuse_unused(given: dict[str, str | None], names: Sequence[str]) -> None:
    models.subjects(given.get("benchmarks"), given.get("precisions"))
    for flag in sorted({flag for flags in OWN_FLAGS.values() for flag in flags} & set(given)):
        takers = [name for name, flags in OWN_FLAGS.items() if flag in flags]
        if not set(takers) & set(names):
            raise RequestError(
                "no measurement that was asked for takes it", where=f"--{flag}", mend=f"--only={','.join(takers)}"
            )


def _measure(name: str, pairs: int, own: dict[str, str | None], report: Report) -> None:
    try:
        report.figures += import_module(f"engineroom.bench.{name}").measure(pairs, **own)
    except EngineroomError as error:
        report.failures[name] = str(error)
        print(f"error: {name}: {error}", file=sys.stderr)


def _machine() -> dict[str, str]:
    """Return what the figures depend on."""
    machine = systems.detect()
    installed = versions.of_distributions(("openvino", "onnxruntime", "torch", "numpy", "invoke"))
    return {
        "CPU": f"{machine.cpu.model}, {machine.cpu.usable_cores} usable of {machine.cpu.cores} cores",
        "instruction sets": ", ".join(machine.cpu.isa) or "none of those that matter",
        "memory": f"{machine.memory_bytes / GIBIBYTE:.1f} GiB",
        "GPUs": ", ".join(gpu.name for gpu in machine.gpus) or "none",
        "system": f"{machine.operating_system}, Linux {machine.kernel}, {machine.cpu.architecture}",
        "software": ", ".join(
            f"{name} {version}"
            for name, version in {"Python": platform.python_version(), "LoadGen": loadgen_pin()[0], **installed}.items()
        ),
        "revision": versions.git_revision(),
        "load before": f"{os.getloadavg()[0]:.2f} (mean of a minute; above 0 others are working, too)",
    }


COLUMNS = ("Measured", "Unit", "Engineroom", "Peer", "", "Compared", "Middle half", "Limit", " ")
RIGHT = ("Engineroom", "Peer", "Compared", "Middle half", "Limit")


def _print_table(report: Report) -> None:
    """Print the medians, how they compare, and the quartiles of the pairs."""
    rows = [_cells(figure) for figure in report.figures]
    rows += [[name, *["-"] * 7, "FAILED"] for name in report.failures]
    terminal.table("Bench", COLUMNS, rows, right=RIGHT)
    for name, value in report.machine.items():
        print(f"{name}: {value}")


def _cells(figure: Figure) -> list[str]:
    sign = "at least" if figure.comparison is Comparison.RATIO else "at most"
    low, high = figure.middle_half
    return [
        figure.name,
        figure.unit,
        significant(median(figure.ours)),
        significant(median(figure.peer)) if figure.peer else "-",
        figure.beside,
        {Comparison.RATIO: "{:.3f}", Comparison.DIFFERENCE: "{:+.3f}"}.get(figure.comparison, "-").format(figure.value),
        f"{low:.3f} to {high:.3f}" if len(figure.ours) > 1 else "-",
        f"{sign} {figure.limit:g}" if figure.limit is not None else "-",
        figure.verdict,
    ]


def _print_json(report: Report) -> None:
    import msgspec

    figures = [
        {**msgspec.to_builtins(figure), "value": figure.value, "middle_half": figure.middle_half, "met": figure.met}
        for figure in report.figures
    ]
    record = {"machine": report.machine, "figures": figures, "failures": report.failures}
    print(msgspec.json.format(msgspec.json.encode(record), indent=1).decode())


def entry() -> int:
    """Run `main`; an Engineroom error becomes one message."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what it has started ends with it
    try:
        return main(sys.argv[1:])
    except EngineroomError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.code
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED


if __name__ == "__main__":
    sys.exit(entry())
