"""ResNet-50 v1.5 on ImageNet: MLPerf's image classification."""

from __future__ import annotations

from pathlib import Path

from engineroom.benchmarks import Made
from engineroom.benchmarks._classification import ImageClassification
from engineroom.images import preprocess as images
from engineroom.networks import resnet50 as network
from engineroom.networks import weights as drawing
from engineroom.paths import MODELS
from engineroom.sources import UNPUBLISHED, Licence, ModelFile
from engineroom.terms import Precision, TensorSpec


class ResNet50(ImageClassification):
    """224 x 224 images, 1,001 classes with the background first; the response is the class as an int64."""

    name = "resnet50"
    model_source = ModelFile(
        name="resnet50/resnet50_v1.onnx",
        sha256=UNPUBLISHED,
        md5="f6a4da60cd5f084d97efc2c1ddb10beb",  # as MLCommons' automation has it
        about_bytes=102_000_000,  # as the synthetic model, of the same tensors
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
    synthetic = Made(
        path=MODELS / "resnet50" / "synthetic.onnx",
        write=network.write,
        sources=(Path(network.__file__), Path(drawing.__file__)),
        bytes=102_000_000,
        distributions=("onnx",),
    )
    recipe = images.RESNET50
    sources = (*ImageClassification.sources, Path(__file__))
    inputs = (TensorSpec(network.INPUT, "float32", (3, 224, 224)),)
    outputs = (TensorSpec(network.CLASS, "int64", ()),)
    classes = network.CLASSES
    precisions = (Precision.INT8, Precision.BF16, Precision.FP16, Precision.FP32)
    mlperf = True
    performance_sample_count = 1024  # MLPerf Inference rules, "Benchmarks": QSL size
    reference_top_1 = {  # mlcommons/inference, vision/classification_and_detection, README; 380 of the first 500 images
        "imagenet": 76.456,
        "imagenet-500": 76.0,
    }


BENCHMARK = ResNet50()
