"""Asks for what tests of staging ask for, as a person types it, and looks at what came of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from engineroom.actions import submission as action
from engineroom.errors import EngineroomError
from engineroom.terms import Scenario

if TYPE_CHECKING:
    from conftest import Runs

WHO = ("--submitter=Acme", "--division=open", "--category=edge")
CLOSED = ("--submitter=Acme", "--division=closed", "--category=edge")
SINGLE, MULTI, OFFLINE = Scenario.SINGLE_STREAM, Scenario.MULTI_STREAM, Scenario.OFFLINE
EDGE = (SINGLE, MULTI, OFFLINE)


def staged(who: Sequence[str] = WHO, *more: str) -> None:
    assert action.stage_results([*who, "--benchmarks=resnet50", *more]) == 0


def refused(who: Sequence[str] = WHO, *more: str) -> str:
    with pytest.raises(EngineroomError) as caught:
        action.stage_results([*who, "--benchmarks=resnet50", *more])
    assert caught.value.code == 2
    return str(caught.value)


def tree(tmp_path: Path, name: str = "v6.1", division: str = "open") -> Path:
    return tmp_path / "submission" / name / division / "Acme"


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def record(tmp_path: Path) -> dict[str, dict[str, str]]:
    found: dict[str, Any] = json.loads((tmp_path / "submission/v6.1-open-Acme.staged.json").read_text())
    return dict(found["runs"])


def all_scenarios(made: Runs, **more: Any) -> None:
    for scenario in EDGE:
        made.pair(scenario, **more)
