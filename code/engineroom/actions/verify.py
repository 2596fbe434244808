"""Says which builds have ever run, and proves on a machine with a GPU that those for GPUs do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from engineroom import registry, run_args, runs, systems, terminal, toolkits, versions
from engineroom.actions import compare, house, run
from engineroom.actions.works import works
from engineroom.benchmarks import Benchmark
from engineroom.detection import Machine
from engineroom.engines import Engine
from engineroom.errors import EngineroomError, ExitCode, RequestError
from engineroom.paths import BUILD, RUNS, display, ensure_folder
from engineroom.runs import Result
from engineroom.steps import fetch, gpu_tests, native, setup, verified
from engineroom.steps.compare import Comparison
from engineroom.steps.gpu_tests import Outcome, Test
from engineroom.steps.verified import COLUMNS, Evidence

ENGINE = "tensorrt"
BENCHMARKS = ("digits", "resnet50")
PRECISIONS = ("fp16", "int8")
AGREEMENT_MIN = 98.0  # %: what int8 may lose of the answers, and fp16 by far does not
RAN, IN_PART = "ran in all scenarios", "ran, and failed in part"


@dataclass
class Found:
    """What came of the requests: the runs, the comparisons, and what failed, in words."""

    comparisons: list[Comparison] = field(default_factory=list)
    results: list[Result] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    @property
    def status(self) -> str | None:
        """What the page says of the build from now on; None if nothing ran: then it says what it said."""
        if not self.results:
            return None
        good = not self.failures and all(each.agreement >= AGREEMENT_MIN for each in self.comparisons)
        return RAN if good else IN_PART


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
    found = Found()
    for words in _requests():
        _try(words, found)
    compare.show(found.comparisons)
    verified.record(evidence := evidence_of(machine, found))
    print(f"wrote a block into {display(verified.PAGE)}: {evidence.status or 'nothing ran'}")
    for page, sentence in verified.outdated(ENGINE):
        print(f'{display(page)} still says "{sentence}": put there what ran')
    return ExitCode.GOOD if found.status == RAN else ExitCode.INVALID


def test_gpu(argv: Sequence[str]) -> int:
    """Run the tests that need an NVIDIA GPU, and write a block for docs/verified.md, unless only some were asked for.

    Where there is no GPU, say so in one line and run nothing.
    """
    house.help_with_pytest(argv)
    machine = systems.detect()
    if not machine.cuda_gpus:
        print(f"skipped: the tests of GPUs need an NVIDIA GPU: {machine.gpu_trouble or 'none is here'}")
        return ExitCode.GOOD
    setup.install("test")
    native.build_harness()
    report = ensure_folder(BUILD / "report") / "test_gpu.xml"
    code = house.pytest(["-m", "gpu", "-rs", f"--junitxml={report}", *argv])
    if not argv:
        verified.record(evidence := evidence_of_tests(machine, gpu_tests.read(report)))
        print(f"wrote a block into {display(verified.PAGE)}: {evidence.status or 'nothing ran'}")
    return code


def _try(words: Sequence[str], found: Found) -> None:
    """Compare and run what a request asks for. What fails is kept in words: the rest is worth trying all the same."""
    before = set(RUNS.glob(f"*/{runs.RESULT}"))
    for step in (_compare, _run):
        try:
            step(words, found)
        except EngineroomError as error:
            terminal.say(f"{' '.join(words)} failed: {error}")
            found.failures.append(f"{' '.join(words)}: {' '.join(str(error).split())}")
    made = sorted(set(RUNS.glob(f"*/{runs.RESULT}")) - before)
    found.results += [result for path in made if (result := runs.read_result(path.parent))]


def _compare(words: Sequence[str], found: Found) -> None:
    request, asked = works(words, extras=compare.FLAGS)
    for work in asked:
        for each in compare.comparisons(request, work):
            found.comparisons.append(each)


def _run(words: Sequence[str], found: Found) -> None:
    if code := run.run_harness(words):
        found.failures.append(f"{' '.join(words)}: the runs ended with exit code {code}")


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


def evidence_of(machine: Machine, found: Found) -> Evidence:
    """Return the block that tells of these plans and runs."""
    facts = {
        **_facts(machine, "make verify_tensorrt (runs of about a minute: not submittable)"),
        "TensorRT": next(iter(_tensorrt_versions()), "unknown"),
        **_numbered("failed", found.failures),
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
        for each in found.comparisons
    ]
    ran = [("benchmark", "scenario", "precision", "what", "figure", "verdict", "run"), *map(_row, found.results)]
    tables = tuple(tuple(table) for table in (compared, ran) if len(table) > 1)
    return Evidence(ENGINE, _today(), found.status, facts, tables)


def evidence_of_tests(machine: Machine, tests: Sequence[Test]) -> Evidence:
    """Return the block that tells of the tests on this machine's GPUs."""
    outcomes = Counter(test.outcome for test in tests)
    failed, skipped = outcomes[Outcome.FAILED], outcomes[Outcome.SKIPPED]
    status = IN_PART if failed else f"ran, but {skipped} tests were skipped" if skipped else RAN
    facts = {
        **_facts(machine, "make test_gpu"),
        "CUDA toolkit": toolkits.cuda_text(),
        "tests": f"{outcomes[Outcome.PASSED]} passed, {failed} failed, {skipped} skipped",
        **_numbered("failed", [test.text for test in tests if test.outcome is Outcome.FAILED]),
        **_numbered("skipped", [test.text for test in tests if test.outcome is Outcome.SKIPPED]),
    }
    passed = Counter(test.function for test in tests if test.outcome is Outcome.PASSED)
    ran = [("test", "passed"), *((name.replace("_", " "), str(count)) for name, count in passed.items())]
    figures = [("figure", "value"), *(pair for test in tests for pair in test.figures.items())]
    tables = tuple(tuple(table) for table in (ran, figures) if len(table) > 1)
    return Evidence("cuda_null", _today(), status if passed else None, facts, tables)


def _facts(machine: Machine, command: str) -> dict[str, str]:
    driver = machine.gpu_driver
    return {
        "GPUs": _gpus(machine),
        "driver": f"{driver.version}, CUDA {driver.cuda_version}" if driver else "unknown",
        "processor": f"{machine.cpu.model}, {machine.cpu.usable_cores} usable cores",
        "system": machine.system,
        "revision": versions.git_revision(),
        "command": command,
    }


def _numbered(word: str, texts: Sequence[str]) -> dict[str, str]:
    return {f"{word} ({number})": text for number, text in enumerate(texts, 1)}


def _today() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d")


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
    found = versions.of_distributions(engine.distributions).values()
    yield from (version for version in found if version != versions.NOT_INSTALLED)
