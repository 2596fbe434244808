"""Any machine is recognised or named; the most specific system wins; an id can be asked for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engineroom.detection import Machine
from engineroom.detection.machine import Gpu, Slice
from engineroom.errors import RequestError
from engineroom.paths import SYSTEMS
from engineroom.systems import derived_id, detect, known, named, read_all, recognise
from engineroom.systems.files import problem_of_id


def test_the_most_specific_system_wins(write: Any, eight_gpus: Machine, slices: Machine, machine: Machine) -> None:
    systems = read_all(
        write(
            any_h200='match: {gpu: "NVIDIA H200*"}',
            eight_h200='match: {gpu: "NVIDIA H200*", gpu_count: 8}',
            rack='match: {gpu: "NVIDIA H200*", gpu_count: 8, product: "Example*"}',
            another_rack='match: {gpu: "NVIDIA H200*", gpu_count: 8, product: "Other*", sockets: 2}',
            notes="description: {cooling: air}",
        )
    )
    assert [found and found.id for found in (recognise(each, systems) for each in (eight_gpus, slices, machine))] == [
        "rack",
        "any_h200",
        None,
    ]


def test_a_tie_names_both_files(write: Any, eight_gpus: Machine) -> None:
    folder = write(a="match: {sockets: 2}", b="match: {cores: 112}", c="match: {cores: 3}")
    with pytest.raises(RequestError) as caught:
        recognise(eight_gpus, read_all(folder))
    assert str(caught.value) == (
        f"this machine matches {folder}/a.yaml and {folder}/b.yaml equally well, by 1 condition each\n"
        "  add a condition to the `match:` of one of them"
    )


def test_a_machine_is_recognised_by_what_is_shipped(eight_gpus: Machine, slices: Machine, machine: Machine) -> None:
    systems = read_all(SYSTEMS)
    assert [found and found.id for found in (recognise(each, systems) for each in (eight_gpus, slices, machine))] == [
        "H200x8",
        None,
        None,
    ]


def test_detection_gives_the_id_of_the_system_or_a_derived_one(write: Any, tmp_path: Path) -> None:
    (tmp_path / "root/proc").mkdir(parents=True)
    (tmp_path / "root/proc/cpuinfo").write_text("processor\t: 0\nmodel name\t: Test CPU @ 2 GHz\n")
    systems = write()
    assert detect(tmp_path / "root", systems).system == "Test-1c"
    write(small="match: {sockets: 1, gpu_count: 0}")
    assert detect(tmp_path / "root", systems).system == "small"


def test_an_id_is_derived_from_gpus_first(eight_gpus: Machine, slices: Machine, machine: Machine) -> None:
    assert derived_id(eight_gpus) == "NVIDIA_H200x8"
    assert derived_id(slices) == "NVIDIA_H200x1-MIG_1g.18gbx2_2g.35gb_mex1"
    without_slices = replace(slices, gpus=(replace(slices.gpus[0], slices=()),))
    assert derived_id(without_slices) == "NVIDIA_H200x1-MIG"
    many = tuple(Slice(f"{number}g.18gb", "MIG-1") for number in range(30))
    long = [derived_id(replace(slices, gpus=(replace(slices.gpus[0], slices=some),))) for some in (many, many[1:])]
    assert len({*long}) == 2
    assert max(map(len, long)) <= 80
    mixed = replace(eight_gpus, gpus=(Gpu("NVIDIA L4"), Gpu("NVIDIA T400 4GB"), Gpu("NVIDIA L4")))
    assert derived_id(mixed) == "NVIDIA_L4x2-NVIDIA_T400_4GBx1"
    assert derived_id(machine) == "Test-4c"
    assert derived_id(replace(machine, cpu=replace(machine.cpu, sockets=2))) == "2xTest-4c"


@given(name=st.text(max_size=200), gpu=st.booleans())
def test_a_derived_id_can_be_a_folder(machine: Machine, name: str, gpu: bool) -> None:
    cpu, gpus = replace(machine.cpu, model=name), (Gpu(name),) if gpu else ()
    assert problem_of_id(derived_id(replace(machine, cpu=cpu, gpus=gpus))) is None


def test_an_id_is_asked_for_in_any_case(write: Any, machine: Machine) -> None:
    systems, configs = write(H200x8=""), write("configs/own")
    (configs.parent / "default").mkdir()
    assert known(machine, systems, configs.parent) == ("H200x8", "Test-4c", "own", "test_system")
    for asked, found in (("h200X8", "H200x8"), ("own", "own"), ("test_system", "test_system")):
        assert named(machine, asked, systems, configs.parent).system == found
    for asked, mend in (("H200x4", "did you mean H200x8?"), ("default", "known: "), ("../..", "known: "), ("", "")):
        with pytest.raises(RequestError) as caught:
            named(machine, asked, systems, configs.parent)
        assert str(caught.value).startswith(f"--system: unknown system {asked!r}\n  {mend}")
