"""`make config` shows each merged setting with its origin, `make explain` what it means, `make schemas` its schema."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from rich.console import Console

from engineroom import actions, systems, terminal
from engineroom.actions import settings
from engineroom.config import fields
from engineroom.config.layers import SECTIONS
from engineroom.config.values import convert
from engineroom.detection import Gpu, Machine
from engineroom.errors import RequestError
from engineroom.paths import CONFIGS, DATA_MAPS, ROOT, SYSTEMS
from engineroom.steps.submission import entry
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


def test_on_a_narrow_terminal_origins_stay_whole(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terminal, "_console", lambda stderr: Console(width=80, highlight=False))
    assert settings.config([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    place = next(number for number, line in enumerate(lines) if line.split()[-2:] == ["64", "samples"])
    assert lines[place].startswith("batch_size ")
    assert lines[place + 1].split() == ["Offline", "configs/default/digits.yaml:21"]


def test_a_doubtful_value_is_warned_of_once(capsys: pytest.CaptureFixture[str]) -> None:
    (found,) = _json(capsys, settings.config, "--scenarios=Offline", "--watchdog_s=2 h")
    assert found["warnings"] == ["--watchdog_s: watchdog_s is 7,200; usual is 5 to 3,600 s"]


def test_a_gpu_that_is_not_used_is_warned_of_unless_the_engine_was_chosen(
    capsys: pytest.CaptureFixture[str], machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(systems, "detect", lambda: replace(machine, gpus=(Gpu("NVIDIA H200"),)))
    assert settings.config([]) == 0
    assert capsys.readouterr().err.count("though NVIDIA H200 is there: the engine tensorrt needs tensorrt") == 1
    assert settings.config(["--engine=openvino"]) == 0
    monkeypatch.setenv("ENGINEROOM_ENGINE", "onnxruntime")
    assert settings.config([]) == 0
    assert capsys.readouterr().err == ""


def test_cpus_that_may_not_be_used_are_told_as_ranges() -> None:
    with pytest.raises(RequestError, match=r"--cpus: this process may not use CPU 8-65535\n  it may use 0-7"):
        settings.config(["--cpus=0-65535"])


def test_explain_tells_type_unit_default_users_names_and_value(capsys: pytest.CaptureFixture[str]) -> None:
    (told,) = _json(capsys, settings.explain, "gpu_batch_size", "--scenarios=Offline", "--batch_size=8")
    assert (told["name"], told["asked_as"], told["unit"]) == ("batch_size", "gpu_batch_size", "samples")
    assert told["type"] == "a whole number, 1 to 16,777,216"
    assert told["default"].startswith("by rule batch_by_memory: ")
    assert told["nvidia"] == ["gpu_batch_size"]
    (now,) = told["now"]
    assert (now["value"], now["text"], now["origin"]) == (8, "8 samples", "--batch_size")
    assert now["over"][0]["value"] == 64


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("target_latency", ["server_target_latency_ns", "LoadGen   target_latency, there in ms", "scenario Server"]),
        ("fixed_delay_us", ["engine fixed_delay", "unit      us"]),
        ("min-duration", ["now       digits Offline: 3,000 ms, configs/default/digits.yaml:5"]),
        ("config_ver", ["a flag of NVIDIA's", "\n  maxq      refused: power runs"]),
        ("fast", ["\n  alone     --test_run: a short run"]),
        ("power_limit", ["\n  any value refused: power runs"]),
        ("generate_engines", ["a target of make: build the engines of the benchmarks"]),
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


def test_explains_help_tells_names_from_flags(capsys: pytest.CaptureFixture[str]) -> None:
    assert actions.act("settings", "explain", lambda: ["--help"]) == 0
    out = capsys.readouterr().out
    assert "\n  NAME ... " in out and "\n  --batch_size " in out


def test_explain_tells_the_engines_that_use_a_setting(capsys: pytest.CaptureFixture[str]) -> None:
    told = {fact["name"]: fact["engines"] for fact in _json(capsys, settings.explain, *fields.settable())}
    assert told["fixed_delay_us"] == ["fixed_delay"]
    assert told["threads_per_instance"] == ["litert", "onnxruntime", "openvino", "torch"]
    assert told["batch_size"] == []


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


@pytest.mark.parametrize("path", SCHEMAS, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_schemas_in_the_tree_are_those_of_the_code(path: Path) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMAS[path])
    kept = json.loads(path.read_text())
    assert kept == json.loads(json.dumps(SCHEMAS[path])), "make schemas writes them"


def test_schemas_are_written_where_it_is_said(tmp_path: Path) -> None:
    assert settings.schemas([f"--output={tmp_path}"]) == 0
    written = {path.relative_to(tmp_path): json.loads(path.read_text()) for path in tmp_path.rglob("*.json")}
    assert written == {path.relative_to(ROOT): json.loads(json.dumps(schema)) for path, schema in SCHEMAS.items()}
    with pytest.raises(RequestError, match="RUN_ARGS: --output: no folder is named"):
        settings.schemas(["--output="])


FILES = [
    *((CONFIGS, path) for path in sorted(CONFIGS.glob("*/*.yaml"))),
    *((SYSTEMS, path) for path in sorted(SYSTEMS.glob("*.yaml"))),
    *((DATA_MAPS, path) for path in sorted(DATA_MAPS.glob("*/dataset.yaml"))),
    *((CONFIGS, path) for path in sorted(ROOT.glob("tests/overlays/*/configs/*/*.yaml"))),
    *((SYSTEMS, path) for path in sorted(ROOT.glob("tests/overlays/*/systems/*.yaml"))),
]


@pytest.mark.parametrize(("folder", "path"), FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_of_ours_fits_its_schema_and_names_it(folder: Path, path: Path) -> None:
    jsonschema.validate(load(path), SCHEMAS[folder / "schema.json"], jsonschema.Draft202012Validator)
    first = path.read_text().splitlines()[0]
    assert first.startswith("# yaml-language-server: $schema=")
    assert (path.parent / first.partition("=")[2]).resolve() == folder / "schema.json"


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("submitter: Acme\ndivision: closed\npublic: [rack7, mlperf]\n", True),
        ("submitter:\n", True),
        ("division: network\n", False),
        ("submitter: A B\n", False),
        ("public: rack7\n", False),
        ("submiter: Acme\n", False),
    ],
)
def test_an_editor_and_the_reader_agree_on_who_submits(tmp_path: Path, text: str, good: bool) -> None:
    (tmp_path / entry.FILE).write_text(text)
    schema = SCHEMAS[CONFIGS / entry.SCHEMA]
    assert jsonschema.Draft202012Validator(schema).is_valid(load(tmp_path / entry.FILE)) is good
    expected: AbstractContextManager[Any] = nullcontext() if good else pytest.raises(RequestError)
    with expected:
        entry.read_settings({}, tmp_path)


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
            convert(name, value, from_text=False)
            accepted = True
        except ValueError:
            accepted = False
        text = yaml.safe_dump({"Offline": {name: value}})
        validator = jsonschema.Draft202012Validator(SCHEMAS[CONFIGS / "schema.json"])
        fits = validator.is_valid(yaml.safe_load(text))
        if fields.is_open(name) and isinstance(value, str):
            continue
        assert fits == accepted, (name, value)


def test_an_editor_refuses_unknown_sections_and_fields() -> None:
    validator = jsonschema.Draft202012Validator(SCHEMAS[CONFIGS / "schema.json"])
    assert validator.is_valid({section: {"batch_size": 1} for section in SECTIONS})
    assert not validator.is_valid({"Ofline": {}})
    assert not validator.is_valid({"common": {"gpu_batch_sise": 1}})
