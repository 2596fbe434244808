"""SHA-256 of large files in pieces, so that several processors can check one file at the same time."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from engineroom import terminal

PIECE_BYTES = 64 << 20
SILENT_S = 2.0  # who waits for longer wants to see what for
MOST_THREADS = 16  # memory is not read faster by more
_BLOCK_BYTES = 1 << 20

Advance = Callable[[int], None]


class Piece(NamedTuple):
    """Bytes of a file, from `offset` on, and the SHA-256 (hex) that they must have."""

    path: Path
    offset: int
    bytes: int
    sha256: str


def of_pieces(path: Path) -> list[str]:
    """Return the SHA-256 (hex) of each PIECE_BYTES of a file; nothing for a file of one piece. Raises OSError."""
    size = path.stat().st_size
    offsets = range(0, size, PIECE_BYTES) if size > PIECE_BYTES else ()
    return [_sha256(path, offset, PIECE_BYTES) for offset in offsets]


def pieces(path: Path, size: int, sha256: str, sha256_of_pieces: Iterable[str]) -> list[Piece]:
    """Return what is to be checked of a file of `size` bytes: its pieces, or the whole where it was not cut."""
    cut = [
        Piece(path, at * PIECE_BYTES, min(PIECE_BYTES, size - at * PIECE_BYTES), each)
        for at, each in enumerate(sha256_of_pieces)
    ]
    return cut or [Piece(path, 0, size, sha256)]


def first_wrong(wanted: list[Piece], what: str) -> Path | None:
    """Read all pieces, on as many threads as help; return the file of one that is not as it must be, if there is one.

    `what` is said if it takes long. Raises OSError.
    """
    total = sum(piece.bytes for piece in wanted)
    with _patient(f"check {what}", total) as advance, _checked(wanted) as checked:
        for piece, right in checked:
            if not right:
                return piece.path
            advance(piece.bytes)
    return None


@contextmanager
def _checked(wanted: list[Piece]) -> Iterator[Iterator[tuple[Piece, bool]]]:
    threads = min(len(wanted), len(os.sched_getaffinity(0)), MOST_THREADS)
    if threads < 2:
        yield ((piece, _is_right(piece)) for piece in wanted)
        return
    from concurrent.futures import ThreadPoolExecutor

    pool = ThreadPoolExecutor(threads)
    try:
        yield zip(wanted, pool.map(_is_right, wanted), strict=True)
    finally:
        pool.shutdown(cancel_futures=True)  # a wrong piece, or Ctrl-C: the others need not be read


def _is_right(piece: Piece) -> bool:
    return _sha256(piece.path, piece.offset, piece.bytes) == piece.sha256


def _sha256(path: Path, offset: int, size: int) -> str:
    """Return the SHA-256 of up to `size` bytes. Reading and hashing a block leave Python to other threads."""
    total, block = hashlib.sha256(), memoryview(bytearray(_BLOCK_BYTES))
    with path.open("rb", buffering=0) as file:
        file.seek(offset)
        while size > 0 and (read := file.readinto(block[: min(size, _BLOCK_BYTES)])):
            total.update(block[:read])
            size -= read
    return total.hexdigest()


@contextmanager
def _patient(what: str, total: int) -> Iterator[Advance]:
    """Show how far it is, but only once it has taken SILENT_S."""
    begin, done, update = time.monotonic(), 0, None
    with ExitStack() as stack:

        def advance(amount: int) -> None:
            nonlocal done, update
            done += amount
            if update is None and time.monotonic() - begin > SILENT_S:
                update = stack.enter_context(terminal.progress(what, total))
            if update:
                update(done, f"{terminal.size(done)} of {terminal.size(total)}")

        yield advance
