"""Finds the components that take part, or could: programs, libraries, Python packages, plug-ins, models and data."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from engineroom import packages, registry, versions
from engineroom.bootstrap import COMPILERS
from engineroom.errors import EngineroomError, RequestError
from engineroom.paths import OVERLAYS, ROOT, VENV, display, overlay_version, overlays

TIMEOUT_S = 3.0  # for one program to say its version
CUDA_VARIABLES = ("CUDA_HOME", "CUDA_PATH")
CUDA_FOLDER = Path("/usr/local/cuda")  # where NVIDIA's own packages and containers have it
WSL_LIBRARIES = Path("/usr/lib/wsl/lib")  # Windows puts the driver's libraries there, outside the loader's cache


@dataclass(frozen=True)
class Component:
    """One thing that takes part, or could. What nobody could find out is None.

    `found` says how it was found: "PATH", "build/venv", "CUDA_HOME", "loader's cache". `problem` says why it cannot be
    used, and `mend` what mends that.
    """

    name: str
    version: str | None = None
    path: str | None = None
    found: str | None = None
    problem: str | None = None
    mend: str | None = None


# Programs


@dataclass(frozen=True)
class Program:
    """A program of the toolchain: the words that make it say its version, and where in its answer that stands."""

    name: str
    ask: tuple[str, ...] = ("--version",)
    version: str = r"\b(\d+(?:\.\d+)+)"


COMPILER, NVCC = Program("c++"), Program("nvcc", version=r"\bV(\d[\d.]*)")
PROGRAMS = (
    *(COMPILER, Program("gcc"), Program("g++"), Program("clang++"), NVCC, Program("make"), Program("git")),
    *(Program("docker"), Program("podman"), Program("apptainer"), Program("enroot", ("version",))),
    Program("nvidia-smi"),
)
FROM_VENV = ("cmake", "ninja")  # the build takes the venv's own, whatever else is on PATH


def toolchain(programs: Iterable[Program] = PROGRAMS) -> list[Component]:
    """Return Python, the venv's build tools, the CUDA toolkit and `programs`, which are asked all at once."""
    asked = list(programs)
    with ThreadPoolExecutor(len(asked)) as pool:
        answers = list(pool.map(_program, asked))
    base = Path(sys.base_prefix)
    python = Component("python", sys.version.split()[0], sys.executable, f"{_venv_or(sys.executable)}, of {base}")
    return [python, *_build_tools(), *answers, _cuda_toolkit()]


def _build_tools() -> Iterator[Component]:
    for name in FROM_VENV:
        path = Path(sys.executable).with_name(name)
        version = _version_of(name)
        if path.exists() and version:
            yield Component(name, version, str(path), _venv_or(path))
        else:
            yield Component(name, problem="not found", mend="rm build/venv/ready    # the next make installs it again")


def _program(program: Program) -> Component:
    path, found = _which(program.name)
    if path is None:
        return Component(program.name, problem="not found", found=found)
    try:
        done = subprocess.run(
            [path, *program.ask],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT_S,
            env={**os.environ, "LC_ALL": "C"},
        )
    except subprocess.TimeoutExpired:
        return Component(program.name, None, path, found, problem=f"did not answer within {TIMEOUT_S:.0f} s")
    except OSError as error:
        return Component(program.name, None, path, found, problem=f"does not start: {error.strerror}")
    if done.returncode:
        return Component(program.name, None, path, found, problem=_last_line(done.stderr or done.stdout))
    # In parentheses distributions put their own number: g++ (Debian 12.2.0-14) 12.2.0.
    answer = re.search(program.version, re.sub(r"\([^)]*\)", "", done.stdout))
    return Component(program.name, answer[1] if answer else None, path, found)


def _which(name: str) -> tuple[str | None, str]:
    """Return a program's path, if it is there, and where it was looked for last."""
    if name == COMPILER.name:
        if named := os.environ.get("CXX"):
            return shutil.which(_first_word(named)), "CXX"
        return next(filter(None, map(shutil.which, COMPILERS)), None), "PATH"
    if path := shutil.which(name):
        return path, _venv_or(path, "PATH")
    if name == NVCC.name:
        for folder, found in _cuda_folders():
            if path := shutil.which(str(folder / "bin" / name)):
                return path, found
    return None, "PATH"


def _first_word(command: str) -> str:
    try:
        return shlex.split(command)[0]
    except (ValueError, IndexError):  # an open quote, only blanks
        return command


def _cuda_folders() -> Iterator[tuple[Path, str]]:
    for variable in CUDA_VARIABLES:
        if value := os.environ.get(variable):
            yield Path(value), variable
    yield CUDA_FOLDER, str(CUDA_FOLDER)


def _cuda_toolkit() -> Component:
    for folder, found in _cuda_folders():
        if folder.is_dir():
            header = _text(folder / "include" / "cuda.h")
            number = re.search(r"^#define\s+CUDA_VERSION\s+(\d+)", header, re.MULTILINE)
            version = f"{int(number[1]) // 1000}.{int(number[1]) % 1000 // 10}" if number else None
            return Component("CUDA toolkit", version, str(folder.resolve()), found)
    return Component("CUDA toolkit", problem="not found")


def _last_line(text: str) -> str:
    return (text.strip() or "it says no version").splitlines()[-1]


# Libraries

LIBRARIES = {
    "CUDA driver": "libcuda",
    "NVML": "libnvidia-ml",
    "CUDA runtime": "libcudart",
    "cuDNN": "libcudnn",
    "TensorRT": "libnvinfer",
}
_CACHE_ARCHITECTURES = {"x86_64": "x86-64", "aarch64": "AArch64"}


def libraries() -> list[Component]:
    """Return the C library, and NVIDIA's libraries wherever the loader or a Python package would find them.

    A version is what the file's own name says; of a name such as libcudart.so.13 only the first number is known.
    """
    name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "C library").partition(" ")
    cache = _loader_cache()
    found = [Component(name, version or None, cache.get("libc.so.6"), "loader's cache" if cache else None)]
    for title, stem in LIBRARIES.items():
        copies = list(_copies(title, stem, cache))
        found += copies or [Component(title, problem="not found")]
    return found


def _copies(title: str, stem: str, cache: Mapping[str, str]) -> Iterator[Component]:
    """Yield each file that is this library once, the one that the loader takes first."""
    seen: set[Path] = set()
    for path, found in _candidates(stem, cache):
        try:
            real = path.resolve()
            if real in seen or not real.is_file() or "stubs" in path.parts:
                continue
        except (OSError, RuntimeError):  # a folder that may not be entered, a link to itself
            continue
        seen.add(real)
        version = re.search(r"\.so\.(\d[\d.]*)$", real.name)
        yield Component(title, version[1] if version else None, str(real), found)


def _candidates(stem: str, cache: Mapping[str, str]) -> Iterator[tuple[Path, str]]:
    pattern = f"{stem}.so*"
    for folder in filter(None, os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep)):
        yield from ((path, "LD_LIBRARY_PATH") for path in sorted(Path(folder).glob(pattern)))
    yield from ((Path(path), "loader's cache") for name, path in cache.items() if name.startswith(f"{stem}.so"))
    for folder_, found in _cuda_folders():
        yield from ((path, found) for path in sorted((folder_ / "lib64").glob(pattern)))
    yield from ((path, "WSL") for path in sorted(WSL_LIBRARIES.glob(pattern)))
    for site in dict.fromkeys(path for path in sys.path if path.endswith("-packages")):
        for wheel in (f"nvidia/*/lib/{pattern}", f"tensorrt_libs/{pattern}"):
            yield from ((path, _venv_or(path, "Python's path")) for path in sorted(Path(site).glob(wheel)))


def _loader_cache() -> dict[str, str]:
    """Return the path of each library of this architecture that ldconfig lists, by its name."""
    ldconfig = shutil.which("ldconfig") or shutil.which("ldconfig", path="/sbin:/usr/sbin")
    if ldconfig is None:
        return {}
    try:
        done = subprocess.run([ldconfig, "-p"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=3)
    except (OSError, subprocess.TimeoutExpired):
        return {}
    word = _CACHE_ARCHITECTURES.get(os.uname().machine, "")
    lines = re.findall(r"^\s*(\S+) \(([^)]*)\) => (\S+)$", done.stdout, re.MULTILINE)
    cache: dict[str, str] = {}
    for name, kind, path in lines:
        if word in kind:
            cache.setdefault(name, path)
    return cache


# Python packages


def python_packages() -> list[Component]:
    """Return every installed Python distribution with the folder that it is imported from."""
    found: dict[str, Component] = {}
    for item in metadata.distributions():
        name, folder = item.metadata["Name"], str(item.locate_file(""))
        if name and name not in found:  # a second one of that name is hidden by the first
            found[name] = Component(name, item.version, folder, _venv_or(folder, "Python's path"))
    return sorted(found.values(), key=lambda component: component.name.lower())


def _version_of(distribution: str) -> str | None:
    version = versions.of_distribution(distribution)
    return None if version == versions.NOT_INSTALLED else version


# Plug-ins, models and data


def benchmarks() -> list[Component]:
    """Return the benchmarks, each with what it still lacks."""
    return _plugins("benchmarks", _benchmark)


def engines() -> list[Component]:
    """Return the engines; one that cannot be used says why, and how its library is installed."""
    return _plugins("engines", _engine)


def calibrators() -> list[Component]:
    """Return the calibrators, as `engines`."""
    return _plugins("calibrators", _with_libraries)


def _plugins(kind: str, describe: Callable[[Component, Any], Component]) -> list[Component]:
    found = []
    for name, plugin in registry.find(kind).items():
        where = "checkout" if plugin.path.is_relative_to(ROOT) else OVERLAYS
        component = Component(name, path=str(plugin.path), found=where)
        try:
            component = describe(component, getattr(plugin.load(), registry.KINDS[kind].upper()))
        except EngineroomError as error:
            component = replace(component, problem=error.what, mend=error.mend)
        except Exception as error:  # whatever a plug-in's own code may raise, the others shall be shown
            component = replace(component, problem=f"{type(error).__name__}: {error}")
        found.append(component)
    return found


def _benchmark(component: Component, benchmark: Any) -> Component:
    absent = [item for item in _files_of(benchmark) if item.problem]
    if not absent:
        return component
    return replace(
        component, problem=f"not here: {', '.join(dict.fromkeys(item.name for item in absent))}", mend=absent[0].mend
    )


def _with_libraries(component: Component, plugin: Any) -> Component:
    installed = [f"{name} {version}" for name in plugin.distributions if (version := _version_of(name))]
    component = replace(component, version=", ".join(installed) or None)
    if absent := registry.missing(plugin.modules):
        return replace(component, problem=f"needs {', '.join(absent)}", mend=install_command(plugin.name))
    return component


def _engine(component: Component, engine: Any) -> Component:
    component = _with_libraries(component, engine)
    if component.problem:
        return component
    try:
        engine.check_installed()
    except RequestError as lack:
        return replace(component, problem=lack.what, mend=lack.mend)
    return component


def install_command(engine: str) -> str:
    """Return the command that installs what an engine needs: its extra, or the venv's own packages again."""
    if (packages.LOCKS / f"{engine}.lock").is_file():
        return f'make install RUN_ARGS="--engine={engine}"'
    return "rm build/venv/ready    # the next make installs it again"


def models_and_data() -> list[Component]:
    """Return the files that the benchmarks name: models and raw data, here or not."""
    found: dict[str, Component] = {}
    for plugin in registry.find("benchmarks").values():
        try:
            files = list(_files_of(plugin.load().BENCHMARK))
        except Exception:  # the list of benchmarks says so
            continue
        found.update((str(item.path), item) for item in files)
    return list(found.values())


def _files_of(benchmark: Any) -> Iterator[Component]:
    named = f"benchmark {benchmark.name}"
    model, _ = benchmark.model_file()
    yield _file(
        f"{benchmark.name} model", model, named, f'make download_model RUN_ARGS="--benchmarks={benchmark.name}"'
    )
    for path in benchmark.data_files():
        yield _file(
            f"{benchmark.dataset} data", path, named, f'make download_data RUN_ARGS="--benchmarks={benchmark.name}"'
        )


def _file(name: str, path: Path, found: str, command: str) -> Component:
    component = Component(name, path=str(path), found=found)
    return component if path.is_file() else replace(component, problem="not here", mend=command)


def overlay_folders() -> list[Component]:
    """Return the folders that ENGINEROOM_PATH names, the strongest first. Raises RequestError for one that is none."""
    return [
        Component(folder.name, overlay_version(folder), path=str(folder), found=OVERLAYS)
        for folder in reversed(overlays())
    ]


# Small helpers


def guarded(title: str, find: Callable[[], list[Component]]) -> list[Component]:
    """Return what `find` returns; where it cannot go on, one component that says why."""
    try:
        return find()
    except EngineroomError as error:
        return [Component(title, path=error.where, problem=error.what, mend=error.mend)]
    except OSError as error:
        return [Component(title, path=error.filename, problem=f"cannot be looked at: {error.strerror}")]


def _venv_or(path: str | Path, otherwise: str = "this Python") -> str:
    return display(VENV) if Path(path).is_relative_to(VENV) else otherwise


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
