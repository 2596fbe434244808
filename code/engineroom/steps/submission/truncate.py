"""Cuts accuracy logs short, as a submission wants them: the hash of the whole log, its first and its last 4 KB.

The whole logs are kept beside the tree, under the same names, and can be put back. Source of the format:
mlcommons/inference at b66003e1, tools/submission/truncate_accuracy_log.py; the sizes stand in the round's rules.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from engineroom.errors import RequestError
from engineroom.paths import display, ensure_folder, not_writable, sha256_file, sync_folder, write_beside
from engineroom.rounds import Limits
from engineroom.steps.submission.layout import ACCURACY, ACCURACY_LOG

CUT = b"\n\n...\n\n"
HASH = re.compile(r"^hash=([0-9a-f]{64})\n?", re.MULTILINE)


@dataclass(frozen=True)
class Done:
    """A log, as its path in the tree, and what became of it: cut, cut before, short enough, restored."""

    log: str
    state: str


def truncate(root: Path, folder: Path, originals: Path, limits: Limits) -> list[Done]:
    """Cut every accuracy log in `folder` of the tree `root`; keep the whole ones in `originals`.

    What was cut before is held against the whole log that was kept, and left. Raises RequestError where the two, or the
    hash and the whole log, disagree, or nothing can be written.
    """
    return [_truncate(log, root, originals, limits) for log in _logs(folder, limits)]


def restore(root: Path, folder: Path, originals: Path, limits: Limits) -> list[Done]:
    """Put the whole logs back, and take their hashes out of accuracy.txt. Raises RequestError if one was changed."""
    return [done for log in _logs(folder, limits) if (done := _restore(log, root, originals))]


def _logs(folder: Path, limits: Limits) -> Iterator[Path]:
    """Yield the accuracy logs that are cut: those in the folders that the rules name."""
    for path in sorted(folder.rglob(ACCURACY_LOG)):
        if any(path.parent.match(f"*/{place}") for place in limits.truncated):
            yield path


def recorded_hash(log: Path) -> str | None:
    """Return the hash of the whole log that accuracy.txt beside it tells, None if it tells none."""
    try:
        found = HASH.findall((log.parent / ACCURACY).read_text(encoding="utf-8"))
    except OSError:
        return None
    return found[-1] if found else None


def _truncate(log: Path, root: Path, originals: Path, limits: Limits) -> Done:
    name, original = str(log.relative_to(root)), originals / log.relative_to(root)
    size, recorded = log.stat().st_size, recorded_hash(log)
    is_cut = size == 2 * limits.kept_bytes + len(CUT) and log.read_bytes()[limits.kept_bytes :].startswith(CUT)
    if recorded and is_cut:
        return Done(name, _checked(log, _kept(original, recorded), limits))
    sha256 = sha256_file(log)
    if is_cut or recorded not in (None, sha256):
        raise RequestError(
            "is cut short, and nothing tells the hash of the whole" if is_cut else "is not the log whose hash is told",
            where=display(log),
            mend="stage it again: make stage_results",
        )
    try:
        _keep(log, original, sha256)
        if recorded is None:
            _write(log.parent / ACCURACY, _with_hash(log.parent / ACCURACY, sha256))
        if size <= limits.accuracy_log_bytes:
            return Done(name, "short enough")
        _write(log, _cut(log, limits))
    except OSError as error:
        raise not_writable(log, error) from error
    return Done(name, "cut")


def _cut(log: Path, limits: Limits) -> bytes:
    """Return what stays of a whole log: its beginning and its end."""
    with log.open("rb") as file:
        begin = file.read(limits.kept_bytes)
        file.seek(-limits.kept_bytes, os.SEEK_END)
        return begin + CUT + file.read()


def _checked(log: Path, whole: Path | None, limits: Limits) -> str:
    """Return what to say of a log that was cut before. Raises RequestError if it is not what its whole one leaves."""
    if whole is None:
        return "cut before, and no whole one with their hash is kept here any more"
    if log.read_bytes() != _cut(whole, limits):
        raise RequestError(
            f"is not the beginning and the end of the log it was cut from, {display(whole)}",
            where=display(log),
            mend="put the whole one back, and cut it again: make truncate_results; --restore puts it back",
        )
    return "cut before"


def _kept(original: Path, recorded: str) -> Path | None:
    """Return the whole log with a hash; None if none is kept."""
    names = (original, original.with_name(f"{original.name}.{recorded[:12]}"))
    return next((path for path in names if path.is_file() and sha256_file(path) == recorded), None)


def _keep(log: Path, original: Path, sha256: str) -> None:
    """Keep the whole log. Another one of this name, from an earlier staging, is kept under a name of its own."""
    ensure_folder(original.parent)
    if original.exists():
        before = sha256_file(original)
        if before == sha256:
            return
        original.replace(original.with_name(f"{original.name}.{before[:12]}"))
    with write_beside(original) as beside:
        shutil.copyfile(log, beside)
    sync_folder(original.parent)  # before the log is cut


def _with_hash(accuracy: Path, sha256: str) -> bytes:
    text = accuracy.read_text(encoding="utf-8") if accuracy.is_file() else ""
    return f"{text}{'' if not text or text.endswith(chr(10)) else chr(10)}hash={sha256}\n".encode()


def _restore(log: Path, root: Path, originals: Path) -> Done | None:
    recorded, original = recorded_hash(log), originals / log.relative_to(root)
    if recorded is None:
        return None
    if (whole := _kept(original, recorded)) is None:
        raise RequestError(
            "no whole log with the hash in accuracy.txt is kept",
            where=display(original),
            mend="stage it again from its run: make stage_results",
        )
    accuracy = log.parent / ACCURACY
    try:
        _write(log, whole.read_bytes())
        if text := HASH.sub("", accuracy.read_text(encoding="utf-8")):
            _write(accuracy, text.encode())
        else:
            accuracy.unlink()
    except OSError as error:
        raise not_writable(log, error) from error
    return Done(str(log.relative_to(root)), "restored")


def _write(path: Path, content: bytes) -> None:
    """Write beside and rename: the former tree may share the file by a hard link."""
    with write_beside(path) as beside:
        beside.write_bytes(content)
