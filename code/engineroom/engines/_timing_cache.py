"""TensorRT's timing cache: how fast each kernel was, so that the next build does not measure it again.

One file per TensorRT version and kind of GPU, shared by all builds: each begins with what is there and adds what it
measured. The file begins with the SHA-256 of the rest, so that a damaged one is never used.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

from engineroom.artifacts import key_of
from engineroom.paths import TIMING_CACHE, locked, write_beside

DIGEST_BYTES = 32


class TimingCache:
    """The cache of one kind of GPU under one version. `of`: what its figures depend on."""

    def __init__(self, of: Mapping[str, str], folder: Path | None = None) -> None:
        self.path = (folder or TIMING_CACHE) / f"{key_of(of)}.cache"

    def read(self) -> bytes:
        """Return what is known so far; b"" if nothing is, or if the file is damaged."""
        try:
            content = self.path.read_bytes()
        except OSError:
            return b""
        digest, data = content[:DIGEST_BYTES], content[DIGEST_BYTES:]
        return data if hashlib.sha256(data).digest() == digest else b""

    def add(self, merged_with: Callable[[bytes], bytes]) -> None:
        """Store what `merged_with` makes of the file's content, which other builds may have added to meanwhile."""
        with locked(self.path.parent):
            data = merged_with(self.read())
            with write_beside(self.path) as beside:
                beside.write_bytes(hashlib.sha256(data).digest() + data)
