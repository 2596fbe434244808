"""What a user meets when something is wrong: what, where, how to mend it, the right exit code, and no traceback.

`Checkout.inv` itself asserts that no output holds a traceback, and that a failure's code is the last line printed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from engineroom.artifacts import key_of

if TYPE_CHECKING:
    from conftest import Checkout, Done

FP32 = "--scenarios=Offline --precision=fp32"
ACCURACY = f"{FP32} --test_mode=AccuracyOnly"
ENGINE = "engines/*/digits/Offline/openvino-fp32"
SAMPLES = "preprocessed_data/digits/digits/evaluation"
MODEL = "code/models/digits/digits.onnx"
DATA = "data_maps/digits/digits.csv.gz"


# The request


@pytest.mark.parametrize(
    ("run_args", "what", "mend"),
    [
        ("--scenario=Offline", "unknown flag --scenario", "did you mean --scenarios?"),
        ("--batch-sise=3", "unknown flag --batch_sise", "did you mean --batch_size?"),
        ("--benchmarks=digit", "unknown benchmark 'digit'", "did you mean digits?"),
        ("--scenarios=offlin", "unknown scenario 'offlin'", "did you mean Offline?"),
        ("--engine=openvno", "--engine: is 'openvno'", "did you mean openvino?"),
        ("--test_mode=Accuracy", "unknown test mode 'Accuracy'", "did you mean AccuracyOnly?"),
        ("--precision=pf16", "--precision: is 'pf16'", "did you mean fp16?"),
        ("--batch_size=0", "--batch_size: is '0'", "must be a whole number >= 1 (samples)"),
        ("--min_duration=", "--min_duration: is ''", "must be a whole number"),
        ("Offline", "'Offline' is no flag", "flags look like --name=value"),
        ("--engine='openvino", "cannot be split into flags", "quotation"),
    ],
)
def test_a_wrong_request_is_refused(house: Checkout, run_args: str, what: str, mend: str) -> None:
    done = refused(house, "run_harness", run_args)
    assert "RUN_ARGS" in done.err and what in done.err and mend in done.err, done.err


@pytest.mark.parametrize(
    ("run_args", "what", "mend"),
    [
        ("--performance_sample_count=501", "performance_sample_count is 501, but digits has 500", "give at most 500"),
        ("--pin_workers --instances=4096", "4096 threads cannot be pinned to the", "lower instances"),
        ("--precision=bf16", "digits has no precision bf16", "it has int8, fp16, fp32"),
    ],
)
def test_what_benchmark_or_machine_cannot_serve_is_refused(
    house: Checkout, run_args: str, what: str, mend: str
) -> None:
    done = refused(house, "run_harness", run_args)
    flag = re.match(r"--\w+", run_args)[0]
    assert f"{flag}: {what}" in done.err and mend in done.err


def test_every_mistake_is_shown_at_once(house: Checkout) -> None:
    done = refused(house, "generate_engines", "--benchmark=x --scenarios=offlin,serv --batch_size=-1 --engine=tensorr")
    for word in ("--benchmark", "offlin", "serv", "batch_size", "tensorrt"):
        assert word in done.err


@pytest.mark.parametrize("task", ["calibrate", "download_data", "preprocess_data", "run", "info", "install", "clean"])
def test_every_task_refuses_an_unknown_flag(house: Checkout, task: str) -> None:
    assert "unknown flag --nonsense" in refused(house, task, "--nonsense=1").err


def test_a_mistake_in_a_settings_file_names_its_line(copy: Checkout) -> None:
    path = copy.root / "configs" / "default" / "digits.yaml"
    path.write_text(path.read_text().replace("batch_size: 64", "batch_sise: 64"))
    line = path.read_text().splitlines().index("  batch_sise: 64 # samples") + 1
    done = refused(copy, "run_harness", FP32)
    assert f"configs/default/digits.yaml:{line}: Offline.batch_sise: unknown field" in done.err
    assert "did you mean batch_size?" in done.err


# Model and data


@pytest.mark.parametrize(
    ("file", "task"),
    [(MODEL, "download_model"), (MODEL, "generate_engines"), (DATA, "download_data"), (DATA, "preprocess_data")],
)
def test_a_file_with_another_checksum_is_named(copy: Checkout, file: str, task: str) -> None:
    path = copy.root / file
    right = sha256(path)
    path.write_bytes(path.read_bytes() + b"\0")
    done = refused(copy, task)
    assert f"{file}: " in done.err and f"its SHA-256 is {sha256(path)}, must be {right}" in done.err
    assert f"git checkout -- {file}" in done.err


@pytest.mark.parametrize(("file", "task"), [(MODEL, "generate_engines"), (DATA, "preprocess_data")])
def test_a_missing_file_is_named(copy: Checkout, file: str, task: str) -> None:
    (copy.root / file).unlink()
    done = refused(copy, task, "--benchmarks=digits")
    assert f"{file}: " in done.err and "is missing" in done.err and f"git checkout -- {file}" in done.err


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("task", "run_args", "library"),
    [
        ("generate_engines", FP32, "OpenVINO"),
        ("calibrate", "", ""),
        ("run_harness", f"{ACCURACY} --engine=onnxruntime", "ONNX Runtime"),
    ],
)
def test_a_corrupt_model_is_named_with_the_librarys_reason(
    copy: Checkout, task: str, run_args: str, library: str
) -> None:
    corrupt_model(copy)
    done = copy.inv(task, run_args)
    assert done.code == 3, done.text
    assert library in done.err and ".onnx" in done.err
    assert lines_of_error(done) <= 3, done.err


def corrupt_model(checkout: Checkout) -> None:
    """Cut the model in two, and let the benchmark expect just that."""
    model = checkout.root / MODEL
    right = sha256(model)
    model.write_bytes(model.read_bytes()[: model.stat().st_size // 2])
    benchmark = checkout.root / "code/engineroom/benchmarks/digits.py"
    assert right in benchmark.read_text()
    benchmark.write_text(benchmark.read_text().replace(right, sha256(model)))


# Samples


@pytest.mark.heavy
def test_cut_off_samples_are_made_again(copy: Checkout) -> None:
    samples = copy.artifact(SAMPLES) / "input.npy"
    whole = samples.read_bytes()
    samples.write_bytes(whole[:-100])
    without = refused(copy, "run_harness", f"{ACCURACY} --no_build")
    assert "input.npy is missing or cut off" in without.err and "leave out --no_build" in without.err
    done = copy.good("run_harness", ACCURACY)
    assert re.search(r"evaluation samples: made \S+ \(input.npy is missing or cut off\)", done.err)
    assert samples.read_bytes() == whole


@pytest.mark.heavy
@pytest.mark.parametrize(("artifact", "name"), [(SAMPLES, "input.npy"), (ENGINE, "model.blob")])
def test_a_changed_file_is_made_again_and_said_so(copy: Checkout, artifact: str, name: str) -> None:
    flip_last_byte(copy.artifact(artifact) / name)
    refusal = unserved(copy, "run_harness", f"{ACCURACY} --no_build")
    assert f"({name} has changed since it was made)" in refusal.err
    assert f"({name} has changed since it was made)" in copy.good("run_harness", ACCURACY).err


@pytest.mark.heavy
@pytest.mark.parametrize(("artifact", "name"), [(SAMPLES, "input.npy"), (ENGINE, "model.blob")])
def test_a_change_that_size_and_time_do_not_show_is_found_before_the_test(
    copy: Checkout, artifact: str, name: str
) -> None:
    path = copy.artifact(artifact) / name
    status = path.stat()
    flip_last_byte(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    done = copy.inv("run_harness", ACCURACY)
    assert done.code == 3
    assert f"{path.relative_to(copy.root)}: is not what was made; it has been removed" in done.err
    copy.good("run_harness", ACCURACY)


@pytest.mark.heavy
@pytest.mark.parametrize("kept", [-100, 40, 0])
def test_samples_that_are_shorter_than_they_say_are_refused_by_the_harness(copy: Checkout, kept: int) -> None:
    folder = copy.artifact(SAMPLES)
    (folder / "input.npy").write_bytes((folder / "input.npy").read_bytes()[:kept])
    adjust_manifest(folder, "input.npy")
    done = copy.inv("run_harness", ACCURACY)
    assert done.code == 3
    assert "input.npy" in done.err and "preprocess_data" in done.err
    assert "FAILED" in done.out and len(copy.partial()) == 1 and not copy.results()


# Engines


@pytest.mark.heavy
def test_an_engine_of_another_openvino_is_built_again_and_said_so(copy: Checkout) -> None:
    ours = copy.artifact(ENGINE)
    manifest = json.loads((ours / "manifest.json").read_text())
    version = manifest["inputs"]["openvino"]
    manifest["inputs"]["openvino"] = "2026.3.0"
    (ours / "manifest.json").write_text(json.dumps(manifest))
    ours.rename(ours.with_name(key_of(manifest["inputs"])))
    refusal = unserved(copy, "run_harness", f"{ACCURACY} --no_build")
    assert f"(openvino: 2026.3.0 -> {version})" in refusal.err
    done = copy.good("run_harness", ACCURACY)
    assert f"engine in fp32: made {ours.relative_to(copy.root)} (openvino: 2026.3.0 -> {version})" in done.err


def test_a_blob_that_openvino_cannot_read_gives_openvinos_reason(copy: Checkout) -> None:
    folder = copy.artifact(ENGINE)
    blob = folder / "model.blob"
    blob.write_bytes(bytes(byte ^ 0x55 for byte in blob.read_bytes()))
    adjust_manifest(folder, "model.blob")
    done = copy.inv("run_harness", ACCURACY)
    assert done.code == 3
    assert re.search(r"engine load: OpenVINO \S+ cannot import \S+/model.blob: \S+", done.err), done.err
    assert "make generate_engines" in done.err
    assert lines_of_error(done) <= 3, done.err


@pytest.mark.heavy
def test_one_engine_that_fails_does_not_stop_the_others(copy: Checkout) -> None:
    folder = copy.artifact(ENGINE)
    (folder / "model.blob").write_bytes(b"no blob")
    adjust_manifest(folder, "model.blob")
    done = copy.inv("run_harness", "--scenarios=Offline,Server --precision=fp32 --test_mode=AccuracyOnly")
    assert done.code == 3
    rows = [line for line in done.out.splitlines() if line.startswith("digits  ")]
    assert ["FAILED" in row for row in rows] == [True, False] and "met" in rows[1]


# Folders that cannot be written


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("folder", "task", "run_args"),
    [
        ("build/runs", "run_harness", ACCURACY),
        ("build", "run_harness", ACCURACY),
        (f"build/{SAMPLES}", "preprocess_data", "--force"),
        ("build/calibration/digits", "calibrate", "--force"),
        ("build/engines", "generate_engines", "--scenarios=Server --precision=fp32"),
    ],
)
def test_a_closed_folder_is_named_with_its_owner_and_the_command_that_opens_it(
    copy: Checkout, folder: str, task: str, run_args: str
) -> None:
    if folder == "build/runs":
        copy.runs.mkdir()
    closed = copy.root / folder
    closed.chmod(0o555)
    if folder == "build/engines":  # a scenario that has no shelf yet
        for path in (*closed.glob("*"), *closed.glob("*/*")):
            path.chmod(0o555)
    done = copy.inv(task, run_args, unprivileged=True)
    assert done.code == 2, done.text
    command = re.search(r"mend it with: (.+)", done.err)[1]
    named = Path(command.split()[-1])
    user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
    assert f"user {user} cannot write here; {named} belongs to {user}" in done.err
    assert named == closed or closed in named.parents and folder == "build/engines"
    assert "777" not in command
    subprocess.run(command, shell=True, check=True)
    assert copy.inv(task, run_args, unprivileged=True).code == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to somebody else")
def test_a_folder_of_somebody_else_is_named_with_its_owner(copy: Checkout) -> None:
    copy.runs.mkdir()
    os.chown(copy.runs, 65534, 65534)
    done = copy.inv("run_harness", ACCURACY, unprivileged=True)
    assert done.code == 2
    assert f"build/runs: user root cannot write here; {copy.runs} belongs to nobody" in done.err
    command = re.search(r"mend it with: sudo (.+)", done.err)[1]
    assert command == f"chown -R root {copy.runs}"
    subprocess.run(command, shell=True, check=True)
    assert copy.inv("run_harness", ACCURACY, unprivileged=True).code == 0


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("folder", "task"), [("build/runs", "run_harness"), ("build/calibration", "calibrate"), ("build/engines", "run")]
)
def test_a_file_in_place_of_a_folder_is_named(copy: Checkout, folder: str, task: str) -> None:
    path = copy.root / folder
    if path.exists():
        path.rename(path.with_name("aside"))
    path.write_text("")
    done = unserved(copy, task, "" if task == "calibrate" else ACCURACY)
    assert f"{path} is in the way: it is no folder" in done.err
    assert "move it away or remove it" in done.err
    path.unlink()
    copy.good(task, "" if task == "calibrate" else ACCURACY)


def test_a_missing_data_folder_is_no_reason_for_a_traceback(copy: Checkout) -> None:
    for path in (copy.root / "data_maps" / "digits").iterdir():
        path.unlink()
    assert "data_maps/digits/dataset.yaml" in refused(copy, "run_harness", ACCURACY).err


# Helpers


def refused(checkout: Checkout, task: str, run_args: str = "") -> Done:
    """Run a task that cannot be served at all: exit code 2, nothing on stdout, and no run begun."""
    done = unserved(checkout, task, run_args)
    assert done.err.startswith("error: ") or "\nerror: " in done.err
    assert done.out == ""
    return done


def unserved(checkout: Checkout, task: str, run_args: str = "") -> Done:
    """Run a task, or one row of its table, that cannot be served: exit code 2, and no run begun."""
    done = checkout.inv(task, run_args)
    assert done.code == 2, done.text
    assert not checkout.partial()
    return done


def lines_of_error(done: Done) -> int:
    """Return how many lines the first error takes on the screen."""
    begin = re.search(r"^error: |^digits \w+ failed: ", done.err, re.MULTILINE).start()
    return len(done.err[begin : done.err.index("exit code", begin)].strip().splitlines())


def sha256(path: Path) -> str:
    """Return a file's SHA-256."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def flip_last_byte(path: Path) -> None:
    """Change one bit of a file, not its size."""
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


def adjust_manifest(folder: Path, name: str) -> None:
    """Let an artifact's manifest agree with what became of its file `name`."""
    manifest = json.loads((folder / "manifest.json").read_text())
    path = folder / name
    status = path.stat()
    manifest["files"][name] = {"bytes": status.st_size, "mtime_ns": status.st_mtime_ns, "sha256": sha256(path)}
    (folder / "manifest.json").write_text(json.dumps(manifest))
