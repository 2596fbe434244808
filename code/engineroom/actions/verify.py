"""Says which builds have ever run, and proves that TensorRT's does, on a machine that can."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from engineroom import registry, run_args, runs, systems, terminal, versions
from engineroom.actions import compare, run
from engineroom.actions.works import works
from engineroom.benchmarks import Benchmark
from engineroom.detection import Machine
from engineroom.engines import Engine
from engineroom.errors import ExitCode, RequestError
from engineroom.paths import RUNS, display
from engineroom.runs import Result
from engineroom.steps import fetch, native, verified
from engineroom.steps.compare import Comparison
from engineroom.steps.verified import COLUMNS, Evidence

ENGINE = "tensorrt"
BENCHMARKS = ("digits", "resnet50")
PRECISIONS = ("fp16", "int8")
AGREEMENT_MIN = 98.0  # %: what int8 may lose of the answers, and fp16 by far does not
RAN, FAILED = "ran in all scenarios", "ran, and failed in part"


def builds(argv: Sequence[str]) -> int:
    """Show each build, whether it has ever run, and when that was verified."""
    run_args.options(argv, {})
    terminal.table("builds", COLUMNS, verified.rows(verified.read()))
    terminal.note(f"From {display(verified.PAGE)}, which has the evidence.")
    return ExitCode.GOOD


def verify_tensorrt(argv: Sequence[str]) -> int:
    """Build plans of digits and ResNet-50, compare them, run all scenarios, and write a block for docs/verified.md.

    The exit code is 1 if a run is no good one or a plan's answers are not the float model's; the block says which.
    """
    run_args.options(argv, {})
    machine = systems.detect()
    _check(machine)
    native.build_harness()
    native.check_has(ENGINE)
    before = set(RUNS.glob(f"*/{runs.RESULT}"))
    codes: list[int] = []
    comparisons: list[Comparison] = []
    for words in _requests():
        request, asked = works(words, extras=compare.FLAGS)
        comparisons += [each for work in asked for each in compare.comparisons(request, work)]
        codes.append(run.run_harness(words))
    compare.show(comparisons)
    results = [runs.read_result(path.parent) for path in sorted(set(RUNS.glob(f"*/{runs.RESULT}")) - before)]
    good = not any(codes) and all(each.agreement >= AGREEMENT_MIN for each in comparisons)
    evidence = evidence_of(machine, comparisons, [each for each in results if each], good=good)
    verified.record(evidence)
    print(f"wrote a block into {display(verified.PAGE)}: {evidence.status}")
    return ExitCode.GOOD if good else ExitCode.INVALID


def _check(machine: Machine) -> None:
    """Raise RequestError where no plan can be built or run."""
    engine: Engine = registry.get("engines", ENGINE).load().ENGINE
    try:
        engine.check_machine(machine)
        engine.check_installed()
    except RequestError as lack:
        what = f"TensorRT cannot be verified here: {lack.what}"
        raise RequestError(what, where=lack.where, mend=lack.mend) from None


def _requests() -> Iterator[list[str]]:
    """Yield the words of each request. ResNet-50's own weights and images are taken where they are here."""
    for name in BENCHMARKS:
        benchmark: Benchmark = registry.get("benchmarks", name).load().BENCHMARK
        weights = [] if fetch.has_files(benchmark) else ["--weights=synthetic"]
        for precision in PRECISIONS:
            yield [f"--benchmarks={name}", f"--engine={ENGINE}", f"--precision={precision}", "--test_run", *weights]


def evidence_of(
    machine: Machine, comparisons: Sequence[Comparison], results: Sequence[Result], *, good: bool
) -> Evidence:
    """Return the block that tells of these plans and runs."""
    driver = machine.gpu_driver
    facts = {
        "GPUs": _gpus(machine),
        "driver": f"{driver.version}, CUDA {driver.cuda_version}" if driver else "unknown",
        "TensorRT": next(iter(_tensorrt_versions()), "unknown"),
        "processor": f"{machine.cpu.model}, {machine.cpu.usable_cores} usable cores",
        "system": machine.system,
        "revision": versions.git_revision(),
        "command": "make verify_tensorrt (runs of about a minute: not submittable)",
    }
    compared = [("benchmark", "scenario", "precision", "samples", "same answer as fp32", "largest relative error")] + [
        (
            each.benchmark,
            each.scenario,
            each.precision,
            str(each.samples),
            f"{each.agreement:.2f}%",
            "-" if each.relative_error is None else f"{each.relative_error:.2g}",
        )
        for each in comparisons
    ]
    ran = [("benchmark", "scenario", "precision", "what", "figure", "verdict", "run"), *map(_row, results)]
    date = datetime.now(UTC).strftime("%Y-%m-%d")
    return Evidence(ENGINE, date, RAN if good else FAILED, facts, (tuple(compared), tuple(ran)))


def _gpus(machine: Machine) -> str:
    names = sorted({f"{gpu.name}, compute capability {gpu.compute_capability}" for gpu in machine.gpus})
    return f"{len(machine.gpus)} x {' and '.join(names)}" if names else "none"


def _row(result: Result) -> tuple[str, ...]:
    whose = (" ".join((result.benchmark, *result.variant)), result.scenario, result.precision)
    if result.performance:
        found = result.performance
        valid = "VALID" if found.valid else f"INVALID: {'; '.join(found.reasons)}"
        return (*whose, found.metric, f"{found.value:,.2f} {found.unit}", valid, Path(result.run).name)
    if result.accuracy:
        score = result.accuracy
        verdict = f"{'met' if score.met else 'missed'} {score.target:.2f}"
        return (*whose, score.metric, f"{score.value:.2f} {score.unit}", verdict, Path(result.run).name)
    return (*whose, "", "", f"exit code {result.exit_code}", Path(result.run).name)


def _tensorrt_versions() -> Iterator[str]:
    engine: Engine = registry.get("engines", ENGINE).load().ENGINE
    yield from (found for found in versions.of_distributions(engine.distributions).values() if found != "not installed")
