"""Compiles what is native: LoadGen from its pinned source distribution, and the harness with its Python module."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from engineroom import packages, toolkits, versions
from engineroom.bootstrap import COMPILERS
from engineroom.errors import EngineError, RequestError
from engineroom.paths import (
    CODE,
    LIB,
    LOADGEN,
    NATIVE,
    VENV,
    display,
    ensure_folder,
    locked,
    sha256_file,
    unpack_whole,
    write_text,
)
from engineroom.shell import CommandError, capture, run
from engineroom.terminal import counting, progress, say

HARNESS = CODE / "harness"
LOADGEN_LOCK = packages.LOCKS / "loadgen.lock"
STAMP = LIB / "native.json"
LOG = NATIVE / "build.log"
LOCK = NATIVE / ".lock"
MODULE = "engineroom_native_stub"  # CMake's target for the Python module with its type stub
TITLES = {MODULE: "LoadGen and the native harness", "loadgen": "LoadGen"}  # in words that a person reads

_PROGRESS = re.compile(r"\[(\d+)/(\d+)\]")
_COMPILE_ERROR = re.compile(r"^(.*:\d+:\d+: (fatal )?error: .*|.*undefined reference.*|CMake Error.*)$", re.MULTILINE)
_SHOWN_ERRORS = 5


@dataclass(frozen=True)
class Built:
    """What a build left: whether it was `reused`, and `why` in a few words.

    `whole`: everything has to be compiled, not only the sources that changed.
    """

    path: Path
    reused: bool
    why: str
    whole: bool = False


def build_loadgen(*, force: bool = False, plan: bool = False) -> Built:
    """Fetch LoadGen and compile it. Raises RequestError if it cannot be had, EngineError if it does not compile.

    With `plan`, return what would be done instead, and write nothing.
    """
    return _decide_and_build("loadgen", NATIVE / "loadgen.json", force=force, plan=plan)


def build_program(name: str) -> Path:
    """Compile one of the harness's own programs (harness_test, cuda_test, bare_null_sut) and return its path."""
    with _only_one():
        _build(name, NATIVE / f"{name}.json", force=False, may_build=True)
    return NATIVE / name


def build_harness(*, force: bool = False, may_build: bool = True, plan: bool = False) -> Built:
    """Compile LoadGen, the harness and the module `engineroom_native` into build/lib unless nothing changed.

    With `plan`, return what would be done instead, and write nothing. Raises RequestError if something is missing or,
    without `may_build`, out of date; EngineError if compiling fails.
    """
    return _decide_and_build(MODULE, STAMP, force=force, may_build=may_build, plan=plan)


def seconds_before() -> float | None:
    """Return how long compiling the whole harness took here the last time, if that is on record."""
    seconds = _read(STAMP).get("seconds")
    return float(seconds) if isinstance(seconds, int | float) else None


def compiled_sources() -> str | None:
    """Return the SHA-256 over the sources that the harness in build/lib was compiled from, if that is on record."""
    inputs = _read(STAMP).get("inputs")
    return inputs.get("sources") if isinstance(inputs, dict) else None


def left_out() -> dict[str, str]:
    """Return the engines that the harness, as it is configured here, lacks, and why. Empty where that is not known."""
    try:
        lines = (NATIVE / "left_out.txt").read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    current = lines and _read(NATIVE / "configured.json") == _configuration(_inputs())
    return dict(line.split(" ", 1) for line in lines) if current else {}


def check_has(engine: str) -> None:
    """Raise RequestError if the harness, as it is configured here, has been left without `engine`."""
    if why := left_out().get(engine):
        raise RequestError(
            f"the harness has no engine {engine}: {why}",
            where=display(LIB),
            mend="when that is mended: make build_harness RUN_ARGS=--force",
        )


def loadgen_source() -> Path:
    """Return the folder of LoadGen's sources, fetched if it was not yet, checked, and unpacked anew.

    Anew, because the rules want LoadGen unmodified: what somebody has changed in the folder is never compiled.
    """
    version, sha256 = loadgen_pin()
    source = LOADGEN / f"mlcommons_loadgen-{version}"
    archive = LOADGEN / f"{source.name}.tar.gz"
    if not archive.exists():
        packages.download(LOADGEN_LOCK, LOADGEN, source=True)
    _check(archive, sha256)
    _unpack(archive, source)
    return source


def loadgen_pin() -> tuple[str, str]:
    """Return LoadGen's version and the SHA-256 of its source distribution, as the lock names them."""
    text = LOADGEN_LOCK.read_text(encoding="utf-8")
    found = re.search(r"^mlcommons-loadgen==(\S+)[^#]*--hash=sha256:(\w{64})", text, re.MULTILINE)
    if not found:
        raise RequestError("names no mlcommons-loadgen with its hash", where=display(LOADGEN_LOCK))
    return found[1], found[2]


def _check(archive: Path, expected: str) -> None:
    found = sha256_file(archive)
    if found != expected:
        aside = archive.with_name(archive.name + ".mismatch")
        archive.replace(aside)
        raise RequestError(
            f"the SHA-256 is {found}, but {display(LOADGEN_LOCK)} expects {expected}",
            where=display(archive),
            mend=f"set aside as {display(aside)}; the next make fetches it again",
        )


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack beside and rename, so that a folder that exists is complete."""
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)
    with archive.open("rb") as content:
        unpack_whole(content, partial)
    (partial / folder.name).rename(folder)
    partial.rmdir()


def _decide_and_build(target: str, stamp: Path, *, force: bool, may_build: bool = True, plan: bool = False) -> Built:
    decided = _decide(target, stamp, _inputs(), force=force, may_build=may_build)
    if decided.reused or plan:
        return decided
    with _only_one():
        return _build(target, stamp, force=force, may_build=may_build)


def _build(target: str, stamp: Path, *, force: bool, may_build: bool) -> Built:
    """Configure if need be, then compile `target`. The caller holds the lock."""
    inputs = _inputs()
    decided = _decide(target, stamp, inputs, force=force, may_build=may_build)
    if decided.reused:  # another make built it while this one waited
        return decided
    begin = time.monotonic()
    source = loadgen_source()
    if decided.whole:
        _configure(source, _configuration(inputs))
    _compile(target)
    outputs = {path.name: path.stat().st_size for path in _outputs(target)}
    seconds = round(time.monotonic() - begin, 1) if decided.whole else _read(stamp).get("seconds")
    write_text(stamp, json.dumps({"inputs": inputs, "outputs": outputs, "seconds": seconds}, indent=1) + "\n")
    return decided


def _decide(target: str, stamp: Path, inputs: Mapping[str, str], *, force: bool, may_build: bool) -> Built:
    """Return what is there, or why it must be compiled. Raises RequestError if it must be and `may_build` is false."""
    if not force and (unchanged := _unchanged(stamp, inputs)):
        return unchanged
    why = "asked for by --force" if force else _why(stamp, inputs)
    if not may_build:
        what = f"{TITLES.get(target, target)} must be compiled ({why})"
        raise RequestError(what, where=display(LIB), mend="leave out --no_build")
    whole = force or _read(NATIVE / "configured.json") != _configuration(inputs)
    return Built(stamp.parent, False, why, whole)


def _configuration(inputs: Mapping[str, str]) -> dict[str, str]:
    """Return the inputs that CMake was told: if one of them changes, nothing of what was compiled can be kept."""
    return {name: value for name, value in inputs.items() if name != "sources"}


def _inputs() -> dict[str, str]:
    """Return all that a build depends on, cheaply: nothing is imported, and only the harness's sources are read."""
    return {
        "sources": _tree_hash(HARNESS),
        "LoadGen": " ".join(loadgen_pin()),
        "compiler": capture([*_compiler(), "--version"]).partition("\n")[0],
        "options": " ".join(os.environ.get(name, "") for name in ("CXXFLAGS", "LDFLAGS")).strip(),
        "Python": f"{sys.version} {sys.prefix}",
        **versions.of_distributions(("openvino", "nanobind", "cmake")),
        "CUDA": _stamp_of(toolkits.nvcc()),
        "TensorRT": _tensorrt_text(),
    }


def _tensorrt_text() -> str:
    folder = toolkits.tensorrt_include()
    return "none" if folder is None else "{}.{} in {}".format(*toolkits.tensorrt_version(folder), folder)


def _stamp_of(path: Path | None) -> str:
    """Return what changes with a program: where it is and when it was installed."""
    return "none" if path is None else f"{path} {path.stat().st_mtime_ns}"


def _compiler() -> list[str]:
    """Return the C++ compiler's command: what CXX says, or the first one on PATH. Raises RequestError."""
    try:
        named = shlex.split(os.environ.get("CXX", ""))
    except ValueError as error:
        raise RequestError(f"{error}".lower(), where="CXX", mend="unset CXX, or name a C++20 compiler") from None
    if named:
        if not shutil.which(named[0]):
            raise RequestError("no such compiler", where=f"CXX={named[0]}", mend="unset CXX, or name a C++20 compiler")
        return named
    for name in COMPILERS:
        if path := shutil.which(name):
            return [path]
    raise RequestError(
        f"no C++ compiler on PATH (looked for {', '.join(COMPILERS)})",
        mend="Debian, Ubuntu: sudo apt-get install g++; Fedora, RHEL: sudo dnf install gcc-c++",
    )


def _tree_hash(folder: Path) -> str:
    """Return one SHA-256 over the names and contents of all files below `folder`."""
    total = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        total.update(f"{path.relative_to(folder)}\0{sha256_file(path)}\n".encode())
    return total.hexdigest()


def _configure(loadgen: Path, inputs: Mapping[str, str]) -> None:
    """Run CMake in an empty build folder: objects of another compiler or Python must not be linked in."""
    for path in NATIVE.iterdir():
        if path.name != LOCK.name:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    say(f"compiler: {inputs['compiler']}")
    variables: dict[str, str | Path] = {
        "CMAKE_MAKE_PROGRAM": _tool("ninja"),
        "LOADGEN_SOURCE_DIR": loadgen,
        "OUTPUT_DIR": LIB,
        "Python_EXECUTABLE": sys.executable,
        "OpenVINO_DIR": _openvino_cmake(),
        "ENGINEROOM_NVCC": toolkits.nvcc() or "",
        "ENGINEROOM_TENSORRT_INCLUDE": toolkits.tensorrt_include() or "",
    }
    command: list[str | Path] = [_tool("cmake"), "-S", HARNESS, "-B", NATIVE, "-G", "Ninja"]
    _run([*command, *(f"-D{name}={value}" for name, value in variables.items())], "configure")
    write_text(NATIVE / "configured.json", json.dumps(inputs, indent=1) + "\n")


def _openvino_cmake() -> Path:
    """Return the folder of OpenVINO's CMake files, which its wheel ships beside the library."""
    spec = find_spec("openvino")
    if spec is None or spec.origin is None:
        raise RequestError(
            "OpenVINO is not installed", where=display(VENV), mend="remove build/venv and type make again"
        )
    return Path(spec.origin).parent / "cmake"


def _compile(target: str) -> None:
    ensure_folder(LIB)
    what = TITLES.get(target, target)
    started = time.monotonic()
    with progress(f"compile {what}", 1.0) as update:
        show = counting(update)

        def on_line(line: str) -> None:
            if found := _PROGRESS.match(line):
                show(int(found[1]), int(found[2]))

        _run([_tool("cmake"), "--build", NATIVE, "--target", target], f"compile {what}", on_line)
    say(f"compiled {what} ({time.monotonic() - started:.0f} s)")


def _run(command: Sequence[str | Path], what: str, on_line: Callable[[str], None] | None = None) -> None:
    """Run one command of the build; if it fails, show its first errors and where the rest is."""
    begin = LOG.stat().st_size if LOG.exists() else 0
    try:
        run(command, env={**os.environ, "CXX": shlex.join(_compiler())}, log=LOG, on_line=on_line)
    except CommandError as error:
        with LOG.open("rb") as file:
            file.seek(begin)
            output = file.read().decode("utf-8", "replace")
        errors = [found.group() for found in _COMPILE_ERROR.finditer(output)] or output.strip().splitlines()[-1:]
        mend = "\n  ".join([*errors[:_SHOWN_ERRORS], f"the whole log: {display(LOG)}"])
        raise EngineError(f"could not {what}: {error.what}", where=display(HARNESS), mend=mend) from error


def _tool(name: str) -> Path:
    """Return the venv's own CMake or Ninja, whatever else is on PATH."""
    return Path(sys.executable).with_name(name)


def _outputs(target: str) -> list[Path]:
    """Return the files that `target` leaves and that a later check looks for."""
    if target == MODULE:
        return sorted((*LIB.glob("engineroom_native*"), *LIB.glob("libengineroom_gpu.so")))
    return [path for path in (NATIVE / target, NATIVE / f"lib{target}.a") if path.exists()]


def _only_one() -> AbstractContextManager[None]:
    """Hold the build folder's lock: two makes of one checkout must not compile into the same files."""
    return locked(NATIVE, lambda: say("another make is compiling the native harness; waiting for it"))


def _unchanged(stamp: Path, inputs: Mapping[str, str]) -> Built | None:
    """Return what was built from the same inputs, if its files are still there in their full size."""
    old = _read(stamp)
    if old.get("inputs") != inputs:
        return None
    for name, size in old["outputs"].items():
        path = stamp.parent / name
        if not path.is_file() or path.stat().st_size != size:
            return None
    return Built(stamp.parent, True, "unchanged: sources, LoadGen, compiler, Python, OpenVINO, nanobind, CUDA")


def _why(stamp: Path, inputs: Mapping[str, str]) -> str:
    old = _read(stamp).get("inputs")
    if not isinstance(old, dict):
        return "first time"
    changed = [name for name in inputs if old.get(name) != inputs[name]]
    return f"changed: {', '.join(changed)}" if changed else "a file that it had made is gone"


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
