"""What the validator says: rules, each with its source, and findings, each with its place and its remedy."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

import msgspec

from engineroom.errors import did_you_mean

LONGEST = 160  # characters of what was found that are shown
MOST = 20  # findings of one rule in one file that are told


class Level(StrEnum):
    """How bad a finding is: an error fails the tree, a warning is only doubtful."""

    ERROR = "error"
    WARNING = "warning"


class Finding(msgspec.Struct, frozen=True, order=True, kw_only=True):
    """One fault. `file` begins at the folder that holds the divisions; `key` is a line, a key, or empty."""

    file: str
    key: str = ""
    rule: str
    level: Level
    found: str
    expected: str
    source: str
    mend: str

    @property
    def where(self) -> str:
        """The file and the place in it."""
        return f"{self.file}:{self.key}" if self.key else self.file


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """What is checked. The id never changes; `source` says who asks for it, `mend` what the reader can do."""

    id: str
    checks: str
    source: str
    mend: str
    level: Level = Level.ERROR

    def at(
        self, file: str, key: str | int = "", *, found: object = "", expected: object = "", mend: str = ""
    ) -> Finding:
        """Return a finding of this rule. A key that is a number is a line."""
        return Finding(
            file=printable(file),
            key=f"line {key}" if isinstance(key, int) else printable(key),
            rule=self.id,
            level=self.level,
            found=told(found),
            expected=told(expected),
            source=self.source,
            mend=mend or self.mend,
        )


def told(value: object) -> str:
    """Return a value in one short line that can be printed anywhere."""
    if isinstance(value, float):
        value = f"{value:.10g}"
    text = printable(str(value).lower() if value is None or isinstance(value, bool) else str(value))
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def printable(text: str) -> str:
    """Return a text in which nothing can break a line, a terminal or an encoder."""
    if text.isascii() and text.isprintable():
        return text
    text = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def few(findings: Iterable[Finding]) -> list[Finding]:
    """Return the first findings of each rule in each file, and after them how many more there are."""
    told, counts = list[Finding](), dict[tuple[str, str], int]()
    last: dict[tuple[str, str], Finding] = {}
    for each in dict.fromkeys(findings):
        of = each.file, each.rule
        counts[of] = counts.get(of, 0) + 1
        if counts[of] <= MOST:
            told.append(each)
        else:
            last[of] = each
    more = ((each, counts[of] - MOST) for of, each in last.items())
    return told + [
        msgspec.structs.replace(each, key="", found=f"{count:,} more like these", expected="") for each, count in more
    ]


class Near:
    """Says which known name is nearest to each of the first unknown ones, as many as are told: that takes long."""

    def __init__(self) -> None:
        self.left = MOST

    def __call__(self, name: str, known: Iterable[str], otherwise: str) -> str:
        """Return what did_you_mean says, `otherwise` of later names."""
        self.left -= 1
        return otherwise if self.left < 0 else did_you_mean(name[:LONGEST], known, otherwise)
