"""The quick start's data, model and scoring are what its files say they are."""

from __future__ import annotations

import csv
import gzip
import runpy
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from engineroom.benchmarks import Accuracy, Part
from engineroom.benchmarks.digits import BENCHMARK, MODEL, Digits
from engineroom.datasets import Dataset
from engineroom.errors import EngineError, RequestError
from engineroom.paths import CODE, ROOT, sha256_file

DATASET = Dataset("digits")
SCRIPTS = CODE / "models" / "digits"
PARTS = (Part.TRAINING, Part.CALIBRATION, Part.EVALUATION)


@cache
def rows() -> list[list[int]]:
    """Return the rows of the CSV file, read independently of the benchmark's own reader."""
    with gzip.open(DATASET.folder / "digits.csv.gz", "rt", newline="") as file:
        return [[int(value) for value in row] for row in csv.reader(file)]


def rows_of(part: Part) -> list[int]:
    """Return the row numbers that a part's map names."""
    return [int(sample.file.removeprefix("digits.csv.gz#")) for sample in DATASET.samples(part)]


def samples_of(part: Part) -> dict[str, Any]:
    """Return all samples of a part, as the model takes them."""
    return BENCHMARK.preprocess(part, 0, BENCHMARK.sample_count(part))


def response(digit: int) -> bytes:
    """Return a response that names `digit`."""
    return bytes(np.eye(10, dtype=np.float32)[digit].tobytes())


def score(responses: Iterable[tuple[int, bytes]]) -> Accuracy:
    """Return the score of responses to the evaluation part."""
    return BENCHMARK.score(BENCHMARK.answers(responses, 500), BENCHMARK.labels())


def answers(wrong: int = 0) -> list[tuple[int, bytes]]:
    """Return a whole set of responses, the first `wrong` of which name another class."""
    labels = [rows()[row][-1] for row in rows_of(Part.EVALUATION)]
    return [(index, response((label + (index < wrong)) % 10)) for index, label in enumerate(labels)]


def fp32_logits(part: Part) -> npt.NDArray[np.float32]:
    """Return ONNX Runtime's logits of the shipped float model."""
    import onnxruntime

    session = onnxruntime.InferenceSession(MODEL)
    logits: npt.NDArray[np.float32] = session.run(["logits"], samples_of(part))[0]
    return logits


def test_the_maps_are_what_the_script_makes() -> None:
    split: dict[str, Any] = runpy.run_path(str(SCRIPTS / "split.py"))
    assert {path: path.read_text() for path in split["maps"](DATASET)} == split["maps"](DATASET)


def test_the_parts_are_disjoint_and_take_every_row_once() -> None:
    parts = [rows_of(part) for part in PARTS]
    assert [len(part) for part in parts] == [1097, 200, 500]
    assert sorted(row for part in parts for row in part) == list(range(1797))


@pytest.mark.parametrize("part", PARTS)
def test_the_labels_are_the_files_last_column(part: Part) -> None:
    assert DATASET.labels(part) == [rows()[row][-1] for row in rows_of(part)]


@pytest.mark.parametrize("part", PARTS)
def test_every_part_has_the_classes_in_the_proportion_of_the_whole(part: Part) -> None:
    whole, here = Counter(row[-1] for row in rows()), Counter(DATASET.labels(part))
    for digit in range(10):
        assert abs(here[digit] - whole[digit] * BENCHMARK.sample_count(part) / len(rows())) < 2


def test_no_image_is_in_two_parts() -> None:
    images = {part: {tuple(rows()[row][:-1]) for row in rows_of(part)} for part in PARTS}
    assert sum(len(part) for part in images.values()) == len(set.union(*images.values()))


def test_the_files_have_their_checksums_and_sizes() -> None:
    for path, sha256 in [*BENCHMARK.data_files().items(), BENCHMARK.model_file()]:
        assert sha256_file(path) == sha256, path
    [(name, file)] = DATASET.manifest.files.items()
    assert (DATASET.folder / name).stat().st_size == file.bytes


def test_the_authors_are_named_beside_the_data() -> None:
    licence = DATASET.manifest.licence
    readme = " ".join((DATASET.folder / "README.md").read_text().replace("\n> ", " ").split())
    assert licence.name == "CC BY 4.0"
    assert licence.attribution in readme and licence.url in readme


@pytest.mark.parametrize("part", PARTS)
def test_samples_are_the_pixels_over_sixteen(part: Part) -> None:
    images = samples_of(part)["input"]
    expected = [[pixel / 16 for pixel in rows()[row][:-1]] for row in rows_of(part)]
    assert images.dtype == np.float32 and images.flags.c_contiguous
    assert images.shape == (BENCHMARK.sample_count(part), 1, 8, 8)
    assert images.reshape(-1, 64).tolist() == expected  # sixteenths are exact in float32


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (gzip.compress(b"1,2\n" * 9)[:-12], "cannot be read"),
        (b"not gzip", "cannot be read"),
        (gzip.compress(b"0,x\n"), "cannot be read"),
        (gzip.compress(b"0,1\n0,1\n"), "not rows of 64 pixels"),
        (gzip.compress(b",".join([b"17"] * 65) + b"\n"), "not rows of 64 pixels"),
        (gzip.compress(b",".join([b"3"] * 65) + b"\n"), "this file has rows 0 to 0"),
    ],
    ids=["cut off", "not gzip", "not numbers", "too few columns", "too bright", "too few rows"],
)
def test_a_damaged_data_file_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, said: str
) -> None:
    shutil.copytree(DATASET.folder, tmp_path / "digits")
    (tmp_path / "digits" / "digits.csv.gz").write_bytes(content)
    monkeypatch.setattr("engineroom.datasets.DATA_MAPS", tmp_path)
    monkeypatch.setattr("engineroom.benchmarks._classification._dataset", Dataset)
    with pytest.raises(RequestError) as caught:
        Digits().preprocess(Part.TRAINING, 0, 1)
    assert str(caught.value).startswith(f"{tmp_path}/digits/digits.csv.gz: ") and said in str(caught.value)


@pytest.mark.parametrize(("wrong", "value"), [(0, 100.0), (1, 99.8), (250, 50.0), (500, 0.0)])
def test_accuracy_counts_the_right_answers(wrong: int, value: float) -> None:
    accuracy = score(reversed(answers(wrong)))
    assert (accuracy.value, accuracy.good, accuracy.total, accuracy.unit) == (value, 500 - wrong, 500, "%")


def test_a_padded_query_may_ask_twice() -> None:
    assert score([*answers(), *answers()[:4]]).good == 500


def not_finite(value: float) -> bytes:
    """Return a response whose last logit is `value`."""
    return np.append(np.zeros(9, np.float32), np.float32(value)).tobytes()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda given: given[:-2], "2 of 500 samples were never answered, first sample 498"),
        (lambda given: [], "500 of 500 samples were never answered"),
        (lambda given: [*given, (3, response(0)), (3, response(1))], "sample 3 was answered twice, as"),
        (lambda given: [*given[1:], (0, b"")], r"sample 0 has 0 bytes instead of 10 float32 \(40 bytes\)"),
        (lambda given: [*given[1:], (0, bytes(44))], "sample 0 has 44 bytes"),
        (lambda given: [*given, (500, response(0))], "sample 500, but the evaluation part has 500"),
        (lambda given: [*given, (-1, response(0))], "sample -1"),
        (
            lambda given: [*given[1:], (0, not_finite(np.nan))],
            "1 of 500 samples hold NaN or an infinity, first sample 0",
        ),
        (lambda given: [*given[:-2], (498, not_finite(np.inf)), (499, not_finite(np.nan))], "2 of 500 .* sample 498"),
    ],
)
def test_an_incomplete_or_malformed_log_is_refused(spoil: Any, said: str) -> None:
    with pytest.raises(EngineError, match=said):
        score(spoil(answers()))


def test_the_reference_accuracy_is_what_onnxruntime_measures() -> None:
    logits = fp32_logits(Part.EVALUATION)
    measured = score((index, row.tobytes()) for index, row in enumerate(logits))
    assert measured.value == BENCHMARK.reference_accuracy >= 98.0
    assert BENCHMARK.accuracy_target == pytest.approx(0.99 * measured.value)


def test_the_readme_beside_the_model_has_its_figures() -> None:
    readme = (SCRIPTS / "README.md").read_text()
    assert BENCHMARK.model_file()[1] in readme
    assert f"{BENCHMARK.reference_accuracy}% top-1 on the evaluation part" in readme


def test_openvino_predicts_the_same_in_fp32() -> None:
    import openvino

    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(MODEL, "CPU", settings)
    logits = fp32_logits(Part.EVALUATION)
    others = compiled(samples_of(Part.EVALUATION)["input"])[0]
    assert (others.argmax(1) == logits.argmax(1)).all()
    np.testing.assert_allclose(others, logits, atol=1e-4)


def test_the_model_is_plain_and_takes_any_batch() -> None:
    import onnx

    model = onnx.load(MODEL)
    [given], [made] = model.graph.input, model.graph.output
    shapes = [[axis.dim_param or axis.dim_value for axis in info.type.tensor_type.shape.dim] for info in (given, made)]
    assert (given.name, made.name, shapes) == ("input", "logits", [["N", 1, 8, 8], ["N", 10]])
    assert model.opset_import[0].version >= 17
    assert {node.op_type for node in model.graph.node} == {"Add", "Conv", "Flatten", "Gemm", "MaxPool", "Relu"}
    assert MODEL.stat().st_size < 300_000


def test_asking_for_the_benchmark_loads_no_heavy_library() -> None:
    script = (
        "import sys\n"
        "from engineroom.benchmarks.digits import BENCHMARK\n"
        "BENCHMARK.model_file(), BENCHMARK.data_files(), BENCHMARK.accuracy_target\n"
        "print(*sorted(sys.modules.keys() & {'numpy', 'onnx', 'onnxruntime', 'openvino', 'jinja2', 'rich'}))"
    )
    said = subprocess.run([sys.executable, "-c", script], cwd=CODE, capture_output=True, text=True, check=True)
    assert said.stdout.strip() == ""


@pytest.mark.heavy
def test_training_again_gives_as_good_a_network(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="needs the extra `train`")
    import onnxruntime

    script = [sys.executable, str(SCRIPTS / "train.py"), "--output", str(tmp_path / "again.onnx")]
    subprocess.run(script, cwd=ROOT, env={"PYTHONPATH": str(CODE)}, check=True)
    session = onnxruntime.InferenceSession(tmp_path / "again.onnx")
    logits = session.run(None, samples_of(Part.EVALUATION))[0]
    assert score((index, row.tobytes()) for index, row in enumerate(logits)).value >= 98.0
