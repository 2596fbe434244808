"""Looks after the installation: extras, the wheelhouse, cleaning up, and a shell with everything on its path."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
import sysconfig
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import NoReturn

from engineroom import packages, registry
from engineroom.detection import container
from engineroom.errors import RequestError, did_you_mean, shown
from engineroom.paths import (
    BUILD,
    CALIBRATION,
    DATA,
    ENGINES,
    LIB,
    LOADGEN,
    MODELS,
    NATIVE,
    PREPROCESSED_DATA,
    RUNS,
    TIMING_CACHE,
    VENV,
    WHEELHOUSE,
    display,
    not_writable,
    sha256_file,
    write_text,
)
from engineroom.shell import capture
from engineroom.terminal import say

COMPILED = (LIB, NATIVE)
MADE = (*COMPILED, CALIBRATION, ENGINES, TIMING_CACHE, PREPROCESSED_DATA, BUILD / "report")
MEASURED = (RUNS, BUILD / "submission")
DOWNLOADED = (DATA, MODELS, LOADGEN, WHEELHOUSE)

_NO_EXTRAS = ("base", "loadgen")  # locks that are always installed
OF_CONTAINERS = ("tensorrt",)  # engines whose packages need no other package, and so can be taken from an NGC image


# Extras


def extras() -> dict[str, Path]:
    """Return the lock of each extra by its name."""
    return {path.stem: path for path in sorted(packages.LOCKS.glob("*.lock")) if path.stem not in _NO_EXTRAS}


def install(extra: str) -> None:
    """Install an extra into build/venv, unless it is there as its lock says. Raises RequestError for an unknown one."""
    known = extras()
    if extra not in known:
        raise RequestError(f"unknown extra {shown(extra)}", where="--extra", mend=did_you_mean(extra, known))
    _install(known[extra])


def install_for(engine: str) -> None:
    """Install the extra of an engine, which has its name, if it needs one. Raises RequestError for an unknown one."""
    known = registry.find("engines")
    if engine not in known:
        raise RequestError(f"unknown engine {shown(engine)}", where="--engine", mend=did_you_mean(engine, known))
    if engine in OF_CONTAINERS and _link_from_container(engine):
        return
    if engine in extras():
        install(engine)
    else:
        say(f"the engine {engine} needs no extra: what it uses is installed with Engineroom")


def _link_from_container(engine: str) -> bool:
    """Link an engine's packages from an NGC image's Python into build/venv, which sees nothing of it otherwise.

    What belongs together there, libraries, headers and package, is of one version: another one must not come between.
    """
    image = container.detect(Path("/"), os.environ)
    if image is None or image.ngc is None:
        return False
    wanted = registry.get("engines", engine).load().ENGINE.distributions
    found = [each for each in metadata.distributions(path=_folders_of_base()) if each.metadata["Name"] in wanted]
    for each in found:
        for name in {file.parts[0] for file in each.files or ()} - {".."}:
            link, target = Path(sysconfig.get_path("purelib"), name), Path(str(each.locate_file(name)))
            if link.is_symlink():
                link.unlink()
            if not link.exists():
                link.symlink_to(target)
        say(f"{each.metadata['Name']} {each.version} is that of this container, {image.ngc}")
    if found:
        lines = extras()[engine].read_text(encoding="utf-8").splitlines()
        others = [line for line in lines if line[:1].isalpha() and not line.startswith(wanted)]
        rest = BUILD / f"{engine}-in-container.txt"
        write_text(rest, "\n".join(others) + "\n")
        packages.install(rest)
    return bool(found)


def _folders_of_base() -> list[str]:
    """Return where the Python that build/venv is made of has its packages."""
    base = getattr(sys, "_base_executable", sys.executable)
    return capture([base, "-I", "-c", "import site; print(*site.getsitepackages(), sep='\\n')"]).splitlines()


def _install(lock: Path) -> None:
    stamp = VENV / f"{lock.stem}.installed"
    wanted = sha256_file(lock)
    if stamp.is_file() and stamp.read_text(encoding="utf-8").strip() == wanted:
        say(f"{lock.stem} is installed; {display(lock)} has not changed since")
        return
    packages.install(lock)
    write_text(stamp, wanted + "\n")


# Installation without a network


def wheelhouse() -> Path:
    """Fetch into build/wheelhouse all that bootstrap, build and tests need on a machine of this Python and platform.

    An interrupted fetch goes on where it stopped. Raises RequestError if the index cannot be reached.
    """
    partial = WHEELHOUSE.with_name("wheelhouse.partial")
    if WHEELHOUSE.is_dir() and not partial.exists():
        WHEELHOUSE.rename(partial)
    locks = [packages.LOCKS / "test.lock", packages.LOCKS / "loadgen.lock"]  # the test lock holds the base lock's too
    for lock in locks:
        packages.download(lock, partial, source=lock.stem == "loadgen", offline=False)
    _drop_what_is_not_locked(partial, locks)
    partial.rename(WHEELHOUSE)
    say(f"{display(WHEELHOUSE)}: {_size(WHEELHOUSE)}; copy it to the same place of a checkout that has no network")
    return WHEELHOUSE


def _drop_what_is_not_locked(folder: Path, locks: Sequence[Path]) -> None:
    wanted = {found for lock in locks for found in re.findall(r"sha256:(\w{64})", lock.read_text(encoding="utf-8"))}
    for path in folder.iterdir():
        if sha256_file(path) not in wanted:
            path.unlink()


# Cleaning up


def clean_shallow() -> None:
    """Remove the compiled libraries."""
    _remove(COMPILED)


def clean(*, results: bool = False, data: bool = False) -> None:
    """Remove everything that can be made again, build/venv too; measurements and downloads only if asked for.

    For those a person has to type a confirmation; without a terminal the request is refused (RequestError).
    """
    precious = [*(MEASURED if results else ()), *(DOWNLOADED if data else ())]
    there = [path for path in precious if path.exists()]
    if there:
        _confirm(there)
    _remove((*MADE, *there))
    _remove((VENV,))  # last: this very process runs from it
    kept = [f"{display(path)} ({_size(path)})" for path in (*MEASURED, *DOWNLOADED) if path.exists()]
    if kept:
        print(f"kept: {', '.join(kept)}")


def _confirm(paths: Sequence[Path]) -> None:
    names = " ".join(display(path) for path in paths)
    if not sys.stdin.isatty():
        raise RequestError(
            f"not removing {names}: that needs a confirmation typed at a terminal",
            where="RUN_ARGS: --results, --data",
            mend="type the command at a terminal, or remove the folders yourself",
        )
    for path in paths:
        print(f"{display(path)}: {_size(path)}")
    try:
        typed = input(f"these cannot be made again; to remove them type: {names}\n> ")
    except EOFError:  # Ctrl-D
        typed = ""
        print()
    if typed.split() != names.split():
        raise RequestError("not confirmed: nothing was removed", where="RUN_ARGS: --results, --data")


def _remove(paths: Sequence[Path]) -> None:
    for path in paths:
        if not path.exists():
            continue
        size = _size(path)
        try:
            _empty(path)
        except OSError as error:
            raise not_writable(Path(error.filename or path).parent, error) from error
        print(f"removed {display(path)} ({size})")


def _empty(folder: Path) -> None:
    """Remove a folder; a link to one stays, for somebody chose that disk, and what it leads to is emptied."""
    if not folder.is_symlink():
        shutil.rmtree(folder)
        return
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _size(folder: Path) -> str:
    total = sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())
    return f"{total / 1e9:.1f} GB" if total >= 1e9 else f"{total / 1e6:.1f} MB"


# A shell


def shell() -> NoReturn:
    """Become a shell in which build/venv is active and the native module is found. Raises RequestError without bash."""
    bash = shutil.which("bash")
    if bash is None:
        raise RequestError(
            "bash is not on PATH", where="make shell", mend=f"activate it: . {display(VENV)}/bin/activate"
        )
    settings = BUILD / "shell.rc"
    write_text(settings, _shell_settings())
    sys.stdout.flush()
    # A shell at a terminal reads --rcfile, one that is fed by a pipe BASH_ENV.
    os.execve(bash, [bash, "--rcfile", str(settings)], {**os.environ, "BASH_ENV": str(settings)})


def _shell_settings() -> str:
    """Return what the shell reads first. The user's own settings come before ours, or they might undo our PATH."""
    return f"""# Read by `make shell`.
unset BASH_ENV
if [[ $- == *i* && -f ~/.bashrc ]]; then . ~/.bashrc; fi
VIRTUAL_ENV_DISABLE_PROMPT=1
. {shlex.quote(str(VENV))}/bin/activate
export PYTHONPATH={shlex.quote(str(LIB))}
PS1="(engineroom) ${{PS1-}}"
"""
