"""Things that are made once and reused: folders keyed by the content of everything they were made from.

    <shelf>/<key>/manifest.json    inputs, files with size and SHA-256, what the maker returned, how long it took
    <shelf>/<key>/...              the files themselves

A folder appears by one rename, so one that exists is complete.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, NotRequired, TypedDict, Unpack

import msgspec

from engineroom import checksums
from engineroom.errors import EngineError, RequestError
from engineroom.paths import display, locked, not_writable, sha256_file

MANIFEST = "manifest.json"
UNKNOWN = "not known before it is made"  # stands in a plan's inputs for the content of what is still to be made
FORCED = "asked for by --force"
_proven: dict[Path, tuple[tuple[int, ...], str]] = {}  # files found right in this process: their state then, SHA-256
_made_here: set[Path] = set()  # `force` makes a thing again once in a process, however often it is asked for


class FileFact(TypedDict):
    """Size, time of last change and SHA-256 (hex) of one file of an artifact; of a large one, of each piece, too."""

    bytes: int
    mtime_ns: int
    sha256: str
    pieces: NotRequired[list[str]]


class Manifest(msgspec.Struct, frozen=True):
    """What manifest.json says. `seconds` is how long it took to make; older manifests do not have it."""

    inputs: dict[str, str]
    files: dict[str, FileFact]
    facts: dict[str, Any]
    seconds: float | None = None

    @property
    def bytes(self) -> int:
        """The size of all files."""
        return sum(fact["bytes"] for fact in self.files.values())


class State(StrEnum):
    """What became of an artifact that was asked for; the last two only in a plan.

    OPEN: reused if what has to be made before it comes out as it was, else to be made.
    """

    REUSED = "reused"
    MADE = "made"
    TO_MAKE = "to make"
    OPEN = "open"


class Switches(TypedDict, total=False):
    """How artifacts are obtained: may they be made, must they be made again, or is only asked what would be done?"""

    may_make: bool
    force: bool
    plan: bool


@dataclass(frozen=True)
class Artifact:
    """A keyed folder. `why` says in a few words why it was reused or made; `facts` is what its maker returned.

    One that is only planned has neither files nor facts.
    """

    folder: Path
    inputs: Mapping[str, str]
    files: Mapping[str, FileFact]
    facts: Mapping[str, Any]
    state: State
    why: str

    @property
    def reused(self) -> bool:
        """Whether it was there and has not changed."""
        return self.state is State.REUSED

    @property
    def planned(self) -> bool:
        """Whether it is still to be made."""
        return self.state in (State.TO_MAKE, State.OPEN)

    @property
    def key(self) -> str:
        """The content key, 16 hex digits."""
        return self.folder.name

    def file(self, name: str) -> Path:
        """Return the path of one of its files."""
        return self.folder / name

    def sha256(self, name: str) -> str:
        """Return the SHA-256 of one of its files, or UNKNOWN if it is only planned."""
        return UNKNOWN if self.planned else self.files[name]["sha256"]


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
    return Artifact(folder, inputs, manifest.files, manifest.facts, State.REUSED, f"unchanged: {', '.join(inputs)}")


def obtain(
    shelf: Path,
    inputs: Mapping[str, str],
    make: Callable[[Path], Mapping[str, Any]],
    *,
    what: str,
    resumable: bool = False,
    unfit: Callable[[Mapping[str, Any]], str | None] = lambda facts: None,
    **switches: Unpack[Switches],
) -> Artifact:
    """Return the artifact made from `inputs`, calling `make(folder)` only if there is none yet, or with `force`.

    `unfit` says of an artifact's facts why it must be made again although nothing of its inputs has changed. With
    `plan`, return what would be done instead, and write nothing. Raises RequestError if it would have to be made and
    `may_make` is false. If a `resumable` make is interrupted or fails, the next one gets its folder as it was left.
    """
    decided = _decide(shelf, inputs, what, unfit, switches)
    if decided.reused or switches.get("plan"):
        return decided
    with locked(shelf):
        decided = _decide(
            shelf, inputs, what, unfit, switches
        )  # another process may have made it while this one waited
        return decided if decided.reused else _make(decided, make, resumable)


def newest(shelf: Path, inputs: Mapping[str, str] | None = None) -> Manifest | None:
    """Return the manifest of what was made last on `shelf`; None if nothing was, or it cannot be read.

    With `inputs`, of what was made last from these, as far as they are known, whatever else it was made from.
    """
    folders = sorted(_made_on(shelf), key=lambda folder: (folder / MANIFEST).stat().st_mtime, reverse=True)
    if inputs is None:
        return _manifest(folders[0]) if folders else None
    return next((made for made in map(_manifest, folders) if made and agree(made.inputs, inputs)), None)


def _made_on(shelf: Path) -> list[Path]:
    return [path.parent for path in shelf.glob(f"*/{MANIFEST}") if not path.parent.name.startswith(".")]


def _decide(
    shelf: Path,
    inputs: Mapping[str, str],
    what: str,
    unfit: Callable[[Mapping[str, Any]], str | None],
    switches: Switches,
) -> Artifact:
    """Return what is there, or what is to be made and why; write nothing."""
    folder = shelf / key_of(inputs)
    force = switches.get("force", False) and folder not in _made_here
    found = None if force else look_up(shelf, inputs)
    useless = unfit(found.facts) if found else None
    if found and not useless:
        return found
    state, why = State.TO_MAKE, FORCED if force else useless or _why_made(shelf, inputs)
    if not switches.get("may_make", True):
        raise RequestError(f"{what} has to be made ({why})", where=display(shelf), mend="leave out --no_build")
    if not force and (follows := _follows(shelf, inputs)):
        state, why = State.OPEN, f"reused if this comes out as it was: {', '.join(follows)}"
    return Artifact(folder, inputs, {}, {}, state, why)


def _follows(shelf: Path, inputs: Mapping[str, str]) -> list[str]:
    """Return the inputs that are not known yet, if something on the shelf was made from the others."""
    unknown = [name for name, value in inputs.items() if value == UNKNOWN]
    manifests = map(_manifest, _made_on(shelf) if unknown else ())
    return unknown if any(manifest and _alike(manifest.inputs, inputs) for manifest in manifests) else []


def _alike(made_from: Mapping[str, str], inputs: Mapping[str, str]) -> bool:
    return made_from.keys() == inputs.keys() and agree(made_from, inputs)


def agree(made_from: Mapping[str, str], inputs: Mapping[str, str]) -> bool:
    """Tell whether something was made from `inputs`, as far as they are known, whatever else it was made from."""
    return all(value in (UNKNOWN, made_from.get(name)) for name, value in inputs.items())


def _make(decided: Artifact, make: Callable[[Path], Mapping[str, Any]], resumable: bool) -> Artifact:
    folder, inputs = decided.folder, decided.inputs
    partial = folder.with_name(f".{folder.name}.partial")
    begin = time.perf_counter()
    try:
        for left in folder.parent.glob(".*.partial"):
            if left != partial or not resumable or decided.why == FORCED:
                shutil.rmtree(left, ignore_errors=True)
        partial.mkdir(exist_ok=True)
        facts = dict(make(partial))
        files = {str(path.relative_to(partial)): _fact(path) for path in sorted(partial.rglob("*")) if path.is_file()}
        seconds = round(time.perf_counter() - begin, 3)
        manifest = {"inputs": dict(inputs), "files": files, "facts": facts, "seconds": seconds}
        (partial / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
        for name in (*files, MANIFEST):
            _sync(partial / name)
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    except OSError as error:
        raise not_writable(folder, error) from error
    finally:
        if not resumable:
            shutil.rmtree(partial, ignore_errors=True)
    _made_here.add(folder)
    return Artifact(folder, inputs, files, facts, State.MADE, decided.why)


def check_content(artifact: Artifact) -> None:
    """Read every byte of the files. If one is not what was made, remove the artifact and raise EngineError."""
    states = {artifact.file(name): _state(artifact.file(name)) for name in artifact.files}
    if wrong := _first_wrong(artifact):
        shutil.rmtree(artifact.folder, ignore_errors=True)
        raise EngineError(
            "is not what was made; it has been removed",
            where=display(wrong),
            mend="type the same command again: it is made anew",
        )
    for name, fact in artifact.files.items():
        _proven[artifact.file(name)] = (states[artifact.file(name)], fact["sha256"])


def sha256_in_use(path: Path) -> str:
    """Return a file's SHA-256. What `check_content` read in this process, and nobody touched since, is not read again.

    Raises RequestError as `sha256_file` does.
    """
    state, sha256 = _proven.get(path, ((), ""))
    return sha256 if sha256 and state == _state(path) else sha256_file(path)


def _first_wrong(artifact: Artifact) -> Path | None:
    wanted = []
    for name, fact in artifact.files.items():
        path = artifact.file(name)
        if not path.is_file() or path.stat().st_size != fact["bytes"]:
            return path
        wanted += checksums.pieces(path, fact["bytes"], fact["sha256"], fact.get("pieces", ()))
    try:
        return checksums.first_wrong(wanted, display(artifact.folder))
    except OSError as error:
        raise RequestError(f"cannot be read: {error.strerror}", where=display(artifact.folder)) from error


def _state(path: Path) -> tuple[int, ...]:
    """Return what changes when a file is written or replaced, as far as the file system tells; () if there is none."""
    try:
        status = path.stat()
    except OSError:
        return ()
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


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
    fact = FileFact(bytes=status.st_size, mtime_ns=status.st_mtime_ns, sha256=sha256_file(path))
    if pieces := checksums.of_pieces(path):
        fact["pieces"] = pieces
    return fact


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
    if not _made_on(shelf):
        return "first time"
    manifest = newest(shelf)
    if manifest is None:
        return "the earlier one's manifest cannot be read"
    old = manifest.inputs
    changed = [name for name in {**old, **inputs} if old.get(name) != inputs.get(name)]
    return "; ".join(f"{name}: {_short(old.get(name))} -> {_short(inputs.get(name))}" for name in changed)


def _short(value: str | None) -> str:
    if value is None:
        return "none"
    is_hash = len(value) == 64 and all(letter in "0123456789abcdef" for letter in value)
    return value[:12] if is_hash else value
