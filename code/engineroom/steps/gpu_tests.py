"""Reads what the tests on GPUs came to, from the JUnit report that pytest writes."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from xml.etree import ElementTree

from engineroom.errors import EngineError
from engineroom.paths import display


class Outcome(StrEnum):
    """What a test came to."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Test:
    """One test with its parameters in brackets: its outcome, the first line of why, and the figures that it took."""

    name: str
    outcome: Outcome
    why: str = ""
    figures: dict[str, str] = field(default_factory=dict)

    @property
    def function(self) -> str:
        """The test's name without its parameters."""
        return self.name.partition("[")[0]

    @property
    def text(self) -> str:
        """Name and reason in a line."""
        return f"{self.name}: {self.why}" if self.why else self.name


def read(report: Path) -> list[Test]:
    """Return the tests of a report. Raises EngineError if pytest has left none that can be read."""
    try:
        cases = list(ElementTree.parse(report).iter("testcase"))
    except (OSError, ElementTree.ParseError) as error:
        raise EngineError(f"pytest left no report: {error}", where=display(report)) from error
    return [_test(case) for case in cases]


def _test(case: ElementTree.Element) -> Test:
    figures = {each.get("name", ""): each.get("value", "") for each in case.iter("property")}
    marks = {"failure": Outcome.FAILED, "error": Outcome.FAILED, "skipped": Outcome.SKIPPED}
    for mark, outcome in marks.items():
        if (found := case.find(mark)) is not None:
            why = next(iter(found.get("message", "").splitlines()), "")
            return Test(case.get("name", ""), outcome, why, figures)
    return Test(case.get("name", ""), Outcome.PASSED, "", figures)
