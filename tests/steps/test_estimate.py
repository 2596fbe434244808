"""What a step will take: measured before, else by settings and sizes, else a rough default that says it is one."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import examples
import msgspec
import pytest

from engineroom import artifacts
from engineroom.steps import estimate
from engineroom.steps.estimate import RECORDED, ROUGH, SETTINGS, SIZES, Amount, Workload
from engineroom.terms import Scenario, TestMode

CONFIG = examples.config(instances=2, min_duration=3000, min_query_count=24_576, probe_s=0.5)
SETTINGS_OF_ENGINE = {
    "PERFORMANCE_HINT": "THROUGHPUT",
    "INFERENCE_PRECISION_HINT": "f32",
    "NUM_STREAMS": "2",
    "INFERENCE_NUM_THREADS": "2",
}
INPUTS = {"model": "a" * 64, "calibration": "c" * 16, "batch_size": "64", **SETTINGS_OF_ENGINE}
STREAM = {**INPUTS, "PERFORMANCE_HINT": "LATENCY"}
PROBE = estimate.START_S + 0.5
START = estimate.START_S


def _work(expected_rate: float | None = None, **changes: Any) -> Workload:
    config = msgspec.structs.replace(CONFIG, **changes)
    min_duration_s = (config.min_duration or 0) / 1000
    return Workload(config, 500, 40, 128_000, 0, min_duration_s, expected_rate, (1_000_000, 9_000_000))


def _ran(runs: Path, stamp: str, mode: str = "PerformanceOnly", **changes: Any) -> Path:
    """Write the result of an earlier run, as much of it as counts here."""
    scenario = changes.pop("scenario", "Offline")
    folder = runs / f"{stamp}-s-digits-{scenario}-{mode}"
    folder.mkdir(parents=True)
    log = {"effective_min_duration_ms": 3000, "effective_min_query_count": 1, "effective_target_qps": 1300.0}
    result = {
        "system": "s",
        "test_mode": mode,
        "engine": "openvino",
        "precision": "int8",
        "seconds": 4.0,
        "made_from": {**(STREAM if scenario == "SingleStream" else INPUTS), "samples data": "d", "recipe": "r"},
        "counters": {"heartbeat_ns": [1, 2]},
        **changes,
        "loadgen": {**log, **changes.get("loadgen", {})},
    }
    (folder / "result.json").write_text(json.dumps(result))
    return folder


def _seconds(work: Workload, runs: Path) -> Amount:
    inputs = STREAM if work.config.scenario is Scenario.SINGLE_STREAM else INPUTS
    return estimate.testing(work, estimate.earlier(work.config, inputs, runs)).seconds


def _about(least: float, most: float | None, source: str) -> Amount:
    return Amount(pytest.approx(least), None if most is None else pytest.approx(most), source)


def test_the_same_test_takes_what_it_took_before_and_its_probe(tmp_path: Path) -> None:
    _ran(tmp_path, "1", seconds=4.0)
    _ran(tmp_path, "2", seconds=6.0)
    assert _seconds(_work(), tmp_path) == _about(PROBE + 4, PROBE + 6, RECORDED)


@pytest.mark.parametrize(
    "change",
    [
        {"system": "another"},
        {"engine": "onnxruntime"},
        {"precision": "fp32"},
        {"made_from": {}},
        {"made_from": {**INPUTS, "batch_size": "1"}},
        {"made_from": {**INPUTS, "model": "b" * 64}},
        {"made_from": {**INPUTS, "INFERENCE_NUM_THREADS": "1"}},
        {"counters": {"heartbeat_ns": [1]}},
        {"seconds": "soon"},
        {"counters": 3},
    ],
)
def test_a_run_of_something_else_or_a_damaged_result_does_not_count(tmp_path: Path, change: dict[str, Any]) -> None:
    _ran(tmp_path, "1", **change)
    assert estimate.earlier(CONFIG, INPUTS, tmp_path) == []
    assert _seconds(_work(), tmp_path) == _about(PROBE + START + 3, None, SETTINGS)


def test_a_run_on_the_cpu_says_nothing_of_one_with_cuda(tmp_path: Path) -> None:
    config = msgspec.structs.replace(CONFIG, engine="onnxruntime")
    inputs = {"model": INPUTS["model"], "intra_op_num_threads": "1", "inter_op_num_threads": "1"}
    on_cpu, on_gpu = ({**inputs, "execution_provider": provider} for provider in ("cpu", "cuda"))
    _ran(tmp_path, "1", engine="onnxruntime", made_from={**on_cpu, "batch_size": "64"})
    assert len(estimate.earlier(config, on_cpu, tmp_path)) == 1
    assert estimate.earlier(config, on_gpu, tmp_path) == []


def test_a_model_that_is_still_to_be_quantized_is_told_by_its_calibration(tmp_path: Path) -> None:
    _ran(tmp_path, "1")
    unknown = {**INPUTS, "model": artifacts.UNKNOWN}
    assert len(estimate.earlier(CONFIG, unknown, tmp_path)) == 1
    assert estimate.earlier(CONFIG, {**unknown, "calibration": "of another model"}, tmp_path) == []
    again = {**INPUTS, "calibration": "of the same model with a newer library"}
    assert len(estimate.earlier(CONFIG, again, tmp_path)) == 1


def test_only_the_newest_runs_count(tmp_path: Path) -> None:
    _ran(tmp_path, "1", seconds=100.0)
    for number in range(2, 2 + estimate.EARLIER_RUNS):
        _ran(tmp_path, str(number), seconds=4.0)
    assert _seconds(_work(), tmp_path).most == pytest.approx(PROBE + 4)


def test_a_longer_test_takes_what_its_settings_say_at_the_rate_of_before(tmp_path: Path) -> None:
    _ran(tmp_path, "1", loadgen={"result_samples_per_second": 1000.0})
    found = _seconds(_work(min_duration=60_000), tmp_path)
    assert found == _about(PROBE + START + 60, PROBE + START + 90, RECORDED)
    slow = _seconds(_work(min_duration=5_000), tmp_path)  # 24,576 samples at 1,000 a second take longer
    assert slow == _about(PROBE + START + 24.576, PROBE + START + 24.576, RECORDED)


def test_an_expectation_decides_how_many_samples_an_offline_test_has(tmp_path: Path) -> None:
    """LoadGen issues a tenth more than it was told to expect of the least duration."""
    assert _seconds(_work(10_000.0), tmp_path) == _about(START + 3.3, START + 3.3, SETTINGS)
    _ran(tmp_path, "1", loadgen={"result_samples_per_second": 5000.0})
    assert _seconds(_work(10_000.0), tmp_path) == _about(START + 6.6, START + 6.6, RECORDED)


def test_streams_last_at_least_as_long_as_their_queries(tmp_path: Path) -> None:
    stream: dict[str, Any] = {"scenario": Scenario.SINGLE_STREAM}
    assert _seconds(_work(1e4, **stream), tmp_path) == _about(START + 3, None, SETTINGS)
    _ran(tmp_path, "1", scenario="SingleStream", loadgen={"result_mean_latency_ns": 1e6})
    assert _seconds(_work(1e4, **stream), tmp_path) == _about(START + 24.576, START + 24.576, RECORDED)
    assert _seconds(_work(1e4, max_duration=10_000, **stream), tmp_path) == _about(START + 10, START + 10, RECORDED)


def test_server_issues_at_its_target_rate(tmp_path: Path) -> None:
    server: dict[str, Any] = {"scenario": Scenario.SERVER, "min_query_count": 100}
    assert _seconds(_work(500.0, **server), tmp_path) == _about(START + 3, START + 3.3, SETTINGS)
    accuracy = _work(500.0, test_mode=TestMode.ACCURACY_ONLY, **server)
    assert _seconds(accuracy, tmp_path) == _about(START + 1, START + 1.1, SETTINGS)
    both = _work(500.0, test_mode=TestMode.SUBMISSION_RUN, **server)
    assert _seconds(both, tmp_path) == _about(START + 4, START + 4.4, SETTINGS)
    search = _work(500.0, test_mode=TestMode.FIND_PEAK_PERFORMANCE, **server)
    assert _seconds(search, tmp_path) == _about(START + 3, None, SETTINGS)


def test_an_accuracy_test_goes_by_the_rate_of_a_performance_test(tmp_path: Path) -> None:
    accuracy = _work(test_mode=TestMode.ACCURACY_ONLY)
    assert _seconds(accuracy, tmp_path) == _about(START, None, ROUGH)
    _ran(tmp_path, "1", loadgen={"result_samples_per_second": 250.0})
    assert _seconds(accuracy, tmp_path) == _about(START + 2, START + 2, RECORDED)


def test_memory_and_disk_are_what_they_were_before_else_what_sizes_say(tmp_path: Path) -> None:
    cost = estimate.testing(_work(), [])
    batches = 2 * 64 * (128_000 // 500 + 40) * estimate.ACTIVATIONS
    least, most = estimate.HARNESS_BYTES + 1_000_000, estimate.HARNESS_BYTES + 9_000_000 + 128_000 + batches
    assert (cost.memory_bytes, cost.disk_bytes.source) == (Amount(least, most, SIZES), ROUGH)
    folder = _ran(tmp_path, "1")
    telemetry = folder / "telemetry.csv"
    telemetry.write_text("elapsed_s,harness_peak_rss_bytes\n0.1,1600000\n")  # still the shell that starts the harness
    before = estimate.earlier(CONFIG, INPUTS, tmp_path)
    assert estimate.testing(_work(), before).memory_bytes.source == SIZES
    telemetry.write_text("elapsed_s,harness_peak_rss_bytes\n0.1,1600000\n1.1,70000000\n")
    cost = estimate.testing(_work(), before)
    assert cost.memory_bytes == Amount(70_000_000, 70_000_000, RECORDED)
    size = sum(path.stat().st_size for path in folder.iterdir())
    assert cost.disk_bytes == Amount(size, size, RECORDED)


def test_a_huge_batch_may_take_all_memory() -> None:
    most = estimate.testing(_work(batch_size=1 << 24), []).memory_bytes.most
    assert most is not None and most > 2 * (1 << 24) * 256 * 10


def _made(shelf: Path, seconds: float | None, **inputs: str) -> Path:
    folder = shelf / (inputs.get("model") or "key")
    folder.mkdir(parents=True)
    files = {"model": {"bytes": 1000, "mtime_ns": 0, "sha256": ""}}
    manifest = {"inputs": inputs, "files": files, "facts": {}, "seconds": seconds}
    (folder / artifacts.MANIFEST).write_text(json.dumps(manifest))
    return shelf


def test_making_takes_what_it_took_on_the_nearest_shelf(tmp_path: Path) -> None:
    rough = estimate.building(model_bytes=40_000_000)
    assert {rough.seconds.source, rough.disk_bytes.source, rough.memory_bytes.source} == {ROUGH}
    empty, old, other = (tmp_path / name for name in ("empty", "old", "other"))
    assert estimate.as_recorded(rough, [empty], {}) == rough
    _made(other, 2.5)
    found = estimate.as_recorded(rough, [empty, other], {})
    assert found.seconds == Amount(2.5, 2.5, RECORDED)
    assert found.disk_bytes == Amount(1000, 1000, RECORDED)
    _made(old, None)  # of a version that did not record it
    assert estimate.as_recorded(rough, [old], {}).seconds == rough.seconds


def test_what_was_made_of_another_model_or_other_data_says_nothing(tmp_path: Path) -> None:
    rough = estimate.building(model_bytes=40_000_000)
    for seconds, model in enumerate(("of ours", "of a user's"), start=1):
        made = _made(tmp_path, seconds, model=model, data="d", code="1") / model / artifacts.MANIFEST
        os.utime(made, (seconds, seconds))

    def seconds_of(**inputs: str) -> Amount:
        return estimate.as_recorded(rough, [tmp_path], inputs).seconds

    assert seconds_of(model="of ours", data="d", code="2") == Amount(1, 1, RECORDED)
    assert seconds_of(model="of a user's", data="d", code="2") == Amount(2, 2, RECORDED)
    assert seconds_of(model=artifacts.UNKNOWN, data="d") == Amount(2, 2, RECORDED)
    assert seconds_of(model="of somebody else's", data="d") == rough.seconds
    assert seconds_of(model="of ours", data="other data") == rough.seconds
    _made(tmp_path, 3, model="of a hundred", data="d", count="100")
    assert seconds_of(model="of a hundred", data="d", count="500") == rough.seconds


def test_a_download_is_as_large_as_is_known_and_a_registered_file_takes_no_room() -> None:
    assert estimate.fetching(102_000_000).disk_bytes == Amount(102_000_000, 102_000_000, SIZES)
    assert estimate.fetching(102_000_000, about=True).disk_bytes == Amount(102_000_000, 102_000_000, ROUGH)
    assert estimate.fetching(5_000, unpacked=9_000).disk_bytes == Amount(5_000, 14_000, SIZES)
    unknown = estimate.fetching(None, unpacked=9_000)
    assert unknown.seconds.most is unknown.disk_bytes.most is None
    assert estimate.registering(10**9).disk_bytes.most == 0
    assert estimate.registering(None, unpacked=9_000).disk_bytes == Amount(0, 9_000, SIZES)
    assert estimate.registering(None).seconds.most is None


def test_images_take_their_time_one_by_one_whatever_their_list_weighs() -> None:
    """500 images of ImageNet took 4 to 6 s on two cores."""
    images = estimate.preprocessing(images=500, data_bytes=0, array_bytes=301_056_000, cores=2)
    assert 2 < images.seconds.least < 7
    assert images.disk_bytes == Amount(301_056_000, 301_056_000, SIZES)
    table = estimate.preprocessing(images=0, data_bytes=57_523, array_bytes=128_000, cores=2)
    assert table.seconds.least < 1


def test_answers_are_asked_of_a_whole_model_and_take_a_line_each() -> None:
    """500 answers of ResNet-50 took 45 s and 2 kB."""
    answers = estimate.asking(model_bytes=102_484_964, samples=500)
    assert 30 < answers.seconds.least < 70
    assert answers.disk_bytes == Amount(2000, 2000, ROUGH)
    calibrated = estimate.calibrating(model_bytes=102_484_964, samples=500)
    assert calibrated.seconds == answers.seconds
    assert calibrated.disk_bytes.least == 102_484_964


def test_compiling_what_changed_takes_no_longer_than_all() -> None:
    first = estimate.compiling(seconds_before=None, whole=True, cores=4)
    assert first.seconds.source == ROUGH
    again = estimate.compiling(seconds_before=80.0, whole=False, cores=4)
    assert again.seconds == Amount(0, 80.0, RECORDED)


def test_a_sum_is_as_rough_and_as_open_as_its_parts() -> None:
    parts = [Amount(1, 2, RECORDED), Amount(3, 3, ROUGH), estimate.NOTHING]
    assert estimate.total(parts) == Amount(4, 5, ROUGH)
    assert estimate.total([*parts, Amount(1, None, SETTINGS)]) == Amount(5, None, ROUGH)
    assert estimate.highest(parts) == Amount(3, 3, ROUGH)
    assert estimate.total([]) == estimate.NOTHING
    assert sum(part.sure for part in parts) == 1


def test_free_disk_is_that_of_the_nearest_folder(tmp_path: Path) -> None:
    device, free = estimate.disk(tmp_path / "not" / "yet")
    assert device == tmp_path.stat().st_dev
    assert free > 0


def test_free_memory_is_what_is_available_to_this_process(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:       8000000 kB\nMemAvailable:   1000 kB\n")
    assert estimate.free_memory_bytes(1 << 30, meminfo) == 1_024_000
    assert estimate.free_memory_bytes(1 << 10, meminfo) == 1 << 10
    assert estimate.free_memory_bytes(1 << 30, tmp_path / "none") == 1 << 30
