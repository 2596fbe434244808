"""docs/reliability.md is true: each row names tests that exist, and no test of reliability is missing from it."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
PAGE = (TESTS.parent / "docs" / "reliability.md").read_text(encoding="utf-8")
COLUMNS = 5
ROWS = [
    cells
    for line in PAGE.splitlines()
    if line.startswith("|") and len(cells := [cell.strip() for cell in line.strip("|").split("|")]) == COLUMNS
][2:]
CASES = [cells for cells in ROWS if any(cells[1:])]
# Files whose every test is about reliability.
WHOLE = (
    *sorted(path for path in Path(__file__).parent.glob("test_*.py") if path != Path(__file__)),
    TESTS / "actions" / "test_interrupts.py",
    TESTS / "end_to_end" / "test_interrupts_end_to_end.py",
    TESTS / "end_to_end" / "test_side_by_side_end_to_end.py",
)


def named(cells: list[str]) -> set[tuple[str, str]]:
    """Return the file and the name of each test of a row."""
    return set(re.findall(r"`([\w/]+\.py)::(\w+)`", cells[-1]))


@cache
def names_in(path: Path) -> set[str]:
    """Return the names of a file's tests."""
    module = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in module.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def test_every_row_is_whole_and_names_tests_that_exist() -> None:
    assert len(CASES) > 30
    for cells in CASES:
        assert all(cells) and named(cells), cells
        for file, name in named(cells):
            assert name in names_in(TESTS / file), f"{file}::{name}"


def test_every_test_of_reliability_has_its_row() -> None:
    rows = set.union(*map(named, CASES))
    for path in WHOLE:
        file = str(path.relative_to(TESTS))
        assert {(file, name) for name in names_in(path)} <= rows, file


def test_what_a_row_quotes_is_what_is_said() -> None:
    """Numbers, names and times aside, each message stands in the code."""
    code = "".join(
        path.read_text(encoding="utf-8")
        for folder in ("engineroom", "harness")
        for path in sorted((TESTS.parent / "code" / folder).rglob("*"))
        if path.suffix in (".py", ".cc")
    )
    for cells in CASES:
        for quote in re.findall(r"`([^`]+)`", cells[1]):
            pieces = [piece.strip() for piece in re.split(r"\d[\d.:]*|SIG\w+", quote)]
            missing = [piece for piece in pieces if len(piece) > 9 and piece not in code]
            assert not missing, (quote, missing)
