"""Anybody's results in one form: trees of the rounds up to v3.1, of both layouts since, and MLCommons' summaries."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from engineroom.actions import published as action
from engineroom.actions import submission
from engineroom.errors import RequestError
from engineroom.steps.submission import published
from engineroom.terms import Scenario

if TYPE_CHECKING:
    from conftest import Runs

SYSTEM = {
    "division": "closed",
    "submitter": "Acme",
    "status": "available",
    "system_type": "datacenter",
    "system_name": "A server",
    "number_of_nodes": "2",
    "host_processors_per_node": "2",
    "host_processor_core_count": "64",
    "host_processor_model_name": "A CPU",
    "accelerators_per_node": "4",
    "accelerator_model_name": "A GPU",
    "framework": "A framework 1.2.3.4",
}


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")


def log(**values: Any) -> str:
    lines = ({"key": key, "value": value, "metadata": {"is_error": False}} for key, value in values.items())
    return "".join(f":::MLLOG {json.dumps(line)}\n" for line in lines)


def put(root: Path, scenario: str, benchmark: str = "resnet50", **values: Any) -> None:
    """Put a result into a tree as the rounds before v6.0 had it."""
    system = root / "closed" / "Acme"
    write(system / "systems" / "box.json", SYSTEM)
    results = system / "results" / "box" / benchmark / scenario
    write(results / "performance/run_1/mlperf_log_detail.txt", log(result_validity="VALID", **values))
    write(results / "accuracy/accuracy.txt", "accuracy=76.044%, good=38022, total=50000\nhash=18b7\n")
    measured = system / "measurements" / "box" / benchmark / scenario / f"box_impl_{scenario}.json"
    write(measured, {"weight_data_types": "int8"})


def read(root: Path, **more: str) -> dict[str, published.Published]:
    found, passed_over = published.read(root, **more)
    assert not passed_over
    return {each.scenario: each for each in found}


def test_a_tree_of_an_old_round(tmp_path: Path) -> None:
    """In v2.0 Server counted what was scheduled, and scenarios are in lower case in some trees."""
    root = tmp_path / "inference_results_v2.0"
    put(root, "offline", effective_scenario="Offline", result_samples_per_second=800.0)
    put(
        root,
        "Server",
        effective_scenario="Server",
        result_scheduled_samples_per_sec=700.0,
        result_completed_samples_per_sec=690.0,
    )
    put(root, "SingleStream", **{"effective_scenario": "SingleStream", "result_90.00_percentile_latency_ns": 2_500_000})
    found = read(root)
    offline = found["Offline"]
    assert (offline.round, offline.value, offline.unit) == ("v2.0", 800.0, "samples/s")
    assert (offline.accelerators, offline.processors, offline.cores) == (8, 4, 64)
    assert offline.per_accelerator == 100.0 and offline.per_core is None
    assert offline.weight_data_types == "int8" and offline.accuracy == "accuracy=76.044%, good=38022, total=50000"
    assert found["Server"].value == 700.0
    stream = found["SingleStream"]
    assert (stream.value, stream.unit, stream.per_accelerator) == (2.5, "ms", None)


def test_the_round_is_told_by_loadgens_version_and_the_score_by_the_round(tmp_path: Path) -> None:
    values = {"result_scheduled_samples_per_sec": 700.0, "result_completed_samples_per_sec": 690.0}
    put(tmp_path, "Server", loadgen_version="4.1.1 @ 1234", effective_scenario="Server", **values)
    found = read(tmp_path)["Server"]
    assert (found.round, found.value) == ("v4.1", 690.0)


@pytest.mark.parametrize("figure", ["many", [1], {}])
@pytest.mark.parametrize("scenario", ["Offline", "SingleStream"])
def test_a_log_whose_figure_is_no_number_is_passed_over(tmp_path: Path, figure: Any, scenario: str) -> None:
    put(tmp_path, "Server", effective_scenario="Server", result_completed_samples_per_sec=690.0)
    values = {"effective_scenario": "SingleStream", "result_90.00_percentile_latency_ns": figure}
    put(tmp_path, scenario, **values, result_qps_without_loadgen_overhead=figure)
    found, passed_over = published.read(tmp_path)
    assert [each.scenario for each in found] == ["Server"]
    assert len(passed_over) == 1 and ("must be a number" in passed_over[0] or not figure)


SERVER = {  # as LoadGen's logs of the rounds have them, of DGX H100 in v4.0 and of GX2560M7 in v4.1
    "result_scheduled_samples_per_sec": 70.98,
    "result_completed_samples_per_sec": 70.42,
    "result_completed_tokens_per_second": 20556.4,
    "result_inferred_completed_tokens_per_second": 9602.79,
}


@pytest.mark.parametrize(
    ("round_name", "benchmark", "value", "unit"),
    [
        ("v3.1", "gptj-99", 70.98, "samples/s"),
        ("v4.0", "resnet50", 70.98, "samples/s"),
        ("v4.0", "llama2-70b-99.9", 70.42, "samples/s"),
        ("v4.1", "resnet50", 70.42, "samples/s"),
        ("v4.1", "llama2-70b-99.9", 20556.4, "tokens/s"),
        ("v4.1", "gptj-99", 9602.79, "tokens/s"),
        ("v5.0", "gptj-99.9", 9602.79, "tokens/s"),
        ("v5.0", "llama2-70b-interactive-99", 20556.4, "tokens/s"),
        ("v5.1", "retinanet", 70.42, "samples/s"),
    ],
)
def test_the_score_of_server_is_what_the_checker_of_the_round_took(
    tmp_path: Path, round_name: str, benchmark: str, value: float, unit: str
) -> None:
    put(tmp_path, "Server", benchmark, effective_scenario="Server", **SERVER)
    found = read(tmp_path, round_name=round_name)["Server"]
    assert (found.value, found.unit) == (value, unit)


def test_a_model_of_another_name_is_scored_as_the_benchmark_that_it_is_mapped_to(tmp_path: Path) -> None:
    write(tmp_path / "closed/Acme/model_mapping.json", {"my-llama": "llama2-70b-99"})
    put(tmp_path, "Interactive", "my-llama", effective_scenario="Server", **SERVER)
    found = read(tmp_path, round_name="v5.1")["Interactive"]
    assert (found.benchmark, found.value, found.unit) == ("my-llama", 20556.4, "tokens/s")


def test_language_models_count_tokens_and_inferred_results_say_so(tmp_path: Path) -> None:
    values = {"result_samples_per_second": 10.0, "result_tokens_per_second": 3000.0}
    put(tmp_path, "Offline", "llama2-70b-99", effective_scenario="Offline", **values)
    assert (read(tmp_path)["Offline"].value, read(tmp_path)["Offline"].unit) == (3000.0, "tokens/s")
    edge = tmp_path / "edge"
    put(edge, "MultiStream", effective_scenario="SingleStream", early_stopping_latency_ms=1_500_000)
    multi = read(edge)["MultiStream"]
    assert (multi.value, multi.unit, multi.inferred_from) == (12.0, "ms", "SingleStream")


@pytest.mark.parametrize("name", ["v6.1", "v5.1"])
def test_what_we_stage_is_read_back(made: Runs, tmp_path: Path, name: str) -> None:
    for scenario in (Scenario.SINGLE_STREAM, Scenario.MULTI_STREAM, Scenario.OFFLINE):
        made.pair(scenario, round=name)
    submission.stage_results(["--submitter=Acme", "--division=open", "--benchmarks=resnet50", f"--round={name}"])
    found = read(tmp_path / "submission" / name, round_name=name)
    figures = {scenario: (each.value, each.unit) for scenario, each in found.items()}
    assert figures == {"SingleStream": (10.5, "ms"), "MultiStream": (36.75, "ms"), "Offline": (100.0, "samples/s")}
    assert found["Offline"].per_core == 25.0 and found["Offline"].weight_data_types == "fp32"
    assert (found["Offline"].submitter, found["Offline"].category, found["Offline"].valid) == ("Acme", "edge", True)


SUMMARY = [
    {  # as v5.1 writes them: numbers of hardware as texts
        "Submitter": "Acme", "Availability": "available", "Category": "closed", "Suite": "datacenter",
        "System": "A server", "Platform": "box", "UsedModel": "llama2-70b-99", "Model": "llama2-70b-99",
        "Scenario": "Offline", "Accuracy": "ROUGE1: 44.4", "Nodes": "2", "Processor": "A CPU",
        "host_processors_per_node": 2, "host_processor_core_count": "64", "Accelerator": "A GPU", "a#": "8",
        "Location": "closed/Acme/results/box/llama2-70b-99/Offline", "version": "v5.1", "inferred": "0",
        "has_power": True, "Power_Result": 5000.0, "Power_Units": "Watts", "Performance_Result": 8000.0,
        "Performance_Units": "Tokens/s",
    },
    {  # as v4.1 does, with a CPU alone
        "Submitter": "Acme", "Availability": "available", "Category": "open", "Suite": "edge", "System": "A box",
        "Platform": "cpu", "UsedModel": "resnet50", "Model": "resnet", "Scenario": "SingleStream", "Nodes": 1,
        "host_processors_per_node": 1, "host_processor_core_count": 16.0, "Accelerator": "N/A", "a#": "",
        "version": "v4.1", "inferred": 1, "has_power": False, "Performance_Result": 3.5,
        "Performance_Units": "Latency (ms)",
    },
    {"Submitter": "Nobody"},
]  # fmt: skip


def test_a_summary_is_read_and_what_cannot_be_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "summary_results.json", SUMMARY)
    found, passed_over = published.read(tmp_path)
    first, second = found
    assert (first.round, first.value, first.unit, first.accelerators, first.per_accelerator) == (
        "v5.1", 8000.0, "tokens/s", 16, 500.0,
    )  # fmt: skip
    assert (first.power, first.power_unit) == (5000.0, "Watts")
    assert (second.unit, second.accelerators, second.cores, second.inferred_from) == ("ms", 0, 16, "another scenario")
    assert len(passed_over) == 1 and "result 3: KeyError" in passed_over[0]


CHECKERS_TABLE = [
    {  # a row of v2.1's, as published in open/Alibaba/submission_checker_results.csv
        "Organization": "Alibaba", "Availability": "rdi", "Division": "open", "SystemType": "datacenter",
        "SystemName": "Alibaba Cloud Server", "Platform": "ACS_SINIAN_ARMNN_A_Datacenter", "Model": "resnet50",
        "MlperfModel": "resnet", "Scenario": "Offline", "Result": 20002.4, "Accuracy": 75.862, "number_of_nodes": 1,
        "host_processor_model_name": "Alibaba Yitian 710", "host_processors_per_node": 1,
        "host_processor_core_count": 128, "accelerator_model_name": "", "accelerators_per_node": 0,
        "Location": "open/Alibaba/results/ACS_SINIAN_ARMNN_A_Datacenter/resnet50/Offline",
        "framework": "SinianML-ARMNN v22.05", "operating_system": "Ubuntu 21.10", "notes": "ECC ON", "compilance": 1,
        "errors": 0, "version": "v2.1", "inferred": 0, "has_power": False, "Units": "Samples/s",
    },
    {  # by the columns of v3.1's, with accelerators in two nodes
        "Organization": "Acme", "Availability": "available", "Division": "closed", "SystemType": "datacenter",
        "SystemName": "A server", "Platform": "box", "Model": "my-bert", "MlperfModel": "bert-99", "Scenario": "Server",
        "Result": 8000.0, "Accuracy": "F1: 90.1", "number_of_nodes": 2, "host_processor_model_name": "A CPU",
        "host_processors_per_node": 2, "host_processor_core_count": 64, "accelerator_model_name": "A GPU",
        "accelerators_per_node": 4, "Location": "closed/Acme/results/box/my-bert/Server", "framework": "A framework",
        "operating_system": "Linux", "notes": "", "compliance": 1, "errors": 0, "version": "v3.1", "inferred": 0,
        "has_power": False, "Units": "Queries/s",
    },
]  # fmt: skip


def test_the_rounds_up_to_v3_1_are_read_by_the_columns_that_they_have(tmp_path: Path) -> None:
    write(tmp_path / "summary_results.json", CHECKERS_TABLE)
    (first, second), passed_over = published.read(tmp_path)
    assert not passed_over
    assert (first.round, first.division, first.submitter, first.category) == ("v2.1", "open", "Alibaba", "datacenter")
    assert (first.benchmark, first.value, first.unit, first.accelerators) == ("resnet50", 20002.4, "samples/s", 0)
    assert (first.processor, first.processors, first.cores) == ("Alibaba Yitian 710", 1, 128)
    assert (first.framework, first.per_core) == ("SinianML-ARMNN v22.05", 20002.4 / 128)
    assert (second.round, second.system_name, second.benchmark) == ("v3.1", "A server", "my-bert")
    assert (second.accelerator, second.accelerators, second.processors) == ("A GPU", 8, 4)
    assert (second.unit, second.per_accelerator) == ("samples/s", 1000.0)


def test_the_field_that_is_the_score_decides_the_unit_where_a_summary_errs(tmp_path: Path) -> None:
    """In MLCommons' summary of v5.1, whisper's 41927.4 is what the log has as result_tokens_per_second."""
    whisper = {**SUMMARY[0], "UsedModel": "whisper", "Model": "whisper", "Performance_Units": "Samples/s"}
    unet = {**whisper, "UsedModel": "3d-unet-99", "Model": "3d-unet-99"}
    write(tmp_path / "summary_results.json", [whisper, unet])
    assert [each.unit for each in published.read(tmp_path)[0]] == ["tokens/s", "samples/s"]


def test_an_import_is_kept_and_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(action, "PUBLISHED", tmp_path / "published")
    write(tmp_path / "in" / "summary_results.json", SUMMARY)
    table = tmp_path / "all.csv"
    assert action.import_submission([str(tmp_path / "in"), f"--csv={table}"]) == 0
    out = capsys.readouterr().out
    assert "500 an accelerator" in out and "passed over:" in out
    (path,) = (tmp_path / "published").glob("v5.1-in-*.json")
    kept = json.loads(path.read_text())
    assert [each["benchmark"] for each in kept] == ["llama2-70b-99", "resnet50"]
    rows = list(csv.DictReader(table.open()))
    assert [row["per_accelerator"] for row in rows] == ["500.0", ""]
    action.import_submission([str(tmp_path / "in"), "--json", "--benchmarks=resnet50"])
    assert [each["value"] for each in json.loads(capsys.readouterr().out)] == [3.5]


def test_imports_of_one_name_are_kept_beside_each_other_and_one_again_in_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(action, "PUBLISHED", tmp_path / "published")
    for place in ("mine", "yours", "mine"):
        write(tmp_path / place / "in/summary_results.json", [{**SUMMARY[0], "Submitter": place}])
        assert action.import_submission([str(tmp_path / place / "in"), "--json"]) == 0
    kept = [json.loads(path.read_text()) for path in (tmp_path / "published").iterdir()]
    assert sorted(each["submitter"] for (each,) in kept) == ["mine", "yours"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "there is no such folder or file"),
        ({}, "holds neither closed, network, open nor summary_results.json"),
        ({"summary_results.json": "[1]"}, "is no list of results"),
        ({"summary_results.json": "{"}, "cannot be read"),
        ({"closed/A/results/s/b/Offline/x": ""}, "holds no result that can be read\n.*has no log of LoadGen's"),
        (
            {"closed/A/results/s/b/Offline/performance/run_1/mlperf_log_detail.txt": ':::MLLOG {"key": "x'},
            "is no complete LoadGen log",
        ),
    ],
)
def test_what_holds_no_results_is_told(tmp_path: Path, content: dict[str, str] | None, said: str) -> None:
    root = tmp_path / "in"
    for name, text in (content or {}).items():
        write(root / name, text)
    if content == {}:
        root.mkdir()
    with pytest.raises(RequestError, match=said):
        action.import_submission([str(root)])
