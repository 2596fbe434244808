"""Keeps the house: compiling, installing, checking, tidying up."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from engineroom import registry, run_args, terminal
from engineroom.errors import ExitCode, RequestError
from engineroom.paths import ROOT, VENV, display
from engineroom.shell import CommandError, run
from engineroom.steps import native, setup

BIN = VENV / "bin"


def build(argv: Sequence[str]) -> int:
    """Compile LoadGen and the harness."""
    asked = run_args.options(argv, BUILD_FLAGS)
    built = native.build_harness(force="force" in asked, plan="plan" in asked)
    return _built("LoadGen and the harness", built, asked)


def build_loadgen(argv: Sequence[str]) -> int:
    """Fetch and compile LoadGen."""
    asked = run_args.options(argv, BUILD_FLAGS)
    return _built("LoadGen", native.build_loadgen(force="force" in asked, plan="plan" in asked), asked)


def build_harness(argv: Sequence[str]) -> int:
    """Compile the harness; it needs LoadGen, which is compiled first."""
    return build(argv)


BUILD_FLAGS = {
    "force": "make it again even if nothing changed",
    "plan": "say what would be done, and do nothing",
}


def _built(what: str, built: native.Built, asked: Mapping[str, str | None]) -> int:
    states = ("would be reused", "would be built") if "plan" in asked else ("reused", "built")
    print(f"{what}: {states[0] if built.reused else states[1]} {display(built.path)} ({built.why})")
    return ExitCode.GOOD


def install(argv: Sequence[str]) -> int:
    """Add an extra to build/venv: by its name, or by the engine that needs it."""
    extras, engines = ", ".join(setup.extras()), ", ".join(registry.find("engines"))
    flags = {"extra=NAME": f"the extra: {extras}", "engine=NAME": f"the engine whose extra it is: {engines}"}
    asked = run_args.options(argv, flags)
    if not asked:
        mend = f"--extra=NAME: {extras}\n  --engine=NAME: {engines}"
        raise RequestError("what to install is not named", where=run_args.WHERE, mend=mend)
    if extra := asked.get("extra"):
        setup.install(extra)
    if engine := asked.get("engine"):
        setup.install_for(engine)
    return ExitCode.GOOD


def wheelhouse(argv: Sequence[str]) -> int:
    """Collect what an installation without a network needs."""
    run_args.options(argv, {})
    setup.wheelhouse()
    return ExitCode.GOOD


def shell(argv: Sequence[str]) -> int:
    """Open a shell with build/venv active."""
    run_args.options(argv, {})
    setup.shell()
    return ExitCode.GOOD


def clean(argv: Sequence[str]) -> int:
    """Remove what can be made again; measurements and downloads only if named and confirmed."""
    flags = {"results": "runs and submissions, too; asks first", "data": "downloads, too; asks first"}
    asked = run_args.options(argv, flags)
    setup.clean(results="results" in asked, data="data" in asked)
    return ExitCode.GOOD


def clean_shallow(argv: Sequence[str]) -> int:
    """Remove the compiled libraries."""
    run_args.options(argv, {})
    setup.clean_shallow()
    return ExitCode.GOOD


def lint(argv: Sequence[str]) -> int:
    """Run every check that needs no test: each one runs, and the first failure is the exit code's."""
    run_args.options(argv, {})
    setup.install("test")
    native.build_harness()  # mypy reads the stub of the native module
    failed = [command[0] for command in CHECKS if not _passes([str(BIN / command[0]), *command[1:]])]
    if failed:
        print(f"these checks failed: {', '.join(failed)}; what they found stands above")
    return ExitCode.INVALID if failed else ExitCode.GOOD


CHECKS = (("ruff", "check", "."), ("ruff", "format", "--check", "."), ("mypy",), ("lint-imports",))


def _passes(command: list[str]) -> bool:
    try:
        run(command, cwd=ROOT)
    except CommandError as error:
        terminal.say(f"{error.what}")
        return False
    return True


# A process per core, but few: each makes again what the tests of a file share, and heavy tests use several cores by
# themselves.
SIDE_BY_SIDE = ("--numprocesses=auto", "--maxprocesses=4", "--dist=loadfile")
HEAVY_SIDE_BY_SIDE = ("--numprocesses=2", "--dist=loadfile")


def test(argv: Sequence[str]) -> int:
    """Lint, then run the tests that are light and quick."""
    help_with_pytest(argv)
    return lint([]) or pytest(["-m", "not heavy and not gpu", *SIDE_BY_SIDE, *argv])


def test_all(argv: Sequence[str]) -> int:
    """Run the tests that are long or heavy."""
    help_with_pytest(argv)
    for extra in ("test", "torch", "litert"):
        setup.install(extra)
    native.build_harness()
    return pytest(["-m", "heavy and not gpu", *HEAVY_SIDE_BY_SIDE, *argv])


def help_with_pytest(argv: Sequence[str]) -> None:
    """Raise Help, if it is asked for, of a task whose options are pytest's."""
    if run_args.asks_help(argv):
        raise run_args.Help({"...": 'every option of pytest, for example RUN_ARGS="-k digits"'})


def pytest(arguments: list[str]) -> int:
    """Run pytest; return the task's exit code."""
    os.environ.pop("RUN_ARGS", None)  # pytest's options are not for what the tests run
    return ExitCode.GOOD if _passes([str(BIN / "python"), "-m", "pytest", *arguments]) else ExitCode.INVALID


def bench(argv: Sequence[str]) -> int:
    """Measure what the README states, beside a peer."""
    if not run_args.asks_help(argv):
        setup.install("test")
        native.build_harness()
    try:
        run([BIN / "python", "-m", "engineroom.bench", *argv], cwd=ROOT)
    except CommandError as error:
        if error.exit_code not in list(ExitCode):
            raise
        return error.exit_code  # it has said what is wrong
    return ExitCode.GOOD
