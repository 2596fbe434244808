"""Looks at the machine and the installation: what is here, what differs, what is missing."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from engineroom import detection, registry, run_args, systems, terminal
from engineroom.actions import plan
from engineroom.actions.plan import Plan
from engineroom.actions.works import works
from engineroom.detection import Machine
from engineroom.errors import EngineroomError, ExitCode, RequestError
from engineroom.paths import LIB, LOADGEN, display, overlays
from engineroom.run_args import Request
from engineroom.steps import doctor as checking
from engineroom.steps import inventory, native
from engineroom.steps.doctor import Check, Needs, Room, State
from engineroom.steps.doctor import show as checks_shown
from engineroom.steps.inventory import Component, show

INFO_FLAGS = {
    "diff=A,B": "what differs between two: a run (part of its folder's name), a file of --json, or `this`",
    "json": "print JSON instead of tables",
}


def info(argv: Sequence[str]) -> int:
    """Show every component with its version, its path and how it was found, and what each still lacks."""
    asked = run_args.options(_joined(argv), INFO_FLAGS)
    if "diff" in asked:
        return _diff(asked["diff"] or "", as_json="json" in asked)
    found = _inventory()
    if "json" in asked:
        _print_json(found)
    else:
        show.print_inventory(found)
    return ExitCode.GOOD


def _joined(argv: Sequence[str]) -> list[str]:
    """Accept `--diff A B` for --diff=A,B."""
    words = list(argv)
    if "--diff" in words:
        begin = words.index("--diff")
        names = [word for word in words[begin + 1 : begin + 3] if not word.startswith("--")]
        words[begin : begin + 1 + len(names)] = [f"--diff={','.join(names)}"]
    return words


def _diff(pair: str, *, as_json: bool) -> int:
    names = [name for name in pair.split(",") if name]
    if len(names) != 2:
        raise RequestError(
            f"compares two, and {len(names)} are named",
            where=f"{run_args.WHERE}: --diff",
            mend='for example: make info RUN_ARGS="--diff RUN this"; ls build/runs shows the runs',
        )
    a, b = (inventory.find_record(name, _inventory) for name in names)
    difference = inventory.compare(a, b)
    if as_json:
        _print_json({**msgspec.to_builtins(difference), "equal": difference.equal})
    else:
        show.print_difference(difference)
    return ExitCode.GOOD


def _print_json(value: Any) -> None:
    print(msgspec.json.format(msgspec.json.encode(value), indent=1).decode())


def _inventory() -> dict[str, Any]:
    return inventory.take(_machine(), libraries=_native())


def _machine() -> Machine:
    """Return this machine; where systems/ is in disorder, without its id."""
    try:
        return systems.detect()
    except EngineroomError as error:
        terminal.warn(str(error))
        return detection.detect()


def _native() -> list[Component]:
    """Return LoadGen and the native harness, which the build makes from this checkout."""
    version, _ = native.loadgen_pin()
    folder = LOADGEN / f"mlcommons_loadgen-{version}"
    here = {"path": str(folder), "found": display(LOADGEN)} if folder.is_dir() else {"problem": "not fetched yet"}
    loadgen = Component("LoadGen", _loadgen_version(folder) or version, **here)
    return [loadgen, _harness()]


def _harness() -> Component:
    """Return the compiled harness; its version is the checksum of the sources that it was compiled from."""
    path = next(iter(sorted(LIB.glob("engineroom_native*.so"))), None)
    if path is None:
        return Component("native harness", problem="not compiled yet", mend="make build")
    sources = native.compiled_sources()
    harness = Component("native harness", sources[:12] if sources else None, str(path), display(LIB))
    try:
        built = native.build_harness(plan=True)
    except EngineroomError as error:
        return replace(harness, problem=error.what, mend=error.mend)
    return harness if built.reused else replace(harness, problem=f"out of date ({built.why})", mend="make build")


def _loadgen_version(folder: Path) -> str | None:
    """Return the version and revision that LoadGen's own sources name."""
    try:
        text = (folder / "generated" / "version_generated.cc").read_text(encoding="utf-8")
    except OSError:
        return None
    found: Mapping[str, str] = dict(re.findall(r'(LoadgenVersion|LoadgenGitRevision)\(\)[^"]*"([^"]+)"', text))
    return " ".join(filter(None, (found.get("LoadgenVersion"), found.get("LoadgenGitRevision")))) or None


# The doctor


def doctor(argv: Sequence[str]) -> int:
    """Check what a run of these RUN_ARGS needs and what makes its figures steadier; each finding with its remedy."""
    if run_args.asks_help(argv):
        raise run_args.Help(run_args.flags())
    request, planned = _asked(argv)
    found = checking.run(
        {
            "request": lambda: _request_check(planned),
            **checking.of_machine(_machine(), _needs(request, planned)),
            "harness": _harness_check,
        }
    )
    if request.json:
        _print_json([{"name": name, **msgspec.to_builtins(check)} for name, check in found.items()])
    else:
        checks_shown.print_checks(found)
    return ExitCode.REQUEST if checks_shown.worst(found) is State.MISSING else ExitCode.GOOD


def _asked(argv: Sequence[str]) -> tuple[Request, Plan | Exception]:
    """Return the request and what a run of it would do, or what keeps that from being told: a check says so."""
    try:
        overlays()
    except EngineroomError as error:  # without the overlays no name in the request can be told right from wrong
        return Request(json="--json" in argv), error
    request = run_args.parse(argv, os.environ)
    words = [word for word in argv if word.partition("=")[0] not in ("--plan", "--json")]
    try:
        return request, plan.of_run(*works([*words, "--plan"]))
    except Exception as error:  # the doctor is asked because something is wrong: the other checks shall be seen
        return request, error


def _request_check(planned: Plan | Exception) -> Check:
    """Tell whether the settings of every run can be settled."""
    if isinstance(planned, Exception):
        raise planned
    tests = [step for step in planned.steps if step.test and not step.only_if]
    return Check(State.GOOD, f"{len(tests)} tests can be planned; make run_harness with --plan shows them")


def _needs(request: Request, planned: Plan | Exception) -> Needs:
    tests = [] if isinstance(planned, Exception) else [step.test for step in planned.steps if step.test]
    asked = {test.engine for test in tests} or {request.overrides.get("engine", "auto")} - {"auto"}
    engines = [_compiled(item) for item in inventory.guarded("engines", inventory.engines)]
    benchmarks = inventory.guarded("benchmarks", inventory.benchmarks)
    rooms = [] if isinstance(planned, Exception) else [_room(room) for room in planned.rooms]
    libraries = inventory.guarded("libraries", inventory.libraries)
    return Needs(
        benchmarks=[_plugin(item, item.name in request.benchmarks) for item in benchmarks],
        engines=[_plugin(item, item.name in asked) for item in engines],
        gpu_by=[name for name in sorted(asked) if _is_on_gpu(name, request)],
        memory=next((room for room in rooms if room.where == "memory"), None),
        disks=[room for room in rooms if room.where != "memory"],
        absent=_absent([item for item in [*benchmarks, *engines] if item.name in {*request.benchmarks, *asked}]),
        cuda_runtimes={
            item.path: item.version for item in libraries if item.name == "CUDA runtime" and item.path and item.version
        },
    )


def _compiled(engine: Component) -> Component:
    """Return the engine with its problem, if the harness that is compiled here has been left without it."""
    try:
        if not engine.problem:
            native.check_has(engine.name)
    except EngineroomError as lack:
        return replace(engine, problem=lack.what, mend=lack.mend)
    return engine


def _plugin(item: Component, asked: bool) -> checking.Plugin:
    return checking.Plugin(item.name, asked, item.problem, item.mend or "")


def _is_on_gpu(engine: str, request: Request) -> bool:
    try:
        return bool(registry.get("engines", engine).load().ENGINE.accelerator_with(request.overrides) == "gpu")
    except EngineroomError:  # the check of the engines says what is wrong with it
        return False


def _room(room: plan.Room) -> Room:
    enough = {plan.YES: True, plan.PERHAPS: None, plan.NO: False}[room.fits]
    most = None if room.needed.most is None else int(room.needed.most)
    return Room(room.where, int(room.needed.least), most, room.free_bytes, enough)


def _absent(asked: Sequence[Component]) -> list[str]:
    """Return what a run would have to fetch: LoadGen's sources unless it is compiled, and what plug-ins lack."""
    version, _ = native.loadgen_pin()
    archive = LOADGEN / f"mlcommons_loadgen-{version}.tar.gz"
    loadgen = [] if archive.is_file() or sorted(LIB.glob("engineroom_native*.so")) else [f"LoadGen {version}"]
    return [*loadgen, *(f"what {item.name} needs" for item in asked if item.problem)]


def _harness_check() -> Check:
    built = native.build_harness(plan=True)
    return checking.checks.native(built.why, reused=built.reused)
