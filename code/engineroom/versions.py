"""Versions of what is installed and of the sources, found without importing any of it."""

from __future__ import annotations

import subprocess
from functools import cache
from importlib import metadata

from engineroom.paths import ROOT

NOT_INSTALLED = "not installed"
UNKNOWN, DIRTY = "unknown", "-dirty"  # revisions: there is no git; files differ from the one that stands before it


def of_distribution(name: str) -> str:
    """Return the installed version of a Python distribution, or NOT_INSTALLED."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return NOT_INSTALLED


def of_distributions(names: tuple[str, ...]) -> dict[str, str]:
    """Return the version of each."""
    return {name: of_distribution(name) for name in names}


@cache
def all_distributions() -> dict[str, str]:
    """Return every installed distribution with its version, by name; of two of a name the one that Python imports."""
    found: dict[str, str] = {}
    for item in metadata.distributions():
        if name := item.metadata["Name"]:
            found.setdefault(name, item.version)
    return dict(sorted(found.items(), key=lambda pair: pair[0].lower()))


def git_revision() -> str:
    """Return the checkout's revision, with DIRTY if files differ from it, or UNKNOWN without git."""
    command = ["git", "-C", str(ROOT), "describe", "--always", f"--dirty={DIRTY}", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return UNKNOWN


def is_known(revision: str) -> bool:
    """Tell whether git can give exactly this code again."""
    return revision != UNKNOWN and not revision.endswith(DIRTY)
