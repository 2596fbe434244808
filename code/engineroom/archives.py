"""Unpacks tar archives that somebody else made: only what is asked for, and never anything but plain files.

`tarfile` only reads here. What is written has a name of ours and a content that was counted, so that no path, link,
device or permission of an archive has any effect; an archive that tries is refused as a whole all the same.
"""

from __future__ import annotations

import fnmatch
import hashlib
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import IO, Any, Self

from engineroom.errors import RequestError
from engineroom.paths import display
from engineroom.sources import Unpack

CHUNK_BYTES = 1 << 20
MEMBERS_MAX = 1_000_000  # of the whole archive, and
EXPANSION_MAX = 200  # how many times its own size its members may have together: text shrinks to a tenth
HEADER_BYTES_MAX = 1 << 20  # of a long name or an extended header, which tarfile takes into memory whole

_HEADERS = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)


class _Member(tarfile.TarInfo):
    """A member whose header was looked at before anything is read that it announces."""

    @classmethod
    def frombuf(cls, *arguments: Any) -> Self:
        """Return the member that a block announces. Raises TarError if its size is none."""
        member = super().frombuf(*arguments)
        if member.size < 0 or (member.type in _HEADERS and member.size > HEADER_BYTES_MAX):
            raise tarfile.ReadError(f"a header announces {member.size:,} bytes")
        return member


def unpack(archive: Path, asked: Unpack, folder: Path, progress: Callable[[int, int], None]) -> dict[str, str]:
    """Write the members asked for into `folder`, which is empty; return the SHA-256 of each in hex, by its name.

    `progress` is called with the number of files, and how many there will be. Raises RequestError if the archive is
    damaged, has not the members that it should have, or tries what it should not.
    """
    where = display(archive)
    found: dict[str, str] = {}
    most, total, kept = archive.stat().st_size * EXPANSION_MAX, 0, 0
    try:
        with tarfile.open(archive, "r|*", tarinfo=_Member) as tar:
            for number, member in enumerate(tar, start=1):
                total += member.size
                if number > MEMBERS_MAX or total > most:
                    raise RequestError("unpacks to more than an archive of its size should", where=where)
                _check_path(member, where)
                name = PurePosixPath(member.name).name
                if member.isdir() or not fnmatch.fnmatchcase(name, asked.members):
                    continue
                kept += member.size
                if not member.isreg() or not name.isprintable():
                    raise RequestError(f"{member.name!r} is a link or a device, must be a plain file", where=where)
                if name in found or kept > asked.bytes or len(found) == asked.files:
                    raise RequestError(
                        f"has more than {asked.files:,} files {asked.members} of {asked.bytes:,} bytes together, "
                        f"or one of them twice: {member.name!r}",
                        where=where,
                    )
                source = tar.extractfile(member)
                assert source is not None  # it is a regular file
                with (folder / name).open("xb") as target:
                    found[name] = _copy(source, target, member.size, where)
                progress(len(found), asked.files)
    except (tarfile.TarError, EOFError, zlib.error, ValueError) as error:
        raise RequestError(f"is no tar archive, or a damaged one: {error}", where=where) from error
    if len(found) != asked.files:
        raise RequestError(f"has {len(found):,} files {asked.members}, must have {asked.files:,}", where=where)
    return found


def _check_path(member: tarfile.TarInfo, where: str) -> None:
    for path in (member.name, member.linkname):
        if path.startswith("/") or ".." in path.split("/"):
            raise RequestError(f"{member.name!r} leads out of the folder it is unpacked to", where=where)


def _copy(source: IO[bytes], target: IO[bytes], size: int, where: str) -> str:
    """Copy one member and return its SHA-256 in hex."""
    sha256, copied = hashlib.sha256(), 0
    while chunk := source.read(CHUNK_BYTES):
        target.write(chunk)
        sha256.update(chunk)
        copied += len(chunk)
    if copied != size:
        raise RequestError("ends in the middle of a file", where=where)
    return sha256.hexdigest()
