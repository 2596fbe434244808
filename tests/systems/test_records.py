"""Every recorded machine is recognised after it was added, and described without a gap in what is found."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engineroom.steps.description import describe, to_json
from engineroom.systems import add, derived_id, description_fields, read_all, recognise

RECORDS = sorted(path.stem for path in (Path(__file__).parents[1] / "spoofs").glob("*.txt"))


@pytest.mark.parametrize("name", RECORDS)
def test_a_recorded_machine_is_recognised_after_it_was_added(write: Any, record: Callable[..., Any], name: str) -> None:
    machine, systems = record(name).detect(), write()
    added = add(machine, blanks=("cooling",), systems=systems)
    assert list(systems.iterdir()) == [added.path]
    found = recognise(machine, read_all(systems))
    assert found is not None
    assert found.id == added.id == derived_id(machine)
    assert len(found.conditions) >= 5


@pytest.mark.parametrize(
    ("name", "system"),
    [
        ("dgx_h200", "H200x8"),
        ("grace_hopper", "GH200x1"),
        ("h200_mig", None),
        ("l4_workstation", "L4x1"),
        ("one_h200", "H200x1"),
        ("two_sockets", None),
    ],
)
def test_a_recorded_machine_is_recognised_by_what_is_shipped(
    record: Callable[..., Any], name: str, system: str | None
) -> None:
    found = recognise(record(name).detect(), read_all())
    assert (found and found.id) == system


@pytest.mark.parametrize("name", RECORDS)
def test_a_recorded_machine_can_be_described(record: Callable[..., Any], name: str) -> None:
    machine = record(name).detect()
    made = json.loads(to_json(describe(machine, engine="openvino")))
    assert tuple(made) == description_fields()
    assert int(made["accelerators_per_node"]) == len(machine.gpus)
    assert all(isinstance(text, str) and text.isprintable() for text in made.values())
