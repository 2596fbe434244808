"""Prints what the doctor found, for people."""

from __future__ import annotations

from collections.abc import Mapping

from engineroom import terminal
from engineroom.steps.doctor.check import Check, State

SUMMARY = {
    State.MISSING: "Something that is needed is missing.",
    State.ADVICE: "Nothing that is needed is missing.",
    State.GOOD: "All is as it should be.",
}


def print_checks(found: Mapping[str, Check]) -> None:
    """Print a table, the worst first, and below it each remedy on a line of its own, to be copied."""
    order = list(State)[::-1]
    rows = sorted(found.items(), key=lambda pair: order.index(pair[1].state))
    table = [(check.state.value, name, check.found) for name, check in rows]
    terminal.table("Checks", ("State", "Check", "Found"), table, whole=("State", "Check"))
    remedies: dict[tuple[State, str], list[str]] = {}
    for name, check in rows:
        if check.remedy and check.state is not State.GOOD:
            remedies.setdefault((check.state, check.remedy), []).append(name)
    if remedies:
        print("\nWhat to do")
    for (state, remedy), names in remedies.items():
        print(f"  {', '.join(names)} ({state})")
        for line in remedy.splitlines():
            print(f"    {line.strip()}")
    print(f"\n{SUMMARY[worst(found)]}")


def worst(found: Mapping[str, Check]) -> State:
    """Return the worst state among the checks."""
    return max((check.state for check in found.values()), key=list(State).index)
