"""Things that are made once and reused: folders keyed by the content of everything they were made from.

    <shelf>/<key>/manifest.json    inputs, files with size and SHA-256, what the maker returned
    <shelf>/<key>/...              the files themselves

A folder appears by one rename, so one that exists is complete.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import msgspec

from engineroom.errors import EngineError, RequestError
from engineroom.paths import display, ensure_folder, not_writable, sha256_file

MANIFEST = "manifest.json"
_made_here: set[Path] = set()  # `force` makes a thing again once in a process, however often it is asked for


class FileFact(TypedDict):
    """Size, time of last change and SHA-256 (hex) of one file of an artifact."""

    bytes: int
    mtime_ns: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True):
    """What manifest.json says."""

    inputs: dict[str, str]
    files: dict[str, FileFact]
    facts: dict[str, Any]


@dataclass(frozen=True)
class Artifact:
    """A keyed folder. `why` says in a few words why it was reused or made; `facts` is what its maker returned."""

    folder: Path
    inputs: Mapping[str, str]
    files: Mapping[str, FileFact]
    facts: Mapping[str, Any]
    reused: bool
    why: str

    @property
    def key(self) -> str:
        """The content key, 16 hex digits."""
        return self.folder.name

    def file(self, name: str) -> Path:
        """Return the path of one of its files."""
        return self.folder / name


def key_of(inputs: Mapping[str, str]) -> str:
    """Return the key of `inputs`: 64 bits of the SHA-256 of their canonical JSON."""
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:16]


def look_up(shelf: Path, inputs: Mapping[str, str]) -> Artifact | None:
    """Return the finished artifact made from exactly `inputs`, or None if there is none or a file of it has changed.

    As git does, a file whose size and time are the recorded ones is taken for unchanged; others are hashed.
    """
    folder = shelf / key_of(inputs)
    manifest = _manifest(folder)
    if manifest is None or manifest.inputs != dict(inputs) or _broken_file(folder, manifest):
        return None
    return Artifact(folder, inputs, manifest.files, manifest.facts, True, f"unchanged: {', '.join(inputs)}")


def obtain(
    shelf: Path,
    inputs: Mapping[str, str],
    make: Callable[[Path], Mapping[str, Any]],
    *,
    what: str,
    may_make: bool = True,
    force: bool = False,
) -> Artifact:
    """Return the artifact made from `inputs`, calling `make(folder)` only if there is none yet, or with `force`.

    Raises RequestError if it would have to be made and `may_make` is false.
    """
    force = force and (shelf / key_of(inputs)) not in _made_here
    if not force and (found := look_up(shelf, inputs)):
        return found
    if not may_make:
        why = "asked for by --force" if force else _why_made(shelf, inputs)
        raise RequestError(f"{what} has to be made ({why})", where=display(shelf), mend="leave out --no_build")
    ensure_folder(shelf)
    with _locked(shelf):
        if not force and (found := look_up(shelf, inputs)):  # another process made it while this one waited
            return found
        why = "asked for by --force" if force else _why_made(shelf, inputs)
        return _make(shelf, inputs, make, why)


def _make(shelf: Path, inputs: Mapping[str, str], make: Callable[[Path], Mapping[str, Any]], why: str) -> Artifact:
    folder = shelf / key_of(inputs)
    partial = shelf / f".{folder.name}.partial"
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        facts = dict(make(partial))
        files = {str(path.relative_to(partial)): _fact(path) for path in sorted(partial.rglob("*")) if path.is_file()}
        manifest = {"inputs": dict(inputs), "files": files, "facts": facts}
        (partial / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
        for name in (*files, MANIFEST):
            _sync(partial / name)
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    except OSError as error:
        raise not_writable(folder, error) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    _made_here.add(folder)
    return Artifact(folder, inputs, files, facts, False, why)


def check_content(artifact: Artifact) -> None:
    """Read every byte of the files. If one is not what was made, remove the artifact and raise EngineError."""
    for name, fact in artifact.files.items():
        path = artifact.file(name)
        if not path.is_file() or sha256_file(path) != fact["sha256"]:
            shutil.rmtree(artifact.folder, ignore_errors=True)
            raise EngineError(
                "is not what was made; it has been removed",
                where=display(path),
                mend="type the same command again: it is made anew",
            )


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _manifest(folder: Path) -> Manifest | None:
    try:
        return msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Manifest)
    except (OSError, ValueError):  # msgspec's errors are ValueErrors
        return None


def _fact(path: Path) -> FileFact:
    status = path.stat()
    return FileFact(bytes=status.st_size, mtime_ns=status.st_mtime_ns, sha256=sha256_file(path))


def _broken_file(folder: Path, manifest: Manifest) -> str | None:
    for name, fact in manifest.files.items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != fact["bytes"]:
            return f"{name} is missing or cut off"
        if path.stat().st_mtime_ns != fact["mtime_ns"] and sha256_file(path) != fact["sha256"]:
            return f"{name} has changed since it was made"
    return None


def _why_made(shelf: Path, inputs: Mapping[str, str]) -> str:
    """Compare with the newest artifact on the shelf: which input differs?"""
    folder = shelf / key_of(inputs)
    if folder.exists():
        manifest = _manifest(folder)
        broken = _broken_file(folder, manifest) if manifest else None
        return broken or "its manifest cannot be read or does not fit"
    others = [path for path in shelf.glob(f"*/{MANIFEST}") if not path.parent.name.startswith(".")]
    if not others:
        return "first time"
    newest = _manifest(max(others, key=lambda path: path.stat().st_mtime).parent)
    if newest is None:
        return "the earlier one's manifest cannot be read"
    old = newest.inputs
    changed = [name for name in {**old, **inputs} if old.get(name) != inputs.get(name)]
    return "; ".join(f"{name}: {_short(old.get(name))} -> {_short(inputs.get(name))}" for name in changed)


def _short(value: str | None) -> str:
    if value is None:
        return "none"
    is_hash = len(value) == 64 and all(letter in "0123456789abcdef" for letter in value)
    return value[:12] if is_hash else value


@contextmanager
def _locked(shelf: Path) -> Iterator[None]:
    """Hold the shelf's lock: two makes in one checkout take turns instead of doing the same work twice."""
    lock = shelf / ".lock"
    try:
        handle = os.open(lock, os.O_CREAT | os.O_RDWR, 0o644)
    except OSError as error:
        raise not_writable(lock, error) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
