"""docs/verified.md: what has run where. Its first table is data; blocks of evidence stand at its end."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import msgspec

from engineroom.errors import RequestError
from engineroom.paths import ROOT, display, write_text

PAGE = ROOT / "docs" / "verified.md"
COLUMNS = ("build", "runs on", "status", "last verified")
NEVER = "never"
README = ROOT / "README.md"
SENTENCES = {"tensorrt": "TensorRT: compiled, never run"}  # that README and page say of a build until it has run
_NONE = "None so far.\n"


class Evidence(msgspec.Struct, frozen=True):
    """A block: what ran, on what, and what came of it. `facts` are lines, `tables` have their columns first.

    `status` is what the table of builds says from now on; None if nothing ran, which leaves it as it is.
    """

    build: str
    date: str  # YYYY-MM-DD
    status: str | None
    facts: dict[str, str]
    tables: tuple[tuple[tuple[str, ...], ...], ...]

    def markdown(self) -> str:
        """Return the block as it stands on the page."""
        lines = [f"### {self.build}, {self.date}", "", *(f"- {name}: {text}" for name, text in self.facts.items())]
        for head, *rows in self.tables:
            lines += ["", _line(head), _line(["---"] * len(head)), *map(_line, rows)]
        return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def read() -> str:
    """Return the page. Raises RequestError if it is not there."""
    try:
        return PAGE.read_text(encoding="utf-8")
    except OSError as error:
        raise RequestError(f"cannot be read: {error.strerror}", where=display(PAGE)) from error


def rows(text: str) -> list[tuple[str, ...]]:
    """Return the table of builds. Raises RequestError if the page has none."""
    found = re.search(rf"^{re.escape(_line(COLUMNS))}\n\|[-|]+\|\n((?:\|.*\|\n)+)", text, re.MULTILINE)
    if not found:
        raise RequestError(f"has no table {_line(COLUMNS)}", where=display(PAGE))
    return [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in found[1].splitlines()]


def with_evidence(text: str, evidence: Evidence) -> str:
    """Return the page with a block at its end, and the build's row as the block says."""
    known = rows(text)
    if evidence.build not in [row[0] for row in known]:
        raise RequestError(f"has no row of the build {evidence.build}", where=display(PAGE))
    for row in known if evidence.status else ():
        if row[0] == evidence.build:
            text = re.sub(
                rf"^\| {re.escape(row[0])} \|.*$",
                lambda found, row=row: _line((row[0], row[1], str(evidence.status), evidence.date)),  # type: ignore[misc]
                text,
                count=1,
                flags=re.MULTILINE,
            )
    return f"{text.replace(_NONE, '').rstrip()}\n\n{evidence.markdown()}"


def outdated(build: str) -> list[tuple[Path, str]]:
    """Return the sentences of the pages that the build's row contradicts, each with its page."""
    row = next(row for row in rows(read()) if row[0] == build)
    if row[3] == NEVER or build not in SENTENCES:
        return []
    pages = [path for path in (README, PAGE) if SENTENCES[build] in path.read_text(encoding="utf-8")]
    return [(path, SENTENCES[build]) for path in pages]


def record(evidence: Evidence) -> None:
    """Write the block into the page."""
    write_text(PAGE, with_evidence(read(), evidence))
