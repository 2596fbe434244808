"""ResNet-50 v1.5 on ImageNet: MLPerf's image classification."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from engineroom.benchmarks import Part
from engineroom.benchmarks._classification import Classification
from engineroom.datasets import read_checksums
from engineroom.errors import EngineError
from engineroom.images import preprocess as images
from engineroom.networks import resnet50 as network
from engineroom.networks import weights as drawing
from engineroom.paths import MODELS
from engineroom.sources import UNPUBLISHED, Licence, ModelFile
from engineroom.terms import Precision, Scenario, TensorSpec, Weights

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

BACKGROUND = 1  # the model's class 0: ImageNet's own classes follow it
REFERENCE_TOP_1 = {  # of the float model, in %: mlcommons/inference, vision/classification_and_detection, README
    "imagenet": 76.456,
    "imagenet-500": 76.0,  # 380 of the first 500 images
}


class ResNet50(Classification):
    """224 x 224 images, 1,001 classes with the background first; the response is the class as an int64."""

    name = "resnet50"
    dataset = "imagenet"
    datasets = ("imagenet", "imagenet-500", "imagenet-synthetic")
    all_weights = (Weights.REFERENCE, Weights.SYNTHETIC)
    model_source = ModelFile(
        name="resnet50/resnet50_v1.onnx",
        sha256=UNPUBLISHED,
        md5="f6a4da60cd5f084d97efc2c1ddb10beb",  # as MLCommons' automation has it
        sources=(
            "https://zenodo.org/record/4735647/files/resnet50_v1.onnx",
            "https://huggingface.co/ctuning/mlperf-inference-resnet50-onnx-fp32-imagenet2012-v1.0/resolve/main/resnet50_v1.onnx",
        ),
        licence=Licence(
            name="Apache-2.0",
            url="https://github.com/mlcommons/inference/blob/master/LICENSE.md",
            attribution="MLCommons",
        ),
    )
    inputs = (TensorSpec(network.INPUT, "float32", (3, 224, 224)),)
    outputs = (TensorSpec(network.CLASS, "int64", ()),)
    scenarios = tuple(Scenario)
    precisions = (Precision.INT8, Precision.BF16, Precision.FP32)
    mlperf = True
    accuracy_target_ratio = 0.99  # MLPerf Inference rules, "Benchmarks"
    modules = images.MODULES
    extra = images.EXTRA
    distributions = images.DISTRIBUTIONS
    sources = images.SOURCES

    @property
    def reference_accuracy(self) -> float:  # type: ignore[override]
        """The top-1 of the float model, in %. Synthetic weights are scored against what ONNX Runtime makes of them."""
        return 100.0 if self.weights is Weights.SYNTHETIC else REFERENCE_TOP_1.get(self.dataset, 0.0)

    @property
    def notes(self) -> tuple[str, ...]:
        """Say what makes a result no result of MLPerf's ResNet-50."""
        notes = []
        if self.weights is Weights.SYNTHETIC:
            notes.append(
                "synthetic weights: the architecture is ResNet-50's, but it knows nothing. Not submittable; the accuracy "
                "is the agreement with ONNX Runtime in fp32."
            )
        if not self.data.manifest.submittable:
            notes.append(f"The data set {self.dataset} is not the benchmark's own: not submittable.")
        return tuple(notes)

    def model_file(self) -> tuple[Path, str]:
        """Return the model's path; nobody publishes its SHA-256, so it is recorded at the first verified use."""
        if self.weights is Weights.SYNTHETIC:
            return MODELS / "resnet50" / "synthetic.onnx", UNPUBLISHED
        return self.model_source.path, self.model_source.result_sha256

    def make_model(self) -> tuple[Path, ...]:
        """Build the model with seeded weights, and return the sources that it depends on."""
        network.write(self.model_file()[0])
        return Path(str(network.__file__)), Path(str(drawing.__file__))

    def preprocess(self, part: Part, first: int, last: int) -> dict[str, npt.NDArray[np.generic]]:
        """Return the images [first:last) of `part` as MLPerf's reference prepares them: float32, means taken away."""
        samples = self.data.samples(part)[first:last]
        paths = [self.data.sample_folder / sample.file for sample in samples]
        spec = self.inputs[0]
        return {spec.name: images.prepare(paths, images.RESNET50, spec, checksums=read_checksums(self.data.checksums))}

    def class_of(self, index: int, response: bytes) -> int:
        """Return ImageNet's class, 0..999; -1 is the background."""
        import numpy as np

        if len(response) != 8:
            raise EngineError(f"the answer for sample {index} has {len(response)} bytes instead of one int64 (8 bytes)")
        return int(np.frombuffer(response, np.int64)[0]) - BACKGROUND


BENCHMARK = ResNet50()
