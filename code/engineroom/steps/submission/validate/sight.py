"""Looks at a tree that nobody vouches for: no link is followed, nothing is opened that could hang."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from io import BufferedReader
from math import inf
from operator import attrgetter
from pathlib import Path
from typing import Any

from engineroom.steps.submission.validate import rulebook
from engineroom.steps.submission.validate.findings import Finding

DEEPEST, MOST = 40, 1_000_000  # folders in each other; entries of one part of a tree
# Of a file that is held in memory: everything but logs. In the round v5.1 the longest accuracy.txt has 95 kB, the
# longest description 60 kB, and no user.conf, summary or verdict more than 4 kB.
SMALL_BYTES, JSON_BYTES, BRIEF_BYTES = 1 << 20, 256 << 10, 64 << 10
BLOCK_BYTES = 64 << 10  # of a file that grows while it is read, or whose size the system does not tell
FILE = "file"
NAME = attrgetter("name")
BLANKS = r"[^\S\n]*"  # in a pattern: within a line, as what may pass over lines takes the square of their number


class Unreadable(Exception):  # noqa: N818  (it says what the file is)
    """A file that cannot be read; the text says why, and `mend` what helps if not its permissions."""

    def __init__(self, why: str, mend: str = "") -> None:
        super().__init__(why)
        self.mend = mend


@dataclass
class Seen:
    """What lies in a folder, each by its path from there: files with their sizes, folders. Links are in neither."""

    folder: str  # from the tree's root
    files: dict[str, int] = field(default_factory=dict)
    folders: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    def at(self, path: str) -> str:
        """Return the path of something in the folder, from the tree's root."""
        return "/".join(part for part in (self.folder, path) if part) or "."

    def below(self, name: str) -> dict[str, int]:
        """Return the files in a folder and below it, by their paths from it."""
        start = f"{name}/"
        return {path[len(start) :]: size for path, size in self.files.items() if path.startswith(start)}


def is_folder(root: Path, folder: str) -> bool:
    """Tell whether something is a folder, and no link to one."""
    try:
        return stat.S_ISDIR(os.lstat(f"{root}/{folder}").st_mode)
    except (OSError, ValueError):
        return False


def size_of(root: Path, file: str) -> int | None:
    """Return the size of a plain file, None where there is none that can be seen."""
    try:
        found = os.lstat(f"{root}/{file}")
    except (OSError, ValueError):
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def look(root: Path, folder: str, *, most_bytes: float) -> Seen:
    """Return what lies in `folder` and below. A file of more than `most_bytes` is a fault."""
    seen = Seen(folder)
    waiting = [("", 0)]
    while waiting:
        name, depth = waiting.pop()
        for entry in _entries(root, name, seen):
            path = f"{name}/{entry.name}" if name else entry.name
            if len(seen.files) + len(seen.folders) >= MOST or depth >= DEEPEST:
                seen.findings.append(rulebook.TOO_DEEP.at(seen.at(name), found=f"depth {depth}"))
                return seen
            if _take(entry, path, seen, most_bytes):
                waiting.append((path, depth + 1))
    return seen


def _entries(root: Path, name: str, seen: Seen) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(f"{root}/{seen.at(name)}") as entries:
            return sorted(entries, key=NAME)
    except OSError as error:
        seen.findings.append(rulebook.UNREADABLE.at(seen.at(name), found=error.strerror, expected="a folder"))
        return []


def _take(entry: os.DirEntry[str], path: str, seen: Seen, most_bytes: float) -> bool:
    """Note one entry; tell whether it is a folder to look into."""
    if bad := name_fault(entry.name):
        seen.findings.append(rulebook.NAME.at(seen.at(path), found=bad, expected="a plain name"))
    try:
        if entry.is_dir(follow_symlinks=False):
            seen.folders.append(path)
            return True
        if entry.is_file(follow_symlinks=False):
            size = seen.files[path] = entry.stat(follow_symlinks=False).st_size
            if size <= most_bytes:
                return False
            rule, found, expected = rulebook.TOO_LARGE, f"{size:,} bytes", f"at most {most_bytes:,} bytes"
        elif entry.is_symlink():
            rule, found, expected = rulebook.LINK, f"a link to {Path(entry.path).readlink()}", FILE
        else:
            rule, found, expected = rulebook.SPECIAL, "a device, pipe or socket", FILE
    except OSError as error:
        rule, found, expected = rulebook.UNREADABLE, error.strerror or "cannot be read", ""
    seen.findings.append(rule.at(seen.at(path), found=found, expected=expected))
    return False


def name_fault(name: str) -> str:
    """Say what is wrong with a name, "" if nothing is."""
    if name.isascii() and name.isprintable() and " " not in name and not name.startswith("."):
        return ""
    if name.startswith("."):
        return "it begins with a dot"
    if any(char.isspace() for char in name):
        return "it holds a space"
    if any("\ud800" <= char <= "\udfff" for char in name):
        return "it is no UTF-8"
    return "" if name.isprintable() else "it holds a character that cannot be printed"


def open_plain(root: Path, file: str) -> BufferedReader:
    """Open a plain file to read. Raises Unreadable for a link, a pipe or what must not be read."""
    handle, _ = _opened(root, file)
    return os.fdopen(handle, "rb")


def _opened(root: Path, file: str) -> tuple[int, int]:
    """Return a plain file, opened to read, and its size."""
    try:
        # Of text, not of paths: a round has a hundred thousand files.
        handle = os.open(f"{root}/{file}", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        raise Unreadable(getattr(error, "strerror", None) or str(error)) from None
    found = os.fstat(handle)
    if not stat.S_ISREG(found.st_mode):
        os.close(handle)
        raise Unreadable("no plain file")
    return handle, found.st_size


def beginning(root: Path, file: str, most: int) -> bytes:
    """Return a file's first bytes, `most` or all. Raises Unreadable."""
    handle, size = _opened(root, file)
    try:
        found = os.read(handle, min(size + 1, most))  # one more than it has: so its end is seen at once
        while len(found) < most and (more := os.read(handle, min(BLOCK_BYTES, most - len(found)))):
            found += more
    except OSError as error:
        raise Unreadable(error.strerror or "cannot be read") from None
    finally:
        os.close(handle)
    return found


def content(root: Path, file: str, most: int = SMALL_BYTES) -> bytes:
    """Return a file's bytes. Raises Unreadable, also for one that has more than `most`."""
    found = beginning(root, file, most + 1)
    if len(found) > most:
        raise Unreadable(f"more than {most:,} bytes", "shorten it: a file of its kind is never so long")
    return found


def text(root: Path, file: str, findings: list[Finding], most: int = SMALL_BYTES) -> str | None:
    """Return a file's text; note what is wrong with it and return None where it has none."""
    try:
        return content(root, file, most).decode("utf-8-sig")
    except Unreadable as error:
        findings.append(rulebook.UNREADABLE.at(file, found=error, expected="a plain file", mend=error.mend))
    except UnicodeDecodeError as error:
        findings.append(rulebook.LOG_BINARY.at(file, found=f"byte {error.start:,} is no UTF-8", expected="a text"))
    return None


def json_object(root: Path, file: str, findings: list[Finding]) -> dict[str, Any] | None:
    """Return the object in a JSON file; note what is wrong with it and return None where there is none."""
    if (written := text(root, file, findings, JSON_BYTES)) is None:
        return None
    import json

    repeated: list[str] = []

    def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(found)
        if len(made) != len(found):
            counts = Counter(name for name, _ in found)
            repeated.extend(name for name, count in counts.items() if count > 1)
        return made

    try:
        told_object = json.loads(written, object_pairs_hook=pairs)
    except (ValueError, RecursionError) as error:
        line = getattr(error, "lineno", None)
        findings.append(rulebook.JSON.at(file, line or "", found=getattr(error, "msg", error), expected="JSON"))
        return None
    findings.extend(rulebook.JSON_REPEATED.at(file, key, found="stands there twice") for key in sorted(repeated))
    if not isinstance(told_object, dict):
        findings.append(rulebook.JSON.at(file, found=type(told_object).__name__, expected="an object"))
        return None
    return told_object


def lacking(folder: str, files: Mapping[str, int], names: Iterable[str]) -> Iterator[Finding]:
    """Yield the files that must be in a folder and say something, and do not. `files` are those there, by size."""
    for name in names:
        if name not in files:
            yield rulebook.MISSING.at(f"{folder}/{name}", found="not there", expected="a file")
        elif not files[name]:
            yield rulebook.EMPTY.at(f"{folder}/{name}", found="0 bytes", expected="a file that says something")


def folders(
    root: Path, folder: str, findings: list[Finding], *, most_bytes: float = inf
) -> tuple[list[str], list[str]]:
    """Return the names of the folders and of the files directly in `folder`, "" for the root, without links and such.

    A file of more than `most_bytes` is a fault.
    """
    seen = Seen(folder)
    names = [entry.name for entry in _entries(root, "", seen) if _take(entry, entry.name, seen, most_bytes)]
    findings += seen.findings
    return names, list(seen.files)


def number(value: object) -> float | None:
    """Return a finite number, or None for anything else."""
    if type(value) is int or type(value) is float:  # true is an int, too, and no number here
        return float(value) if -1e300 < value < 1e300 else None
    return None


def lines_of(written: str) -> Iterator[tuple[int, str]]:
    """Yield each line that is not blank, with its number."""
    for place, line in enumerate(written.splitlines(), 1):
        if stripped := line.strip():
            yield place, stripped
