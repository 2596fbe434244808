"""A system that is added recognises its machine, nothing else is written, and nothing is overwritten unasked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engineroom.detection import Machine
from engineroom.detection.machine import Gpu
from engineroom.errors import RequestError
from engineroom.systems import add, derived_id, read_all, recognise

GIB = 1 << 30


def test_what_is_written_is_short_and_leaves_blanks(write: Any, slices: Machine) -> None:
    added = add(slices, "cut", blanks=("cooling", "submitter"), systems=write())
    assert added.path.read_text() == (
        "# yaml-language-server: $schema=schema.json\n"
        "# How this machine is recognised. Made by `make add_system`; systems/README.md explains the conditions.\n"
        "# Its settings go to configs/cut/.\n"
        "match:\n"
        '  gpu: "NVIDIA H200"\n'
        "  gpu_count: 1\n"
        "  mig: true\n"
        "  mig_count: 3\n"
        '  cpu_model: "Intel(R) Xeon(R) Platinum 8480C"\n'
        "  sockets: 2\n"
        "  cores: 112\n"
        "  memory: 1813 GiB..2217 GiB\n"
        "\n"
        "# What only a person knows: fill in and take the # away. `make describe_system` shows the whole description.\n"
        "description:\n"
        "  # cooling:  # how the machine is cooled\n"
        "  # submitter:  # organization that submits\n"
    )


def test_a_slightly_different_memory_is_the_same_machine_and_half_of_it_another(write: Any, machine: Machine) -> None:
    systems = write()
    add(machine, systems=systems)
    for memory_bytes, same in ((int(7.8 * GIB), True), (4 * GIB, False), (16 * GIB, False)):
        found = recognise(replace(machine, memory_total_bytes=memory_bytes), read_all(systems))
        assert (found is not None) is same


def test_a_recognised_machine_is_not_added_again(write: Any, machine: Machine) -> None:
    systems = write(mine="match: {sockets: 1}")
    with pytest.raises(RequestError, match=r"mine.yaml: this machine is recognised already, as mine\n  change that"):
        add(machine, "other", systems=systems)
    assert [path.name for path in systems.iterdir()] == ["mine.yaml"]
    assert add(machine, "other", systems=systems, force=True).changed is False
    found = recognise(machine, read_all(systems))
    assert found is not None and found.id == "other"


def test_a_file_of_another_machine_is_changed_only_by_force(write: Any, machine: Machine) -> None:
    systems = write(taken="match: {sockets: 9}")
    with pytest.raises(RequestError, match=r"taken.yaml: is there already, for another machine\n  give another name"):
        add(machine, "taken", systems=systems)
    assert "9" in (systems / "taken.yaml").read_text()
    assert add(machine, "taken", systems=systems, force=True).changed is True
    assert recognise(machine, read_all(systems)) is not None


WRITTEN = """# Ours, in room 7.
match:
  # the big one
  sockets: 9  # all of them

# Said by the facility.
description:
  cooling: liquid  # since May
  hw_notes: |
    match: none
"""


def test_nothing_that_a_person_wrote_is_lost(write: Any, machine: Machine) -> None:
    systems = write(mine=WRITTEN)
    for _ in range(2):  # another time, nothing is left to change
        text = add(machine, "mine", blanks=("cooling",), systems=systems, force=True).path.read_text()
        old, new = (
            "match:\n  # the big one\n  sockets: 9  # all of them\n",
            text[text.index("\nmatch:") + 1 : text.index("\n\n# Said") + 1],
        )
        kept = "".join(f"# {line}\n" for line in old.splitlines())
        assert text == WRITTEN.replace(old, f"# Before:\n{kept}{new}")
    found = recognise(machine, read_all(systems))
    assert found is not None and found.description["cooling"].text == "liquid"


@pytest.mark.parametrize("text", ["", "description:\n  cooling: air", "---\n# mine\ndescription: {cooling: air}\n"])
def test_a_file_without_conditions_gets_them(write: Any, machine: Machine, text: str) -> None:
    systems = write(mine=text)
    path = add(machine, "mine", blanks=("submitter",), systems=systems).path
    assert path.read_text().startswith(text)
    found = recognise(machine, read_all(systems))
    assert found is not None
    assert [asserted.text for asserted in found.description.values()] == (["air"] if text else [])
    assert ("# submitter:" in path.read_text()) is not bool(text)


@pytest.mark.parametrize(
    "text",
    [
        "{match: {sockets: 9}, description: {cooling: air}}\n",
        '"match": {sockets: 9}\ndescription: {cooling: air}\n',
        "description: {cooling: air}\n...\n",
    ],
)
def test_a_file_that_only_a_person_can_change_stays_as_it_is(write: Any, machine: Machine, text: str) -> None:
    systems = write(mine=text)
    with pytest.raises(RequestError, match="mine.yaml: nothing was written: its `match:` cannot be told"):
        add(machine, "mine", systems=systems, force=True)
    assert [path.read_text() for path in systems.iterdir()] == [text]


def test_nothing_is_written_where_another_system_would_win(write: Any, machine: Machine) -> None:
    systems = write()
    first = add(machine, "first", systems=systems)
    with pytest.raises(RequestError, match=r"nothing was written: this machine matches .*first.yaml and .*second.yaml"):
        add(machine, "second", systems=systems, force=True)
    text = first.path.read_text()
    first.path.write_text(text.replace("match:\n", 'match:\n  architecture: "*"\n'))
    with pytest.raises(RequestError, match=r"nothing was written: .* by 6 conditions of .*first.yaml, not as second"):
        add(machine, "second", systems=systems, force=True)
    assert list(systems.iterdir()) == [first.path]


@pytest.mark.parametrize("name", ["", "default", "../x", "a b", ".hidden", "$(x)", "x" * 101, "a\nb"])
def test_a_name_that_cannot_be_a_folders_is_refused(write: Any, machine: Machine, name: str) -> None:
    systems = write()
    with pytest.raises(RequestError, match="^--id: the name of a system"):
        add(machine, name, systems=systems, force=True)
    assert not list(systems.iterdir())


@given(name=st.text(min_size=1, max_size=80).map(lambda text: " ".join(text.split())), gpu=st.booleans())
def test_whatever_it_is_called_a_machine_is_recognised(
    tmp_path_factory: pytest.TempPathFactory, machine: Machine, name: str, gpu: bool
) -> None:
    systems = tmp_path_factory.mktemp("systems")
    cpu, gpus = replace(machine.cpu, model=name), (Gpu(name),) if gpu and name else ()
    called = replace(machine, cpu=cpu, gpus=gpus)
    assert add(called, systems=systems).id == derived_id(called)
    assert recognise(called, read_all(systems)) is not None
