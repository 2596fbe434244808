"""`make config` shows each merged setting with its origin, `make explain` what it means, `make schemas` its schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from engineroom import systems
from engineroom.actions import settings
from engineroom.config import fields
from engineroom.config.layers import SECTIONS
from engineroom.detection import Machine
from engineroom.errors import RequestError
from engineroom.paths import CONFIGS, DATA_MAPS, ROOT, SYSTEMS
from engineroom.yaml_file import load


@pytest.fixture(autouse=True)
def on_a_known_machine(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the machine that runs the tests not matter."""
    monkeypatch.setattr(systems, "detect", lambda: machine)
    monkeypatch.delenv("ENGINEROOM_PATH", raising=False)


def _json(capsys: pytest.CaptureFixture[str], action: Any, *argv: str) -> Any:
    assert action([*argv, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_config_says_where_each_value_comes_from(capsys: pytest.CaptureFixture[str]) -> None:
    (found,) = _json(capsys, settings.config, "--scenarios=Offline", "--instances=3", "--min_duration=5 s")
    assert (found["benchmark"], found["system"], found["scenario"]) == ("digits", "test_system", "Offline")
    told = {name: (fact["value"], fact["origin"], fact["kind"]) for name, fact in found["settings"].items()}
    line = (CONFIGS / "default/digits.yaml").read_text().splitlines().index("  batch_size: 64 # samples") + 1
    assert told["batch_size"] == (64, f"configs/default/digits.yaml:{line}", "file")
    assert told["instances"] == (3, "--instances", "flag")
    assert told["min_duration"] == (5000, "--min_duration", "flag")
    assert told["threads_per_instance"] == (1, "rule threads_by_cores: 4 usable cores, 3 instances", "rule")
    assert told["watchdog_s"] == (30.0, "default", "default")
    assert set(told) == set(fields.settable())


def test_configs_table_merges_scenarios_that_agree(capsys: pytest.CaptureFixture[str]) -> None:
    assert settings.config([]) == 0
    out = capsys.readouterr().out
    rows = [line.split() for line in out.splitlines()]
    assert ["min_duration", "3,000", "ms", "all", "configs/default/digits.yaml:5"] in rows
    assert sum(row[:1] == ["batch_size"] for row in rows) == 4
    assert "server_target_latency_ns" in out and "500,000,000 ns (500 ms)" in out
    assert "fixed_delay_us" not in out, "a setting of an engine that does not run"
    assert "read: configs/default/digits.yaml" in out
    assert "would stand in configs/test_system/digits.yaml" in out


def test_a_doubtful_value_is_warned_of_once(capsys: pytest.CaptureFixture[str]) -> None:
    (found,) = _json(capsys, settings.config, "--scenarios=Offline", "--watchdog_s=2 h")
    assert found["warnings"] == ["--watchdog_s: watchdog_s is 7,200; usual is 5 to 3,600 s"]


def test_explain_tells_type_unit_default_users_names_and_value(capsys: pytest.CaptureFixture[str]) -> None:
    (told,) = _json(capsys, settings.explain, "gpu_batch_size", "--scenarios=Offline", "--batch_size=8")
    assert (told["name"], told["asked_as"], told["unit"]) == ("batch_size", "gpu_batch_size", "samples")
    assert told["type"] == "a whole number, 1 to 16,777,216"
    assert told["default"].startswith("by rule batch_by_memory: ")
    assert told["nvidia"] == ["gpu_batch_size"]
    (now,) = told["now"]
    assert (now["value"], now["origin"]) == ("8 samples", "--batch_size")
    assert now["over"][0]["value"] == 64


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("target_latency", ["server_target_latency_ns", "LoadGen   target_latency, there in ms", "scenario Server"]),
        ("fixed_delay_us", ["engine fixed_delay", "unit      us"]),
        ("min-duration", ["now       digits Offline: 3,000 ms, configs/default/digits.yaml:5"]),
        ("config_ver", ["a flag of NVIDIA's", "maxq: refused, power runs"]),
        ("link_dirs", ["a target of NVIDIA's: there is nothing to link"]),
        ("force", ["a flag: make engines"]),
        ("cpus", ["a list of numbers", "default   empty"]),
        ("scenario", ["said by the request"]),
    ],
)
def test_explain_knows_every_kind_of_name(capsys: pytest.CaptureFixture[str], name: str, said: list[str]) -> None:
    assert settings.explain([name]) == 0
    out = capsys.readouterr().out
    assert all(part in out for part in said), out


def test_every_setting_can_be_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert {told["name"] for told in _json(capsys, settings.explain, *fields.names())} == set(fields.names())


def test_explain_of_what_is_not_there_names_the_nearest() -> None:
    with pytest.raises(RequestError, match=r"RUN_ARGS: unknown setting batch_sise\n  did you mean batch_size\?"):
        settings.explain(["batch_sise"])


def test_explain_without_a_name_lists_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert settings.explain([]) == 0
    out = capsys.readouterr().out
    assert all(f"\n{name} " in out for name in fields.settable())


# Schemas


SCHEMAS = settings.all_schemas()


@pytest.mark.parametrize("folder", SCHEMAS, ids=lambda folder: folder.name)
def test_the_schemas_in_the_tree_are_those_of_the_code(folder: Path) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMAS[folder])
    kept = json.loads((folder / "schema.json").read_text())
    assert kept == json.loads(json.dumps(SCHEMAS[folder])), "make schemas writes them"


FILES = [
    *((CONFIGS, path) for path in sorted(CONFIGS.glob("*/*.yaml"))),
    *((SYSTEMS, path) for path in sorted(SYSTEMS.glob("*.yaml"))),
    *((DATA_MAPS, path) for path in sorted(DATA_MAPS.glob("*/dataset.yaml"))),
    *((CONFIGS, path) for path in sorted(ROOT.glob("tests/overlays/*/configs/*/*.yaml"))),
    *((SYSTEMS, path) for path in sorted(ROOT.glob("tests/overlays/*/systems/*.yaml"))),
]


@pytest.mark.parametrize(("folder", "path"), FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_of_ours_fits_its_schema_and_names_it(folder: Path, path: Path) -> None:
    jsonschema.validate(load(path), SCHEMAS[folder], jsonschema.Draft202012Validator)
    first = path.read_text().splitlines()[0]
    assert first.startswith("# yaml-language-server: $schema=")
    assert (path.parent / first.partition("=")[2]).resolve() == folder / "schema.json"


VALUES = [
    0,
    1,
    -1,
    64,
    1.5,
    True,
    None,
    "10 s",
    "64 samples",
    "5 parsecs",
    "x",
    "0-3,8",
    [],
    [0, 2],
    {},
    "int8",
    "auto",
]


@pytest.mark.parametrize("name", fields.settable())
def test_an_editor_accepts_what_a_run_accepts(name: str) -> None:
    """The schema and the loader agree on each value, but for names of plug-ins, which overlays may bring."""
    for value in VALUES:
        try:
            fields.convert(name, value, from_text=False)
            accepted = True
        except ValueError:
            accepted = False
        text = yaml.safe_dump({"Offline": {name: value}})
        validator = jsonschema.Draft202012Validator(SCHEMAS[CONFIGS])
        fits = validator.is_valid(yaml.safe_load(text))
        if name in fields.PLUGINS and isinstance(value, str):
            continue
        assert fits == accepted, (name, value)


def test_an_editor_refuses_unknown_sections_and_fields() -> None:
    validator = jsonschema.Draft202012Validator(SCHEMAS[CONFIGS])
    assert validator.is_valid({section: {"batch_size": 1} for section in SECTIONS})
    assert not validator.is_valid({"Ofline": {}})
    assert not validator.is_valid({"common": {"gpu_batch_sise": 1}})
