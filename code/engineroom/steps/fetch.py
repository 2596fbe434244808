"""Makes sure that models and data are here and are the right ones, by their SHA-256.

Data can be large, so what was found is remembered: as in git, a file is read again when its size, times or inode are
not those that it had when it was read.
"""

from __future__ import annotations

import shlex
import time
from contextlib import suppress
from pathlib import Path

import msgspec

from engineroom.benchmarks import Benchmark
from engineroom.errors import Mistakes, RequestError
from engineroom.paths import BUILD, display, sha256_file, write_text

MEMORY = BUILD / "checked_files.json"
# A file that has just been written may be changed again without its time showing it, so it is not remembered yet.
SETTLED_S = 2.0


class Checked(msgspec.Struct, frozen=True):
    """A file as it was when it was read, and its SHA-256 (hex)."""

    bytes: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    sha256: str


def has_files(benchmark: Benchmark) -> bool:
    """Tell whether the benchmark's model and data are on this machine, without reading them."""
    return benchmark.model_file()[0].is_file() and all(path.is_file() for path in benchmark.data_files())


def check_model(benchmark: Benchmark, *, force: bool = False, remember: bool = True) -> str:
    """Return the model's SHA-256 after checking it. Raises RequestError if it is missing or another one.

    `force` reads the file whatever is remembered of it; without `remember` nothing is written.
    """
    path, expected = benchmark.model_file()
    _check({path: expected}, f"the model of {benchmark.name}", force, remember)
    return expected


def check_data(benchmark: Benchmark, *, force: bool = False, remember: bool = True) -> dict[Path, str]:
    """Return the raw data files with their SHA-256 after checking them. Raises Mistakes for all wrong files.

    `force` and `remember` are as in `check_model`.
    """
    files = benchmark.data_files()
    _check(files, f"the data of {benchmark.name}", force, remember)
    return files


def _check(files: dict[Path, str], what: str, force: bool, remember: bool) -> None:
    known = _recall()
    found = {} if force else dict(known)
    mistakes: list[RequestError] = []
    for path, expected in files.items():
        where = display(path)
        if not path.is_file():
            mistakes.append(RequestError(f"{what} is missing", where=where, mend=_restore(path)))
            continue
        try:
            sha256 = _sha256(path, found)
        except RequestError as error:
            mistakes.append(error)
            continue
        if sha256 != expected:
            wrong = f"{what} is not the right file: its SHA-256 is {sha256}, must be {expected}"
            mistakes.append(RequestError(wrong, where=where, mend=_restore(path)))
    if remember and {**known, **found} != known:
        _remember({**known, **found})
    if mistakes:
        raise Mistakes(mistakes)


def _sha256(path: Path, known: dict[str, Checked]) -> str:
    """Return the file's SHA-256, from `known` if it has not changed since; else note it there once it has settled."""
    status = path.stat()
    seen = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
    old = known.get(display(path))
    if old and seen == (old.bytes, old.mtime_ns, old.ctime_ns, old.inode):
        return old.sha256
    sha256 = sha256_file(path)
    if time.time() - max(status.st_mtime, status.st_ctime) > SETTLED_S:
        known[display(path)] = Checked(*seen, sha256)
    return sha256


def _recall() -> dict[str, Checked]:
    try:
        return msgspec.json.decode(MEMORY.read_bytes(), type=dict[str, Checked])
    except (OSError, ValueError):  # msgspec's errors are ValueErrors
        return {}


def _remember(known: dict[str, Checked]) -> None:
    with suppress(
        RequestError, UnicodeError
    ):  # a build/ that cannot be written: whoever has to write there will say so
        write_text(MEMORY, msgspec.json.encode(known).decode() + "\n")


def _restore(path: Path) -> str:
    return f"it is shipped with Engineroom; bring it back with: git checkout -- {shlex.quote(display(path))}"
