"""Reads the small files of /proc, /sys and /etc. Whatever is wrong with one of them, it reads as empty."""

from __future__ import annotations

import os
import re
from pathlib import Path

# Far more than any of these files holds; /proc/cpuinfo takes about 2 KB per CPU.
MOST_BYTES = 8 << 20
# The largest number of CPUs that Linux can be built for.
MOST_CPUS = 8192


def text(path: Path | str) -> str:
    """Return what a file holds, without the spaces around it; "" if it is missing, unreadable or no file."""
    return _read(path, MOST_BYTES)


def value(path: str) -> str:
    """Return what one read of a file of /sys gives, which is all of it: for those that are read by the thousand."""
    return _read(path, 0)


def _read(path: Path | str, most_bytes: int) -> str:
    """Read on until the end or `most_bytes`. A pipe in a file's place does not block, a folder is an error here."""
    content = bytearray()
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError):
        return ""
    try:
        while part := os.read(descriptor, 1 << 16):
            content += part
            if len(content) >= most_bytes:
                break
    except OSError:  # such as the speed of a network card without a link
        return ""
    finally:
        os.close(descriptor)
    return content.decode("utf-8", "replace").strip("\0 \t\n")


def number(written: str) -> int | None:
    """Return a number of at most 19 digits, or None: "max" and "-1" mean that there is no limit."""
    digits = written.strip()
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= 19 else None


def cpu_list(written: str) -> tuple[int, ...]:
    """Return the CPUs of a list such as "0-3,8": what is no number or cannot be a CPU's is left out."""
    found: set[int] = set()
    for part in written.split(","):
        first, dash, last = part.partition("-")
        begin, end = number(first), number(last if dash else first)
        if begin is not None and end is not None:
            found.update(range(begin, min(end + 1, MOST_CPUS)))
    return tuple(sorted(found))


def names(folder: Path) -> list[str]:
    """Return the names in a folder in the order of their numbers ("cpu2" before "cpu10"); [] if there is none."""
    try:
        found = [entry.name for entry in folder.iterdir()]
    except (OSError, ValueError):
        return []
    return sorted(
        found, key=lambda name: (re.sub(r"[0-9]+", "", name), [int(n) for n in re.findall(r"[0-9]{1,9}", name)])
    )


def exists(path: Path) -> bool:
    """Say whether something is there, also where looking is forbidden or goes in circles: then it is not."""
    try:
        return path.exists()
    except OSError:
        return False


def link_name(path: Path) -> str | None:
    """Return the last name of what a symbolic link points to: of `device/driver` the driver's."""
    try:
        return path.readlink().name or None
    except (OSError, ValueError):
        return None
