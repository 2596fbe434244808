"""The native harness, driven as the parent drives it: a recipe, a child process, LoadGen's logs."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import psutil
import pytest

from engineroom.child import PARENT_VARIABLE, ChildError, read_npy_header

ROOT = Path(__file__).resolve().parents[2]
SCENARIOS = ("SingleStream", "MultiStream", "Server", "Offline")
SAMPLES = 50
# 662: from fewer queries early stopping tells no 99th percentile, and calls the run INVALID.
FAST = {
    "SingleStream": "*.SingleStream.target_latency = 0.1",
    "MultiStream": "*.MultiStream.target_latency = 0.1\n*.MultiStream.min_query_count = 662",
    "Server": "*.Server.target_qps = 4000\n*.Server.target_latency = 2000",
    "Offline": "*.Offline.target_qps = 100000",
}
# An engine of an overlay, as ENGINEROOM_PATH brings them.
ENGINE = """
import time
import numpy as np

def open_session(options, inputs, outputs):
    def infer(arrays):
        x, = arrays
        double, last = 2 * x, x[:, -1, None].astype(np.int8)
        {body}
        return [double, last]
    return infer

ENGINE = None
"""


CHILD = (sys.executable, "-m", "engineroom.child")


def environment(overlay: Path) -> dict[str, str]:
    """Return our environment with what the child imports from."""
    return {**os.environ, "PYTHONPATH": f"{ROOT}/code:{ROOT}/build/lib", "ENGINEROOM_PATH": str(overlay)}


@dataclass
class Run:
    """A recipe under `folder`, which a test may change before it calls `start` or `finish`."""

    folder: Path
    recipe: dict[str, Any]
    user_conf: str
    engine: str | None = None
    arguments: list[str] = field(default_factory=list)
    environ: dict[str, str] = field(default_factory=dict)
    under: list[str] = field(default_factory=list)

    @property
    def run_dir(self) -> Path:
        return self.folder / "run"

    def start(self, **more: Any) -> subprocess.Popen[str]:
        recipe = self.folder / "recipe"
        recipe.mkdir(exist_ok=True)
        self.run_dir.mkdir(exist_ok=True)
        (recipe / "harness.json").write_text(json.dumps(self.recipe))
        (recipe / "user.conf").write_text(self.user_conf)
        if self.engine is not None:
            (self.folder / "engines").mkdir(exist_ok=True)
            (self.folder / "engines" / "mine.py").write_text(self.engine)
        return subprocess.Popen(
            [*self.under, *CHILD, str(recipe / "harness.json"), str(self.run_dir), *self.arguments],
            cwd=self.folder,
            env={**environment(self.folder), **self.environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **more,
        )

    def finish(self, status: int = 0) -> str:
        """Run to the end, check the exit status, return what it wrote to stderr."""
        child = self.start()
        output, errors = child.communicate(timeout=60)
        assert child.returncode == status, errors
        assert output == ""
        assert (self.run_dir / "error.json").exists() == (status != 0)
        return errors

    def fail(self) -> dict[str, Any]:
        """Run to the failure that is expected; return the error record."""
        errors = self.finish(status=3)
        error: dict[str, Any] = json.loads((self.run_dir / "error.json").read_text())
        assert errors.startswith(f"{error['where']}: {error['what']}")
        assert "Traceback" not in errors
        return error

    def log(self) -> dict[str, Any]:
        """LoadGen's detail log: the last value of each key."""
        lines = (self.run_dir / "mlperf_log_detail.txt").read_text().splitlines()
        entries = [json.loads(line.removeprefix(":::MLLOG ")) for line in lines]
        return {entry["key"]: entry["value"] for entry in entries}

    def accuracy(self) -> list[tuple[int, bytes]]:
        entries = json.loads((self.run_dir / "mlperf_log_accuracy.json").read_text())
        return [(entry["qsl_idx"], bytes.fromhex(entry["data"])) for entry in entries]

    def counters(self) -> dict[str, list[int]]:
        content = (self.run_dir / "counters.bin").read_bytes()
        fields = json.loads(content[: content.index(b"\n")])["fields"]
        return {name: list(struct.unpack_from(f"<{count}Q", content, at)) for name, (at, count) in fields.items()}


@pytest.fixture
def samples(tmp_path: Path) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Sample i is three numbers from which i can be told."""
    made = np.arange(3 * SAMPLES, dtype=np.float32).reshape(SAMPLES, 3)
    np.save(tmp_path / "input.npy", made)
    return made


def make_run(folder: Path, scenario: str, engine: str, *, min_duration: int = 200, **changes: Any) -> Run:
    """Return a run on `input.npy`; `engine` is a native engine's name, or a line of a Python engine's code."""
    python = engine not in ("null", "fixed_delay", "openvino", "cuda_null", "tensorrt")
    recipe = {
        "benchmark": "test",
        "scenario": scenario,
        "test_mode": "PerformanceOnly",
        "inputs": [{"name": "x", "dtype": "float32", "shape": [3], "path": str(folder / "input.npy")}],
        "outputs": [
            {"name": "double", "dtype": "float32", "shape": [3]},
            {"name": "last", "dtype": "int8", "shape": [1]},
        ],
        "answer_offset": 0,
        "total_sample_count": SAMPLES,
        "performance_sample_count": 20,
        "user_conf": "user.conf",
        "audit_conf": None,
        "batch_size": 1 if scenario == "SingleStream" else 8,
        "instances": 2,
        "queue_delay_us": 0,
        "cpu_affinity": [],
        "watchdog_s": 20.0,
        "engine": {"name": "mine" if python else engine, "options": {}},
    }
    recipe.update(changes)
    conf = f"{FAST[scenario]}\n*.{scenario}.min_duration = {min_duration}\n"
    return Run(folder, recipe, conf, ENGINE.format(body=engine) if python else None)


@pytest.mark.usefixtures("samples")
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_fast_enough_engine_is_valid_and_counted(tmp_path: Path, scenario: str) -> None:
    run = make_run(tmp_path, scenario, "fixed_delay")
    run.recipe["engine"]["options"] = {"delay_us": "200"}
    run.finish()
    log, counters = run.log(), run.counters()
    assert log["result_validity"] == "VALID"
    assert counters["phase"] == [4]
    assert counters["issued_samples"] == counters["completed_samples"]
    sizes = enumerate(counters["batch_size_histogram"])
    assert counters["completed_samples"] == [sum(size * batches for size, batches in sizes)]
    assert counters["completed_samples"] == [sum(counters["worker_samples"])]
    assert counters["queries_issued"] == [log["result_query_count"]]
    assert counters["issued_fingerprint"] == counters["answered_fingerprint"] != [0]
    content = (run.run_dir / "counters.bin").read_bytes()
    bounds = json.loads(content[: content.index(b"\n")])["duration_bounds_ns"]
    computed = dict(zip(bounds, counters["compute_time_histogram"], strict=True))
    assert sum(computed.values()) == counters["batches"][0]
    assert min(bound for bound, count in computed.items() if count) >= 163_840  # the range that 200 us are in
    queued = sum(counters["queue_time_histogram"])
    assert queued == (counters["completed_samples"][0] if scenario in ("Server", "Offline") else 0)


@pytest.mark.usefixtures("samples")
def test_built_in_rules_apply_and_user_conf_overrides_them(tmp_path: Path) -> None:
    run = make_run(tmp_path, "Offline", "null")
    run.finish()
    log = run.log()
    assert log["effective_qsl_rng_seed"] != 0
    assert log["effective_sample_index_rng_seed"] != 0
    assert log["effective_min_duration_ms"] == 200
    assert log["result_validity"] == "INVALID"  # done long before the minimum duration: LoadGen's word stands
    assert run.counters()["issued_samples"] == [log["generated_samples_per_query"]]


@pytest.mark.usefixtures("samples")
def test_a_server_that_is_too_slow_is_invalid(tmp_path: Path) -> None:
    run = make_run(tmp_path, "Server", "fixed_delay", instances=1)
    run.recipe["engine"]["options"] = {"delay_us": "3000"}
    run.user_conf += "*.Server.target_latency = 1\n"
    run.finish()
    assert run.log()["result_validity"] == "INVALID"


@pytest.mark.usefixtures("samples")
def test_a_queue_delay_fills_batches(tmp_path: Path) -> None:
    mean = {}
    for delay in (0, 5000):
        run = make_run(tmp_path, "Server", "null", queue_delay_us=delay)
        run.finish()
        counters = run.counters()
        mean[delay] = counters["completed_samples"][0] / counters["batches"][0]
    assert mean[5000] > 6 > mean[0]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_sample_is_answered_once_and_rightly(
    tmp_path: Path, scenario: str, samples: np.ndarray[Any, np.dtype[np.float32]]
) -> None:
    check = "assert not x.flags.writeable and not x.flags.owndata and x.shape[1:] == (3,)"
    run = make_run(tmp_path, scenario, check, test_mode="AccuracyOnly")
    run.finish()
    answers = run.accuracy()
    assert set(Counter(index for index, _ in answers)) == set(range(SAMPLES))
    if scenario != "MultiStream":  # there LoadGen itself pads each set of samples to whole queries
        assert len(answers) == SAMPLES
    for index, data in answers:
        assert data == (2 * samples[index]).tobytes() + samples[index, -1:].astype(np.int8).tobytes()


def test_an_offset_is_added_to_every_answer(tmp_path: Path, samples: np.ndarray[Any, np.dtype[np.float32]]) -> None:
    run = make_run(tmp_path, "Offline", "pass", test_mode="AccuracyOnly", answer_offset=-1)
    run.finish()
    for index, data in run.accuracy():
        assert data == (2 * samples[index] - 1).tobytes() + samples[index, -1:].astype(np.int8).tobytes()


def doubling_blob(folder: Path) -> str:
    """Compile a model that doubles batches of 8 samples; return its file."""
    import openvino
    from openvino import opset13

    x = opset13.parameter([8, 3], np.float32, name="x")
    double = opset13.multiply(x, np.float32(2))
    double.output(0).get_tensor().set_names({"double"})
    blob = openvino.Core().compile_model(openvino.Model([double], [x], "test"), "CPU").export_model()
    path = folder / "model.blob"
    path.write_bytes(blob if isinstance(blob, bytes) else blob.getvalue())
    return str(path)


@pytest.mark.parametrize("streams", ["2", "1", "AUTO"])
def test_openvino_answers_partial_batches_and_refuses_another_batch_size(
    streams: str, tmp_path: Path, samples: np.ndarray[Any, np.dtype[np.float32]]
) -> None:
    run = make_run(tmp_path, "Offline", "openvino", test_mode="AccuracyOnly")
    run.recipe["engine"]["options"] = {"blob": doubling_blob(tmp_path), "NUM_STREAMS": streams}
    run.recipe["outputs"] = run.recipe["outputs"][:1]
    run.finish()
    assert sorted(run.accuracy()) == [(index, (2 * samples[index]).tobytes()) for index in range(SAMPLES)]
    assert run.counters()["batch_size_histogram"][2] == 1  # 50 = 6 * 8 + 2, in loads of 20, 20, 10
    run.recipe["batch_size"] = 4
    assert "wants x as float32 [4,3] (batch first), the engine has float32 [8,3]" in run.fail()["what"]
    (tmp_path / "model.blob").write_bytes(b"no blob")
    error = run.fail()
    assert "cannot import" in error["what"]
    assert "make generate_engines" in error["mend"]


@pytest.mark.usefixtures("samples")
@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return [double]", "must return a sequence of 2 arrays, it returned 1"),
        ("return None", "must return a sequence of 2 arrays, it returned a NoneType"),
        ("double = double[:, :2]", "output 0 must be double float32[3] for each of 8 samples, the engine returned"),
        ("double = double.astype('f8')", "the engine returned float64 of shape (8, 3)"),
        ("last = [1]", "the engine returned a list"),
        ("raise ValueError('no luck')", "ValueError: no luck (" + "{folder}/engines/mine.py:9)"),
    ],
)
def test_a_wrong_answer_ends_the_test_with_its_reason(tmp_path: Path, body: str, message: str) -> None:
    run = make_run(tmp_path, "Offline", body)
    error = run.fail()
    assert error["where"] == "engine infer"
    assert message.format(folder=tmp_path) in error["what"]
    assert error["worker"] in (0, 1)


@pytest.mark.usefixtures("samples")
@pytest.mark.parametrize("scenario", ["SingleStream", "Server"])
def test_an_engine_that_never_returns_is_named(tmp_path: Path, scenario: str) -> None:
    body = "infer.calls = getattr(infer, 'calls', 0) + 1; infer.calls > 30 and time.sleep(600)"
    error = make_run(tmp_path, scenario, body, watchdog_s=1.0, instances=1).fail()
    assert error["where"] == "watchdog"
    assert error["worker"] == 0
    assert re.match(r"worker 0 has been inside the engine for \d+\.\d s, since \d\d:\d\d:\d\d UTC", error["what"])


@pytest.mark.usefixtures("samples")
def test_nothing_is_busy_while_a_python_engine_waits(tmp_path: Path) -> None:
    run = make_run(tmp_path, "Offline", "time.sleep(0.05)")
    run.user_conf += "*.Offline.target_qps = 1\n*.Offline.min_query_count = 400\n"
    child = run.start()

    def answered() -> bool:
        return (run.run_dir / "counters.bin").exists() and run.counters()["completed_samples"][0] > 0

    _wait_for(answered)
    process, begin = psutil.Process(child.pid), time.monotonic()
    before = sum(process.cpu_times()[:2])
    time.sleep(0.8)
    share = (sum(process.cpu_times()[:2]) - before) / (time.monotonic() - begin)
    assert child.poll() is None, "the test was over too soon"
    assert share < 0.1, "of one core, by all of its threads"
    assert child.wait(60) == 0


@pytest.mark.usefixtures("samples")
def test_engines_that_do_not_load(tmp_path: Path) -> None:
    run = make_run(tmp_path, "Offline", "pass")
    run.engine = "def open_session(*_):\n    raise RuntimeError('no licence')\nENGINE = None\n"
    assert run.fail()["what"] == "engine mine: RuntimeError: no licence"
    run = make_run(tmp_path, "Offline", "fixed_delay")
    run.recipe["engine"]["options"] = {"delay_ms": "1"}
    assert run.fail()["what"] == "unknown engine option delay_ms"
    run.recipe["engine"] = {"name": "openvino", "options": {"blob": f"{tmp_path}/none.blob"}}
    assert run.fail()["what"] == f"cannot read the engine {tmp_path}/none.blob"


@pytest.mark.usefixtures("samples")
def test_an_engine_that_this_build_has_not_says_why(tmp_path: Path) -> None:
    words = "import engineroom_native, json; print(json.dumps(engineroom_native.native_engines()))"
    listed = subprocess.run([sys.executable, "-c", words], env=environment(tmp_path), capture_output=True, check=True)
    engines: dict[str, str] = json.loads(listed.stdout)
    assert {"null", "openvino", "cuda_null", "tensorrt"} <= engines.keys()
    for name, reason in engines.items():
        if reason:
            run = make_run(tmp_path, "Offline", name)
            error = run.fail()
            assert error["what"] == f"engine {name} was left out of this build: {reason}"
            assert "make build_harness" in error["mend"]


def test_samples_that_do_not_fit_are_refused_before_the_test(
    tmp_path: Path, samples: np.ndarray[Any, np.dtype[np.float32]]
) -> None:
    path = tmp_path / "input.npy"
    run = make_run(tmp_path, "Offline", "null")
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    what = run.fail()["what"]
    assert what == f"{path} is truncated: expected {len(whole)} bytes, it has {len(whole) - 10}"
    np.save(path, samples.astype(np.float64))
    assert "holds samples of float64 [3], the recipe wants float32 [3]" in run.fail()["what"]
    np.save(path, samples[1:])
    assert f"holds {SAMPLES - 1} samples, the recipe wants {SAMPLES}" in run.fail()["what"]
    path.write_bytes(b"PNG")
    assert "is not a .npy file" in run.fail()["what"]
    path.unlink()
    error = run.fail()
    assert error == {**error, "where": "samples", "what": f"cannot read {path}: No such file or directory"}


@pytest.mark.usefixtures("samples")
def test_settings_lying_about_are_not_picked_up(tmp_path: Path) -> None:
    audit = "*.*.mode = 1\n*.*.performance_sample_count_override = 7\n"
    run = make_run(tmp_path, "Offline", "null")
    for folder in (tmp_path, run.run_dir, tmp_path / "recipe"):  # its working directory, where it writes, what it reads
        folder.mkdir(exist_ok=True)
        (folder / "audit.config").write_text(audit)
        (folder / "user.conf").write_text("*.Offline.min_duration = 123\n")
    run.finish()
    assert run.log()["effective_test_mode"] == "PerformanceOnly"
    assert run.log()["effective_performance_sample_count"] == 20
    assert run.log()["effective_min_duration_ms"] == 200
    run.recipe["audit_conf"] = "audit.conf"
    (tmp_path / "recipe/audit.conf").write_text(audit)
    run.finish()
    assert run.log()["effective_test_mode"] == "AccuracyOnly"
    assert run.log()["effective_performance_sample_count"] == 7
    run.recipe["audit_conf"] = "none.conf"
    assert "no audit settings" in run.fail()["what"]


@pytest.mark.usefixtures("samples")
def test_a_user_conf_that_loadgen_refuses_ends_the_run(tmp_path: Path) -> None:
    run = make_run(tmp_path, "Offline", "null")
    run.user_conf = "*.Offline.min_duration = soon\n"
    assert "LoadGen cannot read" in run.fail()["what"]


@pytest.mark.usefixtures("samples")
def test_a_probe_measures_without_loadgen(tmp_path: Path) -> None:
    run = make_run(tmp_path, "Server", "fixed_delay")
    run.recipe["engine"]["options"] = {"delay_us": "1000"}
    run.arguments = ["--probe", "0.3"]
    run.finish()
    result = json.loads((run.run_dir / "probe.json").read_text())
    assert 0 < result["samples_per_second"] <= 2 * 8 * 1000
    assert result["batch_size"] == 1
    assert 1_000_000 <= result["latency_p50_ns"] < 100_000_000
    assert not (run.run_dir / "mlperf_log_detail.txt").exists()


@pytest.mark.usefixtures("samples")
def test_the_child_leaves_interrupts_to_its_parent_and_dies_with_it(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    body = f"open({str(pid_file)!r}, 'w').write(str(__import__('os').getpid())); time.sleep(600)"
    run = make_run(tmp_path, "Offline", body)
    run.start().kill()  # writes the files
    parent = textwrap.dedent(f"""
        import os, subprocess, sys, time
        os.environ[{PARENT_VARIABLE!r}] = str(os.getpid())
        subprocess.Popen(sys.argv[1:])
        time.sleep(600)
    """)
    command = [sys.executable, "-c", parent, *CHILD, str(tmp_path / "recipe/harness.json"), str(run.run_dir)]
    pid_file.unlink(missing_ok=True)
    running = subprocess.Popen(command, env=environment(tmp_path))
    try:
        child = int(_wait_for(lambda: pid_file.exists() and pid_file.read_text()))
        os.kill(child, signal.SIGINT)
        time.sleep(0.2)
        os.kill(child, 0)  # still there
    finally:
        running.kill()
        running.wait()
    _wait_for(lambda: not _alive(child))


def _alive(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rsplit(")", 1)[1].split()[0] not in "ZX"


def _wait_for(condition: Any) -> Any:
    for _ in range(200):
        if value := condition():
            return value
        time.sleep(0.05)
    raise AssertionError("did not happen in 10 s")


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8", "uint8", "int64", "bool"])
def test_npy_headers_are_read_as_numpy_writes_them(tmp_path: Path, dtype: str) -> None:
    path = tmp_path / "a.npy"
    array = np.ones((3, 2, 5), dtype=dtype)
    np.save(path, array)
    header = read_npy_header(path)
    assert (header.dtype, header.shape) == (dtype, (3, 2, 5))
    assert path.read_bytes()[header.offset_bytes :] == array.tobytes()


@pytest.mark.parametrize("array", [np.ones((2, 3), order="F"), np.ones(2, dtype=">f4"), np.ones(2, dtype="c8")])
def test_npy_files_that_cannot_be_mapped_are_refused(tmp_path: Path, array: np.ndarray[Any, Any]) -> None:
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(ChildError, match="is not a .npy file"):
        read_npy_header(tmp_path / "a.npy")


# --- on a GPU ---------------------------------------------------------------------------------------------------------


def _checksum_answer(sample: np.ndarray[Any, np.dtype[np.float32]], answer_bytes: int) -> bytes:
    """What cuda_null answers to a sample of less than 128 bytes: 6 bits each of its checksum, FNV-1a of 64 bits."""
    checksum = 0xCBF29CE484222325
    for byte in sample.tobytes():
        checksum = (checksum ^ byte) * 0x100000001B3 % 2**64
    return bytes(checksum >> 6 * (place % 10) & 0x3F for place in range(answer_bytes))


def _cuda_run(folder: Path, scenario: str, test_mode: str, **options: str) -> Run:
    run = make_run(folder, scenario, "cuda_null", test_mode=test_mode)
    run.recipe["engine"]["options"] = options
    return run


@pytest.mark.gpu
@pytest.mark.parametrize("options", [{}, {"graph_batch_sizes": "1,2,4"}, {"copy_streams": "1", "wait": "block"}])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_gpu_answers_every_sample_rightly(
    tmp_path: Path, scenario: str, options: dict[str, str], samples: np.ndarray[Any, np.dtype[np.float32]]
) -> None:
    if scenario == "SingleStream" and "graph_batch_sizes" in options:
        options = {"graph_batch_sizes": "1"}
    run = _cuda_run(tmp_path, scenario, "AccuracyOnly", **options)
    run.finish()
    answers = run.accuracy()
    assert {index for index, _ in answers} == set(range(SAMPLES))
    for index, data in answers:  # 12 bytes of the first output, then the second one's first
        whole = _checksum_answer(samples[index], 12)
        assert data == whole + whole[:1]


@pytest.mark.gpu
@pytest.mark.usefixtures("samples")
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_gpu_is_valid_in_every_scenario(tmp_path: Path, scenario: str) -> None:
    run = _cuda_run(tmp_path, scenario, "PerformanceOnly")
    if scenario == "Offline":
        run.user_conf += "*.Offline.target_qps = 5000000\n"
    run.finish()
    assert run.log()["result_validity"] == "VALID"


@pytest.mark.gpu
@pytest.mark.usefixtures("samples")
def test_gpus_that_are_not_there_are_named(tmp_path: Path) -> None:
    run = _cuda_run(tmp_path, "Offline", "PerformanceOnly", gpus="99")
    assert "gpus names 99, this process sees" in run.fail()["what"]
    run.environ = {"CUDA_VISIBLE_DEVICES": "no-such-gpu"}
    error = run.fail()
    assert "cudaErrorNoDevice" in error["what"]
    assert "CUDA_VISIBLE_DEVICES='no-such-gpu' names no GPU" in error["mend"]


@pytest.mark.gpu
@pytest.mark.usefixtures("samples")
@pytest.mark.parametrize("tool", ["memcheck", "racecheck", "initcheck"])
def test_compute_sanitizer_finds_nothing(tmp_path: Path, tool: str) -> None:
    sanitizer = shutil.which("compute-sanitizer") or "/usr/local/cuda/bin/compute-sanitizer"
    if not Path(sanitizer).exists():
        pytest.skip("compute-sanitizer, a part of the CUDA toolkit, is neither on PATH nor in /usr/local/cuda/bin")
    run = _cuda_run(tmp_path, "Server", "AccuracyOnly", graph_batch_sizes="1,8")
    run.under = [sanitizer, "--tool", tool, "--error-exitcode", "99", "--target-processes", "all"]
    run.recipe["watchdog_s"] = 60.0
    child = run.start()
    output, errors = child.communicate(timeout=300)
    assert child.returncode == 0, output + errors
    assert "ERROR SUMMARY: 0 errors" in output or "0 hazards displayed" in output


@pytest.mark.gpu
def test_the_harness_costs_a_gpu_little(record_property: Callable[[str, object], None]) -> None:
    from engineroom.bench import cuda

    figures = cuda.measure(3)
    for figure in figures:
        beside = f", {median(figure.peer):.4g} {figure.unit} by {figure.beside}" if figure.peer else ""
        record_property(figure.name, f"{median(figure.ours):.4g} {figure.unit}{beside}")
    missed = [f"{figure.name}: {figure.value:.3f} {figure.unit}" for figure in figures if figure.met is False]
    assert not missed
    assert len([figure for figure in figures if figure.met]) == 5
