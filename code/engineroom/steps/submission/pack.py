"""Packs a submission into an archive whose bytes depend on its files alone; copies it to where it is handed in."""

from __future__ import annotations

import gzip
import json
import shutil
import tarfile
from collections.abc import Mapping
from pathlib import Path

from engineroom.errors import Mistakes, RequestError
from engineroom.paths import display, ensure_folder, not_writable, sha256_file, sync_file, write_beside, write_text

SHOWN = 10
SUFFIX = ".tar.gz"


def pack(root: Path, folder: Path, archive: Path) -> str:
    """Write `folder`, below `root`, into a .tar.gz, and its SHA-256 beside it; return that.

    Names are in order; no time, owner or group is kept, and of the modes only whether a file can be executed.
    """
    told = archive.with_name(f"{archive.name}.sha256")
    told.unlink(missing_ok=True)  # that of another archive, should this end half-way
    with (
        write_beside(archive) as beside,
        beside.open("wb") as raw,
        gzip.GzipFile(filename="", mode="wb", fileobj=raw, compresslevel=6, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for path in sorted(folder.rglob("*"), key=lambda each: each.relative_to(root).parts):
            if path.is_file():
                _add(tar, path, path.relative_to(root))
    sha256 = sha256_file(archive)
    write_text(told, f"{sha256}  {archive.name}\n")
    _former(archive, sha256).unlink(missing_ok=True)  # the same
    return sha256


def set_aside(archive: Path) -> Path | None:
    """Give an archive a name of its own, because its tree is replaced; return it, None if there is no archive."""
    if not archive.is_file():
        return None
    former = _former(archive, sha256_file(archive))
    archive.with_name(f"{archive.name}.sha256").unlink(missing_ok=True)
    return archive.replace(former)


def _former(archive: Path, sha256: str) -> Path:
    return archive.with_name(f"{archive.name.removesuffix(SUFFIX)}-former-{sha256[:12]}{SUFFIX}")


def _add(tar: tarfile.TarFile, path: Path, name: Path) -> None:
    info = tarfile.TarInfo(str(name))
    info.size = path.stat().st_size
    info.mode = 0o755 if path.stat().st_mode & 0o100 else 0o644
    with path.open("rb") as content:
        tar.addfile(info, content)


def export(root: Path, folder: Path, target: Path, record: Path) -> list[str]:
    """Copy `folder`, below `root`, to the same place below `target`; return the names of the files that were written.

    Files that are there and not ours stay. One that differs is only replaced if an earlier export wrote it, which
    `record` tells. Raises Mistakes for the others: nothing is written then.
    """
    before = _recorded(record)
    ours = {str(path.relative_to(root)): sha256_file(path) for path in sorted(folder.rglob("*")) if path.is_file()}
    there = {name: sha256_file(path) for name in ours if (path := target / name).is_file()}
    foreign = [
        name for name, sha in there.items() if sha not in (ours[name], *before.get(str(target / name), "").split())
    ]
    if foreign:
        mend = "move it away, or export to another folder"
        what = "is there and not from an export"
        told = [RequestError(what, where=str(target / name), mend=mend) for name in foreign[:SHOWN]]
        more = len(foreign) - SHOWN
        raise Mistakes([*told, *([RequestError(f"and {more:,} more")] if more > 0 else [])])
    new = [name for name, sha in ours.items() if there.get(name) != sha]
    stale = [
        path
        for name, shas in before.items()
        if (path := Path(name)).is_relative_to(target / folder.relative_to(root))
        and str(path.relative_to(target)) not in ours
        and path.is_file()
        and sha256_file(path) in shas.split()
    ]
    told_now = {str(target / name): sha for name, sha in ours.items()}
    both = {name: f"{before.get(name, '')} {sha}".strip() for name, sha in told_now.items()}
    _write_record(record, {**before, **both})  # first: should this end half-way, what lies there is known as ours
    for name in new:
        _copy(root / name, target / name)
    for path in stale:  # what an earlier export wrote, and nobody touched, and the submission no longer has
        path.unlink()
    kept = {name: shas for name, shas in before.items() if Path(name) not in stale}
    _write_record(record, {**kept, **told_now})
    return new


def _copy(source: Path, target: Path) -> None:
    ensure_folder(target.parent)
    beside = target.with_name(f".{target.name}.partial")
    try:
        shutil.copyfile(source, beside)
        shutil.copymode(source, beside)
        sync_file(beside)
        beside.replace(target)
    except OSError as error:
        raise not_writable(target, error) from error
    finally:
        beside.unlink(missing_ok=True)


def _write_record(record: Path, told: Mapping[str, str]) -> None:
    write_text(record, json.dumps(told, indent=1) + "\n")


def _recorded(record: Path) -> dict[str, str]:
    """Return the SHA-256 of each file that was exported; of one that was being replaced that of every state, blanks
    between them.
    """
    try:
        found = json.loads(record.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise RequestError(f"cannot be read: {error}", where=display(record), mend="remove it") from None
    return {str(name): str(sha) for name, sha in found.items()} if isinstance(found, dict) else {}
