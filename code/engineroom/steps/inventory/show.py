"""Prints an inventory, and a difference of two, for people."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from engineroom import terminal
from engineroom.detection import Machine
from engineroom.paths import display
from engineroom.steps.inventory.difference import Difference
from engineroom.steps.inventory.words import machine_in_words

ABSENT = "not found"
UNKNOWN = "unknown"


def print_inventory(found: Mapping[str, Any]) -> None:
    """Print everything that `take` returned: a table a section, and below it what keeps a component from being used."""
    print(f"Engineroom {found['engineroom']}, revision {found['revision']}, Python {found['python']}\n")
    machine = msgspec.convert(found["machine"], Machine)
    terminal.table("Machine", ("", ""), list(machine_in_words(machine).items()))
    for title, items in found.items():
        if title == "packages":
            _print_packages(items)
        elif isinstance(items, list) and items:
            print()
            _print_components(title, items)


def _print_components(title: str, items: Sequence[Mapping[str, str]]) -> None:
    there = [item for item in items if item.get("problem") != ABSENT]
    rows = [(item["name"], item.get("version", "-"), _place(item)) for item in there]
    terminal.table(title.capitalize(), ("Name", "Version", "Path (found by)"), rows, whole=("Name",))
    for item in there:
        if problem := item.get("problem"):
            terminal.note(f"  {item['name']}: {problem}")
            if mend := item.get("mend"):
                print(textwrap.indent(mend, "    "))
    if absent := [item["name"] for item in items if item.get("problem") == ABSENT]:
        terminal.note(f"  {ABSENT}: {', '.join(absent)}")


def _print_packages(items: Sequence[Mapping[str, str]]) -> None:
    """Print Python packages folder by folder: the path of each is the same."""
    folders: dict[tuple[str, str], list[str]] = {}
    for item in items:
        where = item.get("path", UNKNOWN), item.get("found", UNKNOWN)
        folders.setdefault(where, []).append(f"{item['name']} {item.get('version', UNKNOWN)}")
    for (path, found), names in folders.items():
        terminal.note(f"\n{len(names)} Python packages in {_shown_path(path)}, found by: {found}")
        terminal.note(f"  {', '.join(names)}")


def print_difference(difference: Difference) -> None:
    """Print what differs, A beside B, group by group."""
    print(f"A  {difference.a}\nB  {difference.b}")
    for title, facts in difference.differences.items():
        print()
        rows = [(name, a, b) for name, (a, b) in facts.items()]
        terminal.table(title.capitalize(), ("", "A", "B"), rows)
    if difference.equal:
        print("\nNothing differs of what both have on record.")
    if difference.one_sided:
        groups = [f"{title} ({', '.join(names)})" if names else title for title, names in difference.one_sided.items()]
        terminal.note(f"\nOn record in only one of them, so not compared: {'; '.join(groups)}")


def _place(item: Mapping[str, str]) -> str:
    """Return where something is and how it was found; a narrow terminal shows that on two lines."""
    found = f"({item['found']})" if "found" in item else ""
    return "\n".join(filter(None, (_shown_path(item.get("path", "")), found))) or "-"


def _shown_path(path: str) -> str:
    return display(Path(path)) if path.startswith("/") else path
