"""Keeps the house: what is here, compiling, installing, checking, tidying up."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from engineroom import __version__, registry, run_args, systems, terminal, versions
from engineroom.errors import ExitCode, RequestError
from engineroom.paths import LIB, ROOT, VENV, display
from engineroom.shell import CommandError, run
from engineroom.steps import fetch, native, setup

BIN = VENV / "bin"
GIBIBYTE = 1 << 30


def info(argv: Sequence[str]) -> int:
    """Show this machine, the benchmarks, the engines and what each still lacks."""
    asked = run_args.options(argv, {"json": "print JSON instead of tables"})
    found = _found()
    if "json" in asked:
        print(msgspec.json.format(msgspec.json.encode(found), indent=1).decode())
        return ExitCode.GOOD
    for section, facts in found.items():
        rows = [(name, _words(value)) for name, value in facts.items()]
        terminal.table(section.capitalize(), ("", ""), rows)
        print()
    return ExitCode.GOOD


def _found() -> dict[str, dict[str, Any]]:
    machine = systems.detect()
    return {
        "machine": msgspec.to_builtins(machine),
        "benchmarks": {
            name: "model and data are here" if fetch.has_files(plugin.load().BENCHMARK) else "model or data missing"
            for name, plugin in registry.find("benchmarks").items()
        },
        "engines": {name: _engine_state(plugin.load().ENGINE) for name, plugin in registry.find("engines").items()},
        "calibrators": {
            name: _library_state(plugin.load().CALIBRATOR) for name, plugin in registry.find("calibrators").items()
        },
        "components": {
            "engineroom": f"{__version__}, revision {versions.git_revision()}",
            "native harness": f"built in {display(LIB)}" if native.STAMP.exists() else "not built: make build_harness",
            **versions.of_distributions(("openvino", "onnxruntime", "onnx", "numpy", "nanobind", "cmake", "ninja")),
        },
    }


def _engine_state(engine: Any) -> str:
    kind = "native" if engine.native else "Python"
    return f"{kind}; precisions {', '.join(engine.precisions)}; {_library_state(engine)}"


def _library_state(plugin: Any) -> str:
    if absent := registry.missing(plugin.modules):
        return f'needs {", ".join(absent)}: make install RUN_ARGS="--engine={plugin.name}"'
    installed = [f"{name} {version}" for name, version in versions.of_distributions(plugin.distributions).items()]
    return ", ".join(installed) or "ready"


def _words(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {item}" for name, item in value.items())
    if isinstance(value, int) and value >= GIBIBYTE:
        return f"{value / GIBIBYTE:.1f} GiB"
    return "none" if value is None else str(value)


def build(argv: Sequence[str]) -> int:
    """Compile LoadGen and the harness."""
    asked = run_args.options(argv, BUILD_FLAGS)
    return _built("LoadGen and the harness", native.build_harness(force="force" in asked))


def build_loadgen(argv: Sequence[str]) -> int:
    """Fetch and compile LoadGen."""
    asked = run_args.options(argv, BUILD_FLAGS)
    return _built("LoadGen", native.build_loadgen(force="force" in asked))


def build_harness(argv: Sequence[str]) -> int:
    """Compile the harness; it needs LoadGen, which is compiled first."""
    return build(argv)


BUILD_FLAGS = {"force": "make it again even if nothing changed"}


def _built(what: str, built: native.Built) -> int:
    print(f"{what}: {'reused' if built.reused else 'built'} {display(built.path)} ({built.why})")
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


def test(argv: Sequence[str]) -> int:
    """Lint, then run the tests that are light and quick."""
    _help_with_pytest(argv)
    return lint([]) or _pytest(["-m", "not heavy", *argv])


def test_all(argv: Sequence[str]) -> int:
    """Run the tests that are long or heavy."""
    _help_with_pytest(argv)
    setup.install("test")
    setup.install("train")
    native.build_harness()
    return _pytest(["-m", "heavy", *argv])


def _help_with_pytest(argv: Sequence[str]) -> None:
    if run_args.asks_help(argv):
        raise run_args.Help({"...": 'every option of pytest, for example RUN_ARGS="-k digits"'})


def _pytest(arguments: list[str]) -> int:
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
