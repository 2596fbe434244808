"""Installs and downloads Python packages with the venv's pip: from the wheelhouse if there is one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from engineroom import bootstrap
from engineroom.errors import RequestError
from engineroom.paths import BUILD, ROOT, ensure_folder

LOCKS = ROOT / "requirements"


def install(lock: Path) -> None:
    """Install what a lock names into build/venv. Raises RequestError in pip's stead."""
    # A lock without hashes is not complete either (see requirements/README.md): pip adds what it leaves open.
    strict = ["--require-hashes", "--no-deps"] if "--hash" in lock.read_text(encoding="utf-8") else []
    _pip(f"install {lock.stem}", ["install", "--no-compile", *strict, "--requirement", str(lock)])


def download(lock: Path, folder: Path, *, source: bool = False, offline: bool = True) -> None:
    """Fetch into `folder` the files that a lock names, checked against their hashes; those already there are kept.

    `offline`: from the wheelhouse where there is one. `source`: source distributions, not wheels. pip asks one for its
    metadata, which executes its setup.py once the hash is right, with the build tools of build/venv: an isolated
    environment would be fetched anew each time.
    """
    form = ["--no-binary=:all:", "--no-build-isolation"] if source else ["--only-binary=:all:"]
    ensure_folder(folder)
    arguments = ["download", "--require-hashes", "--no-deps", *form, "--requirement", str(lock), "--dest", str(folder)]
    _pip(f"fetch {lock.stem}", arguments, offline)


def _pip(title: str, arguments: Sequence[str], offline: bool = True) -> None:
    try:
        with bootstrap.stage(title) as show:
            bootstrap.pip(list(arguments), ensure_folder(BUILD) / "pip.log", show, offline)
    except bootstrap.SetupError as error:
        raise RequestError(str(error)) from error
