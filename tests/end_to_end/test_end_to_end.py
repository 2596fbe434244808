"""Runs of the whole product, digits, in every scenario, mode and precision: what they leave must be true."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import numpy.typing as npt
import psutil
import pytest

from engineroom.config import RunConfig
from engineroom.datasets import Dataset
from engineroom.steps.harness import read_log

if TYPE_CHECKING:
    from conftest import Checkout, Matrix

SCENARIOS = ("SingleStream", "MultiStream", "Server", "Offline")
MODES = ("PerformanceOnly", "AccuracyOnly")
PRECISIONS = ("fp32", "int8")
QUICK = "--min_duration=300 --probe_s=0.2"
PATIENT = "--server_target_latency_ns=1000000000"  # a machine that stands still for 0.1 s shall fail no test
SAMPLES = 500
MULTI_STREAM_SAMPLES = 504  # LoadGen fills the last query of 8
METRICS = {
    "SingleStream": "early_stopping_latency_ss",
    "MultiStream": "early_stopping_latency_ms",
    "Server": "result_completed_samples_per_sec",
    "Offline": "result_samples_per_second",
}
# Round v6.1, in LoadGen's built-in mlperf.conf
SEEDS = {
    "qsl_rng_seed": 2085463073848966840,
    "sample_index_rng_seed": 2747215439041700203,
    "schedule_rng_seed": 16159082839903944936,
}
FILES = {
    "result.json",
    "run_config.yaml",
    "recipe/user.conf",
    "recipe/harness.json",
    "recipe/run.sh",
    "env.json",
    "telemetry.csv",
    "mlperf_log_detail.txt",
    "mlperf_log_summary.txt",
    "mlperf_log_accuracy.json",
}
each_precision = pytest.mark.parametrize("precision", PRECISIONS)
each_scenario = pytest.mark.parametrize("scenario", SCENARIOS)
each_run = pytest.mark.parametrize(
    ("precision", "scenario", "mode"), [(p, s, m) for p in PRECISIONS for s in SCENARIOS for m in MODES]
)
Run = tuple[Path, dict[str, Any]]


@pytest.fixture
def run(matrix: Callable[[str], Matrix], precision: str, scenario: str, mode: str) -> Run:
    """Return the folder and the result of one run of the matrix."""
    return matrix(precision).runs[scenario, mode]


@each_precision
def test_every_scenario_runs_in_both_modes_and_is_good(matrix: Callable[[str], Matrix], precision: str) -> None:
    ran = matrix(precision)
    assert set(ran.runs) == {(scenario, mode) for scenario in SCENARIOS for mode in MODES}
    for (_, mode), (folder, result) in ran.runs.items():
        assert (result["exit_code"], result["engine"], result["precision"]) == (0, "openvino", precision)
        assert not result["submittable"], folder
        assert (result["performance"] is None) == (mode == "AccuracyOnly")
        assert (result["accuracy"] is None) == (mode == "PerformanceOnly")


@each_precision
@each_scenario
def test_the_figure_is_loadgens_own(matrix: Callable[[str], Matrix], precision: str, scenario: str) -> None:
    folder, result = matrix(precision).runs[scenario, "PerformanceOnly"]
    performance, log = result["performance"], read_log(folder)
    assert performance["valid"] and log["result_validity"] == "VALID" and not performance["reasons"]
    assert "Result is : VALID" in (folder / "mlperf_log_summary.txt").read_text()
    nanoseconds = 1e6 if performance["unit"] == "ms" else 1
    assert performance["value"] == pytest.approx(log[METRICS[scenario]] / nanoseconds)
    assert log["effective_min_duration_ms"] == 300


@each_precision
@each_scenario
def test_accuracy_meets_its_target(matrix: Callable[[str], Matrix], precision: str, scenario: str) -> None:
    folder, result = matrix(precision).runs[scenario, "AccuracyOnly"]
    accuracy = result["accuracy"]
    assert accuracy["met"] and accuracy["value"] >= accuracy["target"]
    classes = {index: int(logits.argmax()) for index, logits in logged_logits(folder)}
    labels = Dataset("digits").labels("evaluation")
    good = sum(classes[index] == label for index, label in enumerate(labels))
    assert (accuracy["good"], accuracy["total"]) == (good, SAMPLES)
    assert accuracy["value"] == pytest.approx(100 * good / SAMPLES)
    assert (folder / "accuracy.txt").read_text() == f"accuracy={100 * good / SAMPLES:.3f}%, good={good}, total=500\n"


@each_scenario
def test_int8_keeps_99_percent_of_the_accuracy_of_fp32(matrix: Callable[[str], Matrix], scenario: str) -> None:
    int8, fp32 = (matrix(precision).runs[scenario, "AccuracyOnly"][1]["accuracy"] for precision in ("int8", "fp32"))
    assert int8["value"] >= 0.99 * fp32["value"]


@each_scenario
def test_int8_is_really_another_model(matrix: Callable[[str], Matrix], scenario: str) -> None:
    int8, fp32 = (dict(logged_logits(matrix(p).runs[scenario, "AccuracyOnly"][0])) for p in ("int8", "fp32"))
    assert max(float(np.abs(int8[index] - fp32[index]).max()) for index in fp32) > 1e-3


@each_scenario
def test_native_openvino_answers_each_sample_as_onnxruntime_does(
    matrix: Callable[[str], Matrix], scenario: str, reference: npt.NDArray[np.float32]
) -> None:
    logged = logged_logits(matrix("fp32").runs[scenario, "AccuracyOnly"][0])
    for index, logits in logged:
        np.testing.assert_allclose(logits, reference[index], atol=1e-4, rtol=0, err_msg=f"sample {index}")
        assert logits.argmax() == reference[index].argmax()


@pytest.fixture(scope="session")
def reference(house: Checkout, matrix: Callable[[str], Matrix]) -> npt.NDArray[np.float32]:
    """Return ONNX Runtime's logits of every sample that the runs were given: float32 [500, 10]."""
    import onnxruntime

    matrix("fp32")
    samples = np.load(house.artifact("preprocessed_data/digits/digits/evaluation") / "input.npy")
    model = house.root / "code" / "models" / "digits" / "digits.onnx"
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {"input": samples})
    return np.asarray(logits)


@each_scenario
def test_every_sample_is_answered_once(matrix: Callable[[str], Matrix], scenario: str) -> None:
    indices = [index for index, _ in logged_logits(matrix("int8").runs[scenario, "AccuracyOnly"][0])]
    assert len(indices) == (MULTI_STREAM_SAMPLES if scenario == "MultiStream" else SAMPLES)
    assert set(indices) == set(range(SAMPLES))


@each_run
def test_the_folder_is_complete(run: Run) -> None:
    folder, _ = run
    assert {str(path.relative_to(folder)) for path in folder.rglob("*")} >= FILES
    assert not [path for path in folder.rglob("*") if path.name.endswith(".partial")]
    assert not (folder / "error.json").exists()


def test_nothing_unfinished_is_left(house: Checkout, matrix: Callable[[str], Matrix]) -> None:
    for precision in PRECISIONS:
        matrix(precision)
    assert house.partial() == []
    made = [path for path in (house.root / "build").rglob("*.partial*") if "venv" not in path.parts]
    assert made == []


@each_run
def test_all_that_was_issued_was_completed(run: Run, scenario: str, mode: str) -> None:
    counters = run[1]["counters"]
    assert counters["issued_samples"] == counters["completed_samples"] > 0
    assert sum(counters["worker_samples"]) == counters["completed_samples"]
    sizes = counters["batch_size_histogram"]
    assert sum(sizes) == counters["batches"]
    assert sum(size * count for size, count in enumerate(sizes)) == counters["completed_samples"]
    assert counters["issued_fingerprint"] == counters["answered_fingerprint"]
    assert len(counters["issued_fingerprint"]) == 16
    if mode == "AccuracyOnly":
        assert counters["completed_samples"] == (MULTI_STREAM_SAMPLES if scenario == "MultiStream" else SAMPLES)
    elif scenario != "Offline":
        per_query = 8 if scenario == "MultiStream" else 1
        assert counters["queries_issued"] * per_query == counters["completed_samples"]


@each_run
def test_loadgen_ran_with_the_rounds_seeds_and_our_settings(run: Run, scenario: str, mode: str) -> None:
    folder, result = run
    log = read_log(folder)
    assert log["errors"] == []
    assert {name: log[f"effective_{name}"] for name in SEEDS} == SEEDS
    assert (log["effective_scenario"], log["effective_test_mode"]) == (scenario, mode)
    assert log["effective_performance_sample_count"] == SAMPLES
    if scenario == "Server":
        assert log["effective_target_qps"] == 5000
        assert log["effective_target_latency_ns"] == 1_000_000_000
    if scenario == "MultiStream":
        assert log["effective_samples_per_query"] == 8
        assert log["effective_min_query_count"] == 662
    if scenario == "Offline":
        assert log["effective_min_sample_count"] >= 24_576
    assert result["loadgen"].items() <= log.items()


@each_run
def test_checksums_are_right(run: Run, house: Checkout) -> None:
    folder, result = run
    for name, sha256 in result["checksums"].items():
        path = house.root / name if name.startswith("build/") else folder / name
        assert hashlib.sha256(path.read_bytes()).hexdigest() == sha256, name
    named = {name for name in result["checksums"] if name.startswith("build/")}
    assert {Path(name).name.partition(".")[0] for name in named} == {"input", "model", "engineroom_native"}
    inside = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert result["checksums"].keys() - named == inside - {"result.json"}


@each_run
def test_every_setting_says_where_it_came_from(run: Run, house: Checkout, scenario: str, precision: str) -> None:
    lines = (run[0] / "run_config.yaml").read_text().splitlines()
    settings = {}
    for line in lines:
        name, value, origin = re.fullmatch(r"(\w+): (.+?)  # (.+)", line).groups()
        settings[name] = (json.loads(value), origin)
        if found := re.fullmatch(r"(configs/.+):(\d+)", origin):
            source = (house.root / found[1]).read_text().splitlines()[int(found[2]) - 1]
            assert re.match(rf" *{name}: {value}\b", source), line
    assert settings.keys() == set(RunConfig.__struct_fields__)
    assert settings["min_duration"] == (300, "--min_duration")
    assert settings["precision"] == (precision, "--precision")
    assert settings["scenario"] == (scenario, "the request")
    assert settings["watchdog_s"] == (30.0, "default")
    assert settings["engine"][1].startswith("rule engine_by_machine: ")
    msgspec.convert({name: value for name, (value, _) in settings.items()}, RunConfig)


@each_scenario
def test_a_probe_says_what_it_measured(matrix: Callable[[str], Matrix], scenario: str) -> None:
    folder, _ = matrix("int8").runs[scenario, "PerformanceOnly"]
    field = {
        "SingleStream": "single_stream_expected_latency_ns",
        "MultiStream": "multi_stream_expected_latency_ns",
        "Offline": "offline_expected_qps",
    }.get(scenario)
    assert (folder / "probe.json").exists() == (field is not None)
    if field:
        assert re.search(rf"^{field}: [\d.]+  # rule probe: ", (folder / "run_config.yaml").read_text(), re.MULTILINE)


@each_precision
def test_the_table_says_what_the_results_say(matrix: Callable[[str], Matrix], precision: str) -> None:
    ran = matrix(precision)
    rows = [re.split(" {2,}", line) for line in ran.done.out.splitlines() if line.startswith("digits  ")]
    assert [row[1] for row in rows] == list(SCENARIOS)
    for row in rows:
        performance = ran.runs[row[1], "PerformanceOnly"][1]["performance"]
        accuracy = ran.runs[row[1], "AccuracyOnly"][1]["accuracy"]
        assert row[2] == f"openvino {precision}"
        metric, value, unit = row[3].rsplit(" ", 2)
        assert (metric, unit) == (performance["metric"], performance["unit"])
        assert float(value.replace(",", "")) == pytest.approx(performance["value"], rel=6e-4)
        assert row[4:] == ["VALID", f"{accuracy['value']:.3f}% ({accuracy['target']:.3f}%) met"]
    assert "not an MLPerf benchmark: its results are not submittable" in ran.done.out


@each_run
def test_the_environment_is_on_record(run: Run) -> None:
    environment = json.loads((run[0] / "env.json").read_text())
    assert environment["machine"]["cpu"]["model"] and environment["machine"]["memory_bytes"] > 0
    assert environment["distributions"]["openvino"] == run[1]["made_from"]["openvino"]
    first, *rows = (run[0] / "telemetry.csv").read_text().splitlines()
    assert rows and all(row.count(",") == first.count(",") for row in rows)


# Recipes


@pytest.mark.parametrize("mode", MODES)
def test_a_recipe_by_hand_makes_a_new_folder_and_leaves_the_old_one(
    house: Checkout, matrix: Callable[[str], Matrix], mode: str, tmp_path: Path
) -> None:
    folder, old = matrix("fp32").runs["SingleStream", mode]
    before, others = state_of(folder), set(house.results())
    script = folder / "recipe" / "run.sh"
    done = subprocess.run([script], cwd=tmp_path, env={}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert state_of(folder) == before
    (path,) = set(house.results()) - others
    new = house.results()[path]
    assert new["run"] == f"build/runs/{path.name}"
    same = ("benchmark", "scenario", "test_mode", "engine", "precision", "made_from", "exit_code")
    assert {name: new[name] for name in same} == {name: old[name] for name in same}
    for name in ("user.conf", "harness.json", "run.sh"):
        assert (path / "recipe" / name).read_bytes() == (folder / "recipe" / name).read_bytes()
    if mode == "AccuracyOnly":
        assert dict(answers(path)) == dict(answers(folder))


@pytest.fixture
def finished(copy: Checkout) -> Path:
    """Return the folder of a good accuracy run that nothing else uses."""
    copy.good("run_harness", "--scenarios=Offline --precision=fp32 --test_mode=AccuracyOnly")
    (folder,) = copy.results()
    return folder


def by_hand(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the recipe of a run as a person would."""
    return subprocess.run([folder / "recipe/run.sh"], env={}, capture_output=True, text=True, check=False)


@pytest.mark.heavy
def test_a_recipe_that_tells_another_test_than_its_settings_is_refused(copy: Checkout, finished: Path) -> None:
    recipe = finished / "recipe/harness.json"
    recipe.write_text(recipe.read_text().replace('"name":"openvino"', '"name":"null"'))
    done = by_hand(finished)
    assert done.returncode == 2
    assert "harness.json: engine is 'null', but run_config.yaml says 'openvino'" in done.stderr
    assert list(copy.results()) == [finished] and not copy.partial()


def test_an_engine_that_changed_since_the_first_run_is_refused(copy: Checkout, finished: Path) -> None:
    blob = next(copy.root.glob("build/engines/*/digits/Offline/openvino-fp32/*/model.blob"))
    blob.write_bytes(blob.read_bytes() + b"\0")
    done = by_hand(finished)
    assert done.returncode == 2
    assert f"{blob.relative_to(copy.root)}: is not what the first run used" in done.stderr


@pytest.mark.heavy
def test_what_loadgen_complains_of_is_told_and_makes_a_run_no_good(copy: Checkout, finished: Path) -> None:
    """A rate below zero: LoadGen logs an error and goes on; the edit itself is told, too."""
    settings = finished / "recipe/user.conf"
    settings.write_text(settings.read_text() + "digits.Offline.target_qps = -1\n")
    done = by_hand(finished)
    assert done.returncode == 1, done.stderr
    assert "LoadGen logged an error: error_invalid_test_settings" in done.stdout
    assert "The recipe was edited by hand: recipe/user.conf." in done.stdout
    result = copy.result()
    assert result["accuracy"]["met"] and result["errors"] and result["exit_code"] == 1


@pytest.mark.heavy
def test_the_best_precision_is_the_first_that_holds_its_target_and_is_remembered(copy: Checkout) -> None:
    """Calibrated on samples a hundred times too dark, int8 saturates and misses."""
    step = copy.root / "code/engineroom/steps/calibrate.py"
    right = 'mmap_mode="r")'
    assert right in step.read_text()
    step.write_text(step.read_text().replace(right, f"{right} * np.float32(0.01)"))
    shutil.rmtree(copy.root / "build/calibration")
    asked = f"--scenarios=Offline --test_mode=AccuracyOnly {PATIENT}"
    done = copy.good("run_harness", asked)
    assert "digits Offline misses its accuracy target in int8; going on in fp32" in done.err
    first = {result["precision"]: result["accuracy"]["met"] for result in copy.results().values()}
    assert first == {"int8": False, "fp32": True}
    assert "openvino fp32" in done.out and "int8" not in done.out
    before = set(copy.results())
    copy.good("run_harness", asked)
    (again,) = (result for path, result in copy.results().items() if path not in before)
    assert again["precision"] == "fp32"


# What is made once


def test_a_second_generate_engines_reuses_and_says_why(furnished: Checkout) -> None:
    again = furnished.good("generate_engines", "--scenarios=Offline --precision=int8").text
    why = re.search(r"Offline, openvino engine in int8: reused build/engines/\S+ \((.*)\)", again)[1]
    for input_ in ("unchanged", "model", "calibration", "batch_size", "openvino", "CPU"):
        assert input_ in why
    assert "made" not in again.replace("made_from", "")


def test_a_changed_setting_is_named_in_the_reason(copy: Checkout) -> None:
    built = copy.good("generate_engines", "--scenarios=Offline --precision=fp32 --batch_size=65").text
    assert re.search(r"Offline, openvino engine in fp32: made build/engines/\S+ \(batch_size: 64 -> 65\)", built)
    assert "reused" in copy.good("generate_engines", "--scenarios=Offline --precision=fp32").text


@pytest.mark.heavy
def test_force_makes_everything_once_more(copy: Checkout) -> None:
    forced = copy.good("generate_engines", "--scenarios=Offline --precision=int8 --force").text
    lines = [line for line in forced.splitlines() if ": made " in line]
    assert len(lines) == 3 and all(line.endswith("(asked for by --force)") for line in lines), forced


def test_no_build_takes_what_is_there_and_makes_nothing(copy: Checkout) -> None:
    copy.good("run_harness", f"--no_build --scenarios=Offline --precision=fp32 --test_mode=AccuracyOnly {QUICK}")
    refused = copy.inv("run_harness", "--no_build --scenarios=Offline --precision=fp32 --batch_size=3")
    assert refused.code == 2
    assert "the openvino engine of digits Offline in fp32 has to be made (batch_size: 64 -> 3)" in refused.err
    assert "leave out --no_build" in refused.err
    assert not list((copy.root / "build/engines").glob("*/digits/Offline/openvino-fp32/*/manifest.json"))[1:]


@pytest.mark.heavy
@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_engines_move_with_their_checkout(
    copy: Checkout, copy_checkout: Callable[[Path, Path], Checkout], tmp_path: Path, engine: str
) -> None:
    settings = f"--engine={engine} --scenarios=Offline --precision=int8"
    copy.good("generate_engines", settings)
    moved = copy_checkout(copy.root, tmp_path / "moved")
    shutil.rmtree(copy.root)
    moved.good("run_harness", f"{settings} --no_build --test_mode=AccuracyOnly")


# Verdicts


def test_null_misses_the_accuracy_target(house: Checkout) -> None:
    done = house.inv("run_harness", "--engine=null --scenarios=SingleStream --test_mode=AccuracyOnly")
    result = house.result()
    assert done.code == 1 == result["exit_code"]
    assert result["accuracy"]["value"] < 30 and not result["accuracy"]["met"]
    assert "missed" in done.out and "it measures the harness" in done.out


@pytest.mark.heavy
def test_more_queries_than_the_engine_can_answer_are_invalid(house: Checkout) -> None:
    asked = "--engine=fixed_delay --fixed_delay_us=5000 --batch_size=1 --server_target_qps=3000 --min_duration=300"
    done = house.inv("run_harness", f"--scenarios=Server --test_mode=PerformanceOnly {asked}")
    result = house.result()
    assert done.code == 1 == result["exit_code"]
    assert result["performance"]["valid"] is False and result["performance"]["reasons"]
    assert "INVALID" in done.out and result["performance"]["reasons"][0].splitlines()[0] in done.out


@pytest.mark.heavy
def test_json_output_is_json(house: Checkout) -> None:
    done = house.good("run_harness", "--json --engine=onnxruntime --scenarios=MultiStream --precision=fp32 " + QUICK)
    (row,) = json.loads(done.out)
    assert (row["benchmark"], row["scenario"], row["engine"]) == ("digits", "MultiStream", "onnxruntime")
    assert row["performance"]["performance"]["valid"] and row["accuracy"]["accuracy"]["met"]
    assert row["failure"] is None
    runs = {house.root / result["run"] for result in (row["performance"], row["accuracy"])}
    assert runs <= house.results().keys()


def test_the_python_engine_agrees_with_onnxruntime_itself(house: Checkout, reference: npt.NDArray[np.float32]) -> None:
    house.good("run_harness", "--engine=onnxruntime --scenarios=Offline --precision=fp32 --test_mode=AccuracyOnly")
    for index, logits in logged_logits(house.runs / Path(house.result()["run"]).name):
        np.testing.assert_allclose(logits, reference[index], atol=1e-4, rtol=0)


@pytest.mark.heavy
def test_auto_goes_on_in_fp32_where_int8_misses_the_target(copy: Checkout) -> None:
    raise_target(copy)
    done = copy.inv("run_harness", f"--scenarios=Offline --test_mode=AccuracyOnly {QUICK}")
    assert done.code == 1
    assert "digits Offline misses its accuracy target in int8; going on in fp32" in done.err
    assert [result["precision"] for result in copy.results().values()] == ["int8", "fp32"]
    assert "openvino fp32  " in done.out and "openvino int8  " not in done.out
    again = copy.inv("run_harness", f"--scenarios=Offline --test_mode=AccuracyOnly {QUICK}")
    assert again.code == 1 and copy.result()["precision"] == "fp32"
    assert len(copy.results()) == 3, "that int8 misses is known"


def test_info_knows_what_is_here(house: Checkout) -> None:
    found = json.loads(house.good("info", "--json").out)
    problems = {item["name"]: item.get("problem") for item in found["benchmarks"]}
    assert (problems["digits"], problems["resnet50"]) == (None, "not here: resnet50 model, imagenet data")
    assert {item["name"] for item in found["engines"]} >= {"openvino", "onnxruntime", "litert", "torch", "null"}


# The long way


@pytest.mark.heavy
def test_an_overlays_benchmark_runs_the_whole_way_and_again_by_hand(house: Checkout) -> None:
    meridian = Path(__file__).parents[1] / "overlays" / "meridian"
    asked = f"--benchmarks=digit_parity --scenarios=Offline --precision=fp32 {QUICK}"
    house.good("run_harness", asked, ENGINEROOM_PATH=str(meridian))
    folder, result = list(house.results().items())[-1]
    assert (result["benchmark"], result["accuracy"]["good"], result["accuracy"]["total"]) == ("digit_parity", 499, 500)
    assert str(meridian / "configs/default/digit_parity.yaml") in (folder / "run_config.yaml").read_text()
    done = by_hand(folder)
    assert done.returncode == 0, done.stderr
    assert house.result()["benchmark"] == "digit_parity"


@pytest.mark.heavy
def test_a_run_keeps_to_the_cpus_asked_for(house: Checkout) -> None:
    """Each thread of the child, the engine's own too, may run on that CPU only."""
    last = max(os.sched_getaffinity(0))
    longer = QUICK.replace("--min_duration=300 ", "--min_duration=3000 ")
    asked = f"--scenarios=Offline --precision=fp32 --test_mode=PerformanceOnly --cpus={last} {longer}"
    process = house.start("run_harness", asked)
    seen: set[frozenset[int]] = set()
    while process.poll() is None:
        for child in psutil.Process(process.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error, OSError):
                if "engineroom.child" in child.cmdline():
                    threads = child.threads() if child.num_threads() > 2 else []
                    seen |= {frozenset(os.sched_getaffinity(thread.id)) for thread in threads}
        time.sleep(0.05)
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert seen == {frozenset({last})}
    assert house.result()["performance"]["valid"]


@pytest.mark.heavy
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("engine", ["openvino", "onnxruntime", "null", "fixed_delay"])
def test_every_engine_in_every_scenario_at_full_length(house: Checkout, engine: str, precision: str) -> None:
    before = set(house.results())
    done = house.inv("run_harness", f"--engine={engine} --precision={precision} {PATIENT}")
    measures_model = engine in ("openvino", "onnxruntime")
    assert done.code == (0 if measures_model else 1), done.text
    new = [result for path, result in house.results().items() if path not in before]
    replaced = {result["replaces"] for result in new}  # too short, because the machine was slower while it was probed
    new = [result for result in new if result["run"] not in replaced]
    assert len(new) == len(SCENARIOS) * len(MODES)
    for result in new:
        if result["performance"]:
            assert result["performance"]["valid"], result
            assert result["performance"]["min_duration_s"] == 3
        else:
            assert result["accuracy"]["met"] == measures_model
        assert result["counters"]["issued_samples"] == result["counters"]["completed_samples"]


@pytest.mark.heavy
def test_a_plain_call_runs_everything_in_the_best_precision(house: Checkout) -> None:
    before = set(house.results())
    house.good("run", PATIENT)
    new = [result for path, result in house.results().items() if path not in before]
    assert {(result["scenario"], result["test_mode"]) for result in new} == {(s, m) for s in SCENARIOS for m in MODES}
    assert {(result["engine"], result["precision"]) for result in new} == {("openvino", "int8")}


# Helpers


def answers(folder: Path) -> Iterable[tuple[int, str]]:
    """Return (sample index, response in hex) of LoadGen's accuracy log."""
    return [
        (entry["qsl_idx"], entry["data"]) for entry in json.loads((folder / "mlperf_log_accuracy.json").read_text())
    ]


def logged_logits(folder: Path) -> list[tuple[int, npt.NDArray[np.float32]]]:
    """Return (sample index, ten logits) of LoadGen's accuracy log."""
    return [(index, np.frombuffer(bytes.fromhex(data), np.float32)) for index, data in answers(folder)]


def state_of(folder: Path) -> dict[str, tuple[str, int]]:
    """Return the content's hash and the time of change of every file."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns) for path in files}


def raise_target(checkout: Checkout) -> None:
    """Let the benchmark of a copy want more than its network can do."""
    path = checkout.root / "code" / "engineroom" / "benchmarks" / "digits.py"
    text, count = re.subn(r"accuracy_target_ratio = [\d.]+", "accuracy_target_ratio = 1.003", path.read_text())
    assert count == 1
    path.write_text(text)
