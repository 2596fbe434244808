"""ResNet-50 and the MobileNets on ImageNet: which model and data a variant is, and how its answers are scored."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from engineroom import registry
from engineroom.benchmarks import Benchmark, Part
from engineroom.benchmarks._classification import ImageClassification
from engineroom.benchmarks.digits import BENCHMARK as DIGITS
from engineroom.engines import BuildRequest
from engineroom.errors import EngineError, RequestError
from engineroom.images import preprocess as images
from engineroom.paths import CODE, MODELS
from engineroom.sources import UNPUBLISHED
from engineroom.terms import Precision, Scenario, TensorSpec, Weights

Arrays = npt.NDArray[Any]

MOBILENETS = ("mobilenet-v2", "mobilenet-v3-large-minimalistic", "mobilenet-v3-large-minimalistic-uint8")
NAMES = ("resnet50", *MOBILENETS)
EACH = pytest.mark.parametrize("name", NAMES)


def benchmark_of(name: str) -> ImageClassification:
    """Return a benchmark as the registry finds it."""
    found: ImageClassification = registry.get("benchmarks", name).load().BENCHMARK
    return found


def variant_of(name: str, dataset: str, weights: Weights = Weights.REFERENCE) -> Benchmark:
    """Return a benchmark on a data set."""
    return benchmark_of(name).variant(dataset, weights)


# Keys


@pytest.mark.parametrize("name", [*NAMES, "resnet50-torch-int8", "digits"])
def test_samples_and_scores_are_keyed_by_the_code_that_makes_them(name: str) -> None:
    """A benchmark of an overlay that is one of ours inherits this: the registry knows only its own file then."""
    ours = {
        "digits": {"digits.py"},
        "resnet50": {"resnet50.py", "preprocess.py", "jpeg.py"},
        "resnet50-torch-int8": {"resnet50-torch-int8.py", "preprocess.py", "jpeg.py"},
    }.get(name, {"_mobilenet.py", "preprocess.py", "jpeg.py"})
    sources = registry.get("benchmarks", name).load().BENCHMARK.sources
    assert {path.name for path in sources} == {"_classification.py", *ours}
    assert all(path.is_file() for path in sources)


def test_a_drawn_torch_model_is_keyed_by_what_reads_its_onnx_file() -> None:
    made = benchmark_of("resnet50-torch-int8").synthetic
    assert made and {"from_onnx.py", "qdq.py"} <= {path.name for path in made.sources}


@pytest.mark.parametrize("name", ["resnet50", "resnet50-torch-int8"])
def test_the_size_of_a_model_is_nearly_known_before_it_is_here(name: str) -> None:
    """Of the same tensors as the drawn one."""
    benchmark = benchmark_of(name)
    assert benchmark.model_source and benchmark.synthetic
    assert benchmark.model_source.bytes is None, "nothing is held to it"
    assert benchmark.model_source.likely_bytes == benchmark.synthetic.bytes


# Variants


@pytest.mark.parametrize(
    ("name", "top_1"),
    [
        # mlcommons/inference, vision/classification_and_detection; tensorflow/models, research/slim/nets/mobilenet
        ("resnet50", 76.456),
        ("mobilenet-v2", 71.8),
        ("mobilenet-v3-large-minimalistic", 72.3),
        ("mobilenet-v3-large-minimalistic-uint8", 71.3),
    ],
)
def test_imagenet_is_scored_against_the_published_accuracy(name: str, top_1: float) -> None:
    benchmark = variant_of(name, "auto")
    assert (benchmark.dataset, benchmark.sample_count(Part.EVALUATION)) == ("imagenet", 50_000)
    assert benchmark.reference_accuracy == top_1
    assert benchmark.accuracy_target == pytest.approx(0.99 * top_1)
    assert benchmark.scenarios == tuple(Scenario)
    assert not benchmark.notes and not benchmark.judged_by_float and benchmark.made_model is None


def test_only_resnet50_is_mlperfs_and_keeps_1024_samples_in_memory() -> None:
    assert [name for name in NAMES if benchmark_of(name).mlperf] == ["resnet50"]
    counts = {name: benchmark_of(name).performance_sample_count for name in NAMES}
    assert counts == {"resnet50": 1024, **dict.fromkeys(MOBILENETS)}


@EACH
def test_the_reduced_set_says_what_it_is(name: str) -> None:
    benchmark = variant_of(name, "ImageNet-500")
    assert (benchmark.dataset, benchmark.sample_count(Part.EVALUATION)) == ("imagenet-500", 500)
    assert benchmark.notes == ("The data set imagenet-500 is not the benchmark's own: not submittable.",)
    assert benchmark.for_calibration().dataset == "imagenet"


def test_resnet50s_accuracy_on_the_reduced_set_is_known() -> None:
    assert variant_of("resnet50", "imagenet-500").reference_accuracy == 100 * 380 / 500


def test_on_a_few_images_chance_is_allowed_for_where_nobody_published_their_accuracy() -> None:
    """Of 500 images, 71.8 % have a deviation of 2.01 points: sqrt(0.718 * 0.282 / 500)."""
    few = variant_of("mobilenet-v2", "imagenet-500")
    assert few.reference_accuracy == 71.8
    assert few.accuracy_target == pytest.approx(0.99 * 71.8 - 3 * 2.0123, abs=1e-3)


def test_a_model_that_came_quantized_has_no_target_where_only_its_float_twin_says_what_is_right() -> None:
    assert (
        variant_of("mobilenet-v3-large-minimalistic-uint8", "imagenet-synthetic", Weights.SYNTHETIC).accuracy_target
        == 0
    )
    assert variant_of("mobilenet-v2", "imagenet-synthetic", Weights.SYNTHETIC).accuracy_target == 99


@EACH
@pytest.mark.parametrize(
    ("dataset", "weights", "note"),
    [
        ("imagenet", Weights.SYNTHETIC, "synthetic weights: "),
        ("imagenet-synthetic", Weights.SYNTHETIC, "synthetic weights: "),
        ("imagenet-synthetic", Weights.REFERENCE, "The labels of drawn images mean nothing"),
    ],
)
def test_where_labels_mean_nothing_the_float_model_is_right(
    name: str, dataset: str, weights: Weights, note: str
) -> None:
    benchmark = variant_of(name, dataset, weights)
    assert benchmark.judged_by_float and benchmark.reference_accuracy == 100
    assert benchmark.notes[0].startswith(note)
    assert "not submittable" in " ".join(benchmark.notes).lower()
    assert len(benchmark.notes) == 1 + (dataset != "imagenet")
    assert not benchmark_of(name).notes, "the benchmark itself is as it was"


@EACH
def test_a_model_lies_in_a_folder_of_the_benchmarks_own(name: str) -> None:
    reference, synthetic = (variant_of(name, "auto", weights) for weights in Weights)
    paths = [reference.model_file()[0], synthetic.model_file()[0]]
    paths += [synthetic.twin.path] if synthetic.twin else []
    assert {path.parent for path in paths} == {MODELS / name} and len(set(paths)) == len(paths)
    assert reference.model_file()[1] == synthetic.model_file()[1] == UNPUBLISHED
    suffix = ".onnx" if name == "resnet50" else ".tflite"
    assert {path.suffix for path in paths[:2]} == {suffix}
    made = synthetic.twin or synthetic.made_model
    assert made and made.path.suffix == ".onnx", "ONNX Runtime says what is right"


@pytest.mark.parametrize("name", MOBILENETS)
def test_a_mobilenet_runs_on_the_engine_that_takes_its_file(name: str) -> None:
    benchmark = benchmark_of(name)
    engine = registry.get("engines", str(benchmark.settings["common"]["engine"])).load().ENGINE
    assert benchmark.model_file()[0].suffix in engine.formats
    assert set(benchmark.precisions) <= set(engine.precisions)
    assert benchmark.came_quantized == name.endswith("uint8") == (benchmark.quantization is not None)


@pytest.mark.parametrize(
    ("name", "dataset", "mend"),
    [
        ("resnet50", "imagenet500", "did you mean imagenet-500?"),
        ("mobilenet-v2", "digits", "known: imagenet, imagenet-500, imagenet-synthetic"),
        ("digits", "imagenet", "known: digits"),
    ],
)
def test_a_data_set_that_a_benchmark_has_not_is_told_with_those_it_has(name: str, dataset: str, mend: str) -> None:
    with pytest.raises(RequestError) as caught:
        registry.get("benchmarks", name).load().BENCHMARK.variant(dataset, Weights.REFERENCE)
    assert str(caught.value) == f"dataset: {name} has no data set '{dataset}'\n  {mend}"


def test_weights_that_a_benchmark_has_not_are_told() -> None:
    with pytest.raises(RequestError, match="weights: digits has no synthetic weights"):
        DIGITS.variant("auto", Weights.SYNTHETIC)


def test_a_model_of_ones_own_has_its_own_weights() -> None:
    with pytest.raises(RequestError, match="weights: a model of your own has its own weights"):
        benchmark_of("resnet50").variant("auto", Weights.SYNTHETIC, Path("model.onnx"))
    with pytest.raises(RequestError, match="model_path: digits cannot run another model"):
        DIGITS.variant("auto", Weights.REFERENCE, Path("model.onnx"))


@EACH
def test_a_process_of_its_own_gets_the_benchmark_by_pickle(name: str) -> None:
    """A file whose name has hyphens is no word of Python, but a module all the same."""
    script = "import pickle, sys; it = pickle.load(sys.stdin.buffer); print(it.name, it.dataset, it.notes[0][:17])"
    pickled = pickle.dumps(variant_of(name, "imagenet-500", Weights.SYNTHETIC))
    done = subprocess.run([sys.executable, "-c", script], cwd=CODE, input=pickled, capture_output=True, check=True)
    assert done.stdout.decode().strip() == f"{name} imagenet-500 synthetic weights"


# Inputs


def jpeg(folder: Path) -> Path:
    """Write a photograph's like: colours that vary, 320 x 256."""
    cv2 = pytest.importorskip("cv2", reason="needs the extra imagenet")
    y, x = np.mgrid[0:256, 0:320]
    image = np.stack([x * 0.8, y, (x + y) * 0.4], axis=2).clip(0, 255).astype(np.uint8)
    path = folder / "image.jpg"
    assert cv2.imwrite(str(path), image)
    return path


@pytest.mark.parametrize("name", MOBILENETS)
def test_mobilenets_take_pixels_from_minus_one_to_one(name: str, tmp_path: Path) -> None:
    benchmark, path = benchmark_of(name), jpeg(tmp_path)
    [spec] = benchmark.inputs
    found = images.prepare([path], benchmark.recipe, spec, benchmark.quantization)
    cropped = images.crop(images.read(path), images.Resize.LINEAR, 224).astype(np.float64)
    assert found.shape == (1, 224, 224, 3) and found.dtype == spec.dtype
    half_step = 0.5 / 127 if benchmark.quantization else 1e-6
    assert np.abs(benchmark.float_input(found)[0] - (cropped / 127.5 - 1)).max() <= half_step + 1e-6


# Answers


def classes_of(name: str, outputs: list[Any], dtype: str) -> list[int]:
    """Return the labels that outputs name, which are rows of scores or classes."""
    return benchmark_of(name).classes_of(np.array(outputs, dtype))


@pytest.mark.parametrize("dtype", ["int64", "int32", "float32"])
def test_a_class_in_any_type_is_a_label_behind_the_background(dtype: str) -> None:
    assert classes_of("resnet50", [0, 1, 1000], dtype) == [-1, 0, 999]
    assert classes_of("resnet50", [[0], [1], [1000]], dtype) == [-1, 0, 999]


@pytest.mark.parametrize("dtype", ["float32", "uint8", "int8"])
@pytest.mark.parametrize("name", MOBILENETS)
def test_the_highest_score_names_the_label_and_the_first_of_equals(name: str, dtype: str) -> None:
    scores = np.zeros((4, 1001), dtype)
    scores[1, 1] = scores[2, 1000] = 100
    scores[3, 7:10] = 100
    assert benchmark_of(name).classes_of(scores) == [-1, 0, 999, 6]


@pytest.mark.parametrize("dtype", ["int64", "int32", "float32", "uint8"])
def test_of_a_thousand_classes_none_is_the_background(dtype: str) -> None:
    benchmark = variant_of("resnet50", "auto")
    benchmark.classes = 1000  # type: ignore[attr-defined]
    named = 255 if dtype == "uint8" else 999
    assert benchmark.classes_of(np.array([0, named], dtype)) == [0, named]
    scores = np.zeros((1, 1000), dtype)
    scores[0, 999] = 3
    assert benchmark.classes_of(scores) == [999]


@pytest.mark.parametrize(
    ("outputs", "dtype", "said"),
    [
        ([1001], "int64", "names the class 1001; there are 1001"),
        ([5, -1], "int64", "names the class -1; there are 1001"),
        ([float("nan")], "float32", "not finite"),
        ([[0.0, float("inf")]], "float32", "not finite"),
    ],
)
def test_an_output_that_names_no_class_is_refused(outputs: list[Any], dtype: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        classes_of("resnet50", outputs, dtype)


# Scores


def whole(benchmark: Benchmark, response: Callable[[int], Arrays], wrong: int) -> list[tuple[int, bytes]]:
    """Return answers to the labels 0, 1, 2 ... of which the last `wrong` are wrong."""
    count = benchmark.sample_count(Part.EVALUATION)
    return [(index, response((index + (index >= count - wrong)) % 1000).tobytes()) for index in range(count)]


def one_hot(dtype: str) -> Callable[[int], Arrays]:
    """Return the function that gives the scores for a label, behind the background."""
    return lambda label: np.eye(1, 1001, label + 1).astype(dtype) * 9


RESPONSES = {
    "resnet50": lambda label: np.array(label, np.int64),  # as MLCommons' accuracy-imagenet.py takes it, --dtype=int64
    "mobilenet-v2": one_hot("float32"),
    "mobilenet-v3-large-minimalistic": one_hot("float32"),
    "mobilenet-v3-large-minimalistic-uint8": one_hot("uint8"),
}


@EACH
def test_top_1_is_counted_against_the_labels(name: str) -> None:
    benchmark = variant_of(name, "imagenet-500")
    accuracy = benchmark.score(benchmark.answers(whole(benchmark, RESPONSES[name], wrong=120), 500), range(500))
    assert (accuracy.metric, accuracy.unit, accuracy.good, accuracy.total) == ("top-1", "%", 380, 500)
    assert accuracy.value == pytest.approx(76.0)


@EACH
def test_with_synthetic_weights_it_is_called_an_agreement(name: str) -> None:
    benchmark = variant_of(name, "imagenet-synthetic", Weights.SYNTHETIC)
    accuracy = benchmark.score(benchmark.answers(whole(benchmark, RESPONSES[name], wrong=0), 500), range(500))
    assert accuracy.metric.startswith("agreement") and accuracy.value == 100


@EACH
def test_an_answer_of_another_size_is_no_answer(name: str) -> None:
    benchmark = variant_of(name, "imagenet-500")
    [spec] = benchmark.outputs
    responses = whole(benchmark, RESPONSES[name], wrong=0)
    responses[3] = (3, responses[3][1][:-1])
    wanted = rf"sample 3 has {spec.bytes - 1} bytes instead of \d+ {spec.dtype} \({spec.bytes} bytes\)"
    with pytest.raises(EngineError, match=wanted):
        benchmark.answers(responses, 500)


def test_a_class_that_the_model_has_not_is_named_with_its_sample() -> None:
    benchmark = variant_of("resnet50", "imagenet-500")
    responses = whole(benchmark, RESPONSES["resnet50"], wrong=0)
    responses[7] = (7, np.int64(1000).tobytes())
    with pytest.raises(EngineError, match="the answer for sample 7 names the class 1001; there are 1001"):
        benchmark.answers(responses, 500)


# The synthetic models


@pytest.mark.heavy
@pytest.mark.parametrize("name", MOBILENETS)
def test_the_synthetic_model_and_its_twin_have_the_tensors_that_are_declared(name: str, tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert", reason="needs the extra litert")
    import onnxruntime

    benchmark = variant_of(name, "auto", Weights.SYNTHETIC)
    assert benchmark.synthetic and benchmark.twin
    model, twin = tmp_path / "synthetic.tflite", tmp_path / "synthetic.onnx"
    benchmark.synthetic.write(model)
    benchmark.twin.write(twin)
    for path, made in ((model, benchmark.synthetic), (twin, benchmark.twin)):
        assert path.stat().st_size == pytest.approx(made.bytes, rel=0.03)
    engine = registry.get("engines", "litert").load().ENGINE
    [precision] = benchmark.precisions
    tensors = (benchmark.inputs, benchmark.outputs)
    settings = {"num_threads": "1"}
    request = BuildRequest("litert", str(model), "", precision, 1, *tensors, settings, benchmark.quantization)
    assert engine.build(request, tmp_path)["model"] == "./model.tflite"
    session = onnxruntime.InferenceSession(twin)
    for specs, nodes in zip(tensors, (session.get_inputs(), session.get_outputs()), strict=True):
        assert [(spec.name, list(spec.shape)) for spec in specs] == [(node.name, node.shape[1:]) for node in nodes]
        assert {node.type for node in nodes} == {"tensor(float)"}


def test_resnet50_is_as_mlperf_has_it() -> None:
    """mlcommons/inference, vision/classification_and_detection, profile resnet50-onnxruntime: names of the tensors."""
    benchmark = benchmark_of("resnet50")
    assert benchmark.inputs == (TensorSpec("input_tensor:0", "float32", (3, 224, 224)),)
    assert benchmark.outputs == (TensorSpec("ArgMax:0", "int64", ()),)
    assert benchmark.recipe == images.RESNET50 and Precision.INT8 in benchmark.precisions
