"""A maker of servers keeps systems, settings, templates and a benchmark outside of the checkout, in an overlay."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engineroom import detection, registry, systems
from engineroom.actions import machine as machine_actions
from engineroom.actions import settings
from engineroom.detection import Machine
from engineroom.errors import RequestError
from engineroom.paths import ROOT, overlays
from engineroom.steps import recipes

MERIDIAN = ROOT / "tests" / "overlays" / "meridian"


@pytest.fixture
def meridian_m2(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Be one of Meridian's servers, with its overlay."""
    m2 = replace(machine, system="", product="Meridian M2 rev. B", cpu=replace(machine.cpu, sockets=2))
    monkeypatch.setattr(detection, "detect", lambda root=Path("/"): m2)
    monkeypatch.setenv("ENGINEROOM_PATH", str(MERIDIAN))
    yield
    for name in [name for name in sys.modules if name.startswith("engineroom_overlay.")]:
        del sys.modules[name]


def _config(capsys: pytest.CaptureFixture[str], *argv: str) -> Any:
    assert settings.config([*argv, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.usefixtures("meridian_m2")
def test_its_server_is_recognised_and_gets_its_settings(capsys: pytest.CaptureFixture[str]) -> None:
    assert systems.detect().system == "Meridian_M2"
    (found,) = _config(capsys, "--benchmarks=digits", "--scenarios=Server")
    told = {name: (fact["value"], fact["origin"]) for name, fact in found["settings"].items()}
    assert found["system"] == "Meridian_M2"
    assert told["server_target_qps"] == (2000.0, "tests/overlays/meridian/configs/Meridian_M2/digits.yaml:5")
    assert told["server_target_latency_ns"][1].startswith("configs/default/digits.yaml:"), "the checkout's own stays"


@pytest.mark.usefixtures("meridian_m2")
def test_its_benchmark_is_one_of_all(capsys: pytest.CaptureFixture[str]) -> None:
    found = {(run["benchmark"], run["scenario"]): run["settings"] for run in _config(capsys)}
    assert {benchmark for benchmark, _ in found} == {"digits", "digit_parity"}
    assert found["digit_parity", "Offline"]["batch_size"]["value"] == 128
    assert found["digit_parity", "Server"]["server_target_qps"]["value"] == 200.0
    benchmark = registry.get("benchmarks", "digit_parity").load().BENCHMARK
    labels = [int(line.split("\t")[1]) for line in (ROOT / "data_maps/digits/val_map.txt").read_text().splitlines()]
    scored = benchmark.score([1] * len(labels), labels)
    assert scored.good == sum(label % 2 for label in labels)


@pytest.mark.usefixtures("meridian_m2")
def test_its_template_is_used_on_its_server_only() -> None:
    assert recipes.template("user.conf", "Meridian_M2").is_relative_to(MERIDIAN)
    assert not recipes.template("user.conf", "H200x8").is_relative_to(MERIDIAN)
    text = recipes.render(
        "user.conf",
        "Meridian_M2",
        {"benchmark": "digits", "scenario": "Offline", "loadgen_settings": {"target_qps": 9.5, "min_duration": 60}},
    )
    assert text.splitlines()[1:] == ["*.Offline.min_duration = 60", "*.Offline.target_qps = 9.5"]


@pytest.mark.usefixtures("meridian_m2")
def test_what_only_its_maker_knows_is_in_the_description(capsys: pytest.CaptureFixture[str]) -> None:
    assert machine_actions.describe_system(["--json"]) == 0
    described = json.loads(capsys.readouterr().out)
    assert (described["submitter"], described["cooling"]) == ("Meridian Systems", "air: four 80 mm fans")


def test_without_the_overlay_nothing_of_it_is_known(monkeypatch: pytest.MonkeyPatch, machine: Machine) -> None:
    monkeypatch.delenv("ENGINEROOM_PATH", raising=False)
    assert "digit_parity" not in registry.find("benchmarks")
    with pytest.raises(RequestError, match="unknown system"):
        systems.named(machine, "Meridian_M2")


def test_a_folder_above_the_overlay_is_not_taken_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENGINEROOM_PATH", str(MERIDIAN.parent))
    with pytest.raises(RequestError, match=r"ENGINEROOM_PATH: \S+/overlays has none of systems/, configs/, "):
        overlays()


def test_an_overlay_that_is_still_empty_is_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    monkeypatch.setenv("ENGINEROOM_PATH", str(tmp_path))
    assert overlays() == (tmp_path,)


def test_a_settings_file_that_nobody_reads_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ENGINEROOM_PATH", str(tmp_path))
    names = ("digits.yaml", "default/digitz.yaml", "default/digits.yml", "default/digits.tuned.yaml", "S/digits.yaml")
    for name in names:
        path = tmp_path / "configs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("common: {batch_size: 7}\n")
    assert settings.config(["--scenarios=Offline"]) == 0
    told = capsys.readouterr().out.replace(f"{tmp_path}/configs/", "").splitlines()
    assert [line for line in told if line.startswith("not read: ")] == [
        "not read: digits.yaml (settings stand in a folder, default or a system's)",
        "not read: default/digits.tuned.yaml (tuned settings are a system's)",
        "not read: default/digits.yml (names of settings files end in .yaml)",
        "not read: default/digitz.yaml (there is no benchmark digitz; did you mean digits?)",
    ]


def test_a_benchmark_that_is_broken_stops_only_who_asks_for_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "broken.py").write_text("syntax error(")
    monkeypatch.setenv("ENGINEROOM_PATH", str(tmp_path))
    assert settings.config(["--benchmarks=digits"]) == 0
    for argv in ([], ["--benchmarks=broken"]):
        with pytest.raises(RequestError, match=r"/broken.py: the benchmark broken cannot be imported: SyntaxError"):
            settings.config(argv)
