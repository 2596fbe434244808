"""What a check says, and how many of them run: all, each by itself, whatever becomes of another."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum

from engineroom.errors import EngineroomError


class State(StrEnum):
    """What a check came to. Only MISSING keeps a run from succeeding; ADVICE may make it faster or steadier."""

    GOOD = "good"
    ADVICE = "advice"
    MISSING = "missing"


@dataclass(frozen=True)
class Check:
    """One check: what was found, in a sentence, and the `remedy`: a command that the user can type."""

    state: State
    found: str
    remedy: str = ""


Examine = Callable[[], Check]


def good(found: str) -> Check:
    """Return a check that found all as it should be."""
    return Check(State.GOOD, found)


def advice(found: str, remedy: str = "") -> Check:
    """Return a check that found something to improve."""
    return Check(State.ADVICE, found, remedy)


def missing(found: str, remedy: str) -> Check:
    """Return a check that found what keeps a run from succeeding."""
    return Check(State.MISSING, found, remedy)


def unless_needed(needed: bool, found: str, remedy: str) -> Check:
    """Return MISSING for what the request needs, else ADVICE."""
    return Check(State.MISSING if needed else State.ADVICE, found, remedy)


def run(checks: Mapping[str, Examine]) -> dict[str, Check]:
    """Run all checks at once and return what each found, in their order. One that cannot be made says so."""
    with ThreadPoolExecutor(len(checks)) as pool:
        return dict(zip(checks, pool.map(_guarded, checks.values()), strict=True))


def _guarded(examine: Examine) -> Check:
    try:
        return examine()
    except EngineroomError as error:
        where = f"{error.where}: " if error.where else ""
        return missing(f"{where}{error.what}", error.mend or "")
    except Exception as error:  # whatever it was, the other checks shall be seen
        return advice(f"this check itself failed: {type(error).__name__}: {error}")
