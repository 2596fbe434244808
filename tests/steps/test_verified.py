"""docs/verified.md is data that can be read and added to, and says nothing that was not measured."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from engineroom import systems
from engineroom.actions import verify
from engineroom.detection import Gpu, Machine
from engineroom.detection.machine import GpuDriver
from engineroom.engines.tensorrt import ENGINE as TENSORRT
from engineroom.errors import EngineError, RequestError
from engineroom.paths import ROOT
from engineroom.runs import AccuracyResult, PerformanceResult, Result
from engineroom.steps import verified
from engineroom.steps.compare import Comparison
from engineroom.steps.verified import COLUMNS, NEVER, rows, with_evidence

PAGE = verified.read()
COMPARISON = Comparison(
    benchmark="digits",
    dataset="digits",
    scenario="Offline",
    engine="tensorrt",
    precision="int8",
    batch_size=64,
    reference="ONNX Runtime fp32",
    samples=64,
    agreement=100.0,
    max_error=0.5,
    relative_error=0.125,
    worst=(),
    engine_folder="",
)
RESULT = Result(
    benchmark="digits",
    scenario="Offline",
    test_mode="PerformanceOnly",
    system="s",
    engine="tensorrt",
    precision="int8",
    exit_code=0,
    started="",
    seconds=1.0,
    performance=PerformanceResult(
        metric="throughput", unit="samples/s", value=1234.5, valid=True, min_duration_s=3, samples=9
    ),
    run="build/runs/a-run",
)


def block(machine: Machine, *, good: bool) -> verified.Evidence:
    gpu = Gpu("NVIDIA H200", compute_capability="9.0")
    there = replace(machine, gpus=(gpu,), gpu_driver=GpuDriver("580.65", "13.0"))
    score = AccuracyResult(
        metric="top-1", unit="%", value=98.0, target=97.0, reference=98.5, good=98, total=100, met=True
    )
    scored = msgspec.structs.replace(RESULT, performance=None, accuracy=score)
    failures = [] if good else ["--benchmarks=resnet50: TensorRT cannot build this model"]
    return verify.evidence_of(there, verify.Found([COMPARISON], [RESULT, scored], failures))


def test_the_page_says_of_every_build_whether_it_ran() -> None:
    known = rows(PAGE)
    assert all(len(row) == len(COLUMNS) and all(row) for row in known)
    assert {"openvino", "onnxruntime", "litert", "torch", "tensorrt"} <= {row[0] for row in known}
    for row in known:
        assert ("never run" in row[2]) == (row[3] == NEVER)


def test_the_readme_says_the_same() -> None:
    [row] = [row for row in rows(PAGE) if row[0] == "tensorrt"]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    if row[3] == NEVER:
        assert "TensorRT: compiled, never run" in readme and "TensorRT: compiled, never run" in PAGE
    else:
        assert "compiled, never run" not in readme


def test_a_block_is_added_and_the_row_follows(machine: Machine) -> None:
    text = with_evidence(PAGE, block(machine, good=True))
    [row] = [row for row in rows(text) if row[0] == "tensorrt"]
    assert row[2] == verify.RAN and re.fullmatch(r"\d{4}-\d\d-\d\d", row[3])
    assert [other for other in rows(text) if other[0] != "tensorrt"] == [
        other for other in rows(PAGE) if other[0] != "tensorrt"
    ]
    assert "None so far" not in text
    added = text[text.index("### tensorrt, ") :]
    assert "- GPUs: 1 x NVIDIA H200, compute capability 9.0\n- driver: 580.65, CUDA 13.0\n" in added
    assert "| digits | Offline | int8 | 64 | 100.00% | 0.12 |" in added
    assert "| digits | Offline | int8 | throughput | 1,234.50 samples/s | VALID | a-run |" in added
    assert "| digits | Offline | int8 | top-1 | 98.00 % | met 97.00 | a-run |" in added
    again = with_evidence(text, block(machine, good=False))
    assert again.count("### tensorrt, ") == 2
    assert next(row for row in rows(again) if row[0] == "tensorrt")[2] == verify.IN_PART
    assert "- failed (1): --benchmarks=resnet50: TensorRT cannot build this model\n" in again


def test_a_build_that_is_not_listed_is_refused(machine: Machine) -> None:
    other = msgspec.structs.replace(block(machine, good=True), build="another")
    with pytest.raises(RequestError, match="has no row of the build another"):
        with_evidence(PAGE, other)
    with pytest.raises(RequestError, match="has no table"):
        rows("# Nothing\n")


def test_without_a_gpu_it_says_so(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(systems, "detect", lambda: machine)
    with pytest.raises(RequestError) as caught:
        verify.verify_tensorrt([])
    assert caught.value.what == (
        "TensorRT cannot be verified here: the engine tensorrt needs an NVIDIA GPU: none is here"
    )
    assert caught.value.code == 2


@pytest.fixture
def verifying(machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Let verify_tensorrt run on a machine with a GPU and TensorRT, but build and write nothing; return its page."""
    there = replace(
        machine, gpus=(Gpu("NVIDIA H200", compute_capability="9.0"),), gpu_driver=GpuDriver("580.65", "13.0")
    )
    page = tmp_path / "verified.md"
    page.write_text(PAGE, encoding="utf-8")
    monkeypatch.setattr(systems, "detect", lambda: there)
    monkeypatch.setattr(TENSORRT, "check_installed", lambda: None)
    monkeypatch.setattr(verify.native, "build_harness", lambda: None)
    monkeypatch.setattr(verify, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(verified, "PAGE", page)
    return page


def test_nothing_is_built_for_a_harness_without_tensorrt(verifying: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify.native, "left_out", lambda: {"tensorrt": "there is no NvInfer.h"})
    monkeypatch.setattr(verify, "works", lambda *_, **__: pytest.fail("a plan would be built"))
    with pytest.raises(RequestError, match=r"the harness has no engine tensorrt: there is no NvInfer\.h\n"):
        verify.verify_tensorrt([])
    assert verifying.read_text(encoding="utf-8") == PAGE


def test_a_plan_that_cannot_be_built_costs_no_other_its_block(
    verifying: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def comparisons(request: object, work: str) -> list[Comparison]:
        if "int8" in work:
            raise EngineError("TensorRT cannot build this model: no\nkernel", where="model.onnx")
        return [COMPARISON]

    def run_harness(words: list[str]) -> int:
        folder = verify.RUNS / f"run-{len(ran)}"
        folder.mkdir(parents=True)
        (folder / "result.json").write_bytes(msgspec.json.encode(RESULT))
        ran.append(words)
        return 0

    ran: list[list[str]] = []
    monkeypatch.setattr(verify, "works", lambda words, **_: (None, [" ".join(words)]))
    monkeypatch.setattr(verify.compare, "comparisons", comparisons)
    monkeypatch.setattr(verify.run, "run_harness", run_harness)
    assert verify.verify_tensorrt([]) == 1
    text = verifying.read_text(encoding="utf-8")
    assert len(ran) == 4, "what can be run is run, though it cannot be compared"
    assert next(row for row in rows(text) if row[0] == "tensorrt")[2] == verify.IN_PART
    assert "- failed (1): --benchmarks=digits --engine=tensorrt --precision=int8 --test_run" in text
    assert "model.onnx: TensorRT cannot build this model: no kernel\n" in text
    assert text.count("| digits | Offline | int8 | throughput | 1,234.50 samples/s | VALID |") == 4
    said = capsys.readouterr().out
    assert 'README.md still says "TensorRT: compiled, never run": put there what ran' in said


def test_where_nothing_ran_the_page_says_what_it_said(
    verifying: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def works(words: object, **_: object) -> None:
        raise RequestError("no room on the disk")

    monkeypatch.setattr(verify, "works", works)
    monkeypatch.setattr(verify.run, "works", works)
    assert verify.verify_tensorrt([]) == 1
    text = verifying.read_text(encoding="utf-8")
    assert rows(text) == rows(PAGE)
    assert text.count("no room on the disk") == 8
    assert "wrote a block" in (said := capsys.readouterr().out) and "nothing ran" in said and "README" not in said


TESTS = """
import pytest
@pytest.mark.parametrize("scenario", ["Server", "Offline"])
def test_a_gpu_answers(scenario): pass
@pytest.mark.parametrize("tool", ["memcheck", "racecheck"])
def test_sanitizer(tool): pytest.skip("compute-sanitizer is not here")
def test_cost(record_property):
    record_property("batches of 8", "12.5 us")
    assert "slow" == "quick", "it costs 99 us"
"""


def test_the_tests_of_gpus_leave_a_block(
    verifying: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tests = tmp_path / "test_on_gpus.py"
    tests.write_text(TESTS, encoding="utf-8")

    def run_tests(arguments: list[str]) -> int:
        [report] = [argument for argument in arguments if argument.startswith("--junitxml=")]
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:hypothesispytest"]
        return subprocess.run([*command, report, tests.name], cwd=tmp_path, stdout=subprocess.DEVNULL).returncode

    monkeypatch.setattr(verify.house, "pytest", run_tests)
    monkeypatch.setattr(verify.setup, "install", lambda extra: None)
    monkeypatch.setattr(verify, "BUILD", tmp_path)
    assert verify.test_gpu([]) == 1
    text = verifying.read_text(encoding="utf-8")
    assert next(row for row in rows(text) if row[0] == "cuda_null")[2] == verify.IN_PART
    added = text[text.index("### cuda_null, ") :]
    assert "- tests: 2 passed, 1 failed, 2 skipped\n- failed (1): test_cost: AssertionError: it costs 99 us\n" in added
    assert "- skipped (2): test_sanitizer[racecheck]: compute-sanitizer is not here\n" in added
    assert "| test a gpu answers | 2 |\n" in added and "| batches of 8 | 12.5 us |\n" in added
    assert "- command: make test_gpu\n" in added and "- GPUs: 1 x NVIDIA H200" in added
    tests.write_text(TESTS.partition("def test_cost")[0], encoding="utf-8")
    assert verify.test_gpu([]) == 0
    [row] = [row for row in rows(verifying.read_text(encoding="utf-8")) if row[0] == "cuda_null"]
    assert row[2] == "ran, but 2 tests were skipped"
    before = verifying.read_bytes()
    verify.test_gpu(["-k", "some"])
    assert verifying.read_bytes() == before, "a part of the tests is no evidence"


def test_builds_prints_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert verify.builds([]) == 0
    assert "tensorrt" in (said := capsys.readouterr().out)
    assert "compiled, never run" in said
    assert Path("docs/verified.md").name in said
