"""The quantized PyTorch ResNet-50 v1.5 of MLPerf's reference on ImageNet. Not an MLPerf benchmark: a model for it."""

from __future__ import annotations

from pathlib import Path

from engineroom import qdq
from engineroom.benchmarks import Made
from engineroom.benchmarks._classification import ImageClassification
from engineroom.images import preprocess as images
from engineroom.networks import from_onnx, resnet50
from engineroom.networks import resnet50_torch as network
from engineroom.networks import weights as drawing
from engineroom.paths import MODELS
from engineroom.sources import UNPUBLISHED, Licence, ModelFile
from engineroom.terms import Precision, TensorSpec

_NETWORK = (Path(network.__file__), Path(resnet50.__file__), Path(drawing.__file__))


class ResNet50TorchInt8(ImageClassification):
    """224 x 224 images, 1,000 classes; the response is a float score per class.

    TorchScript names no tensors, so the names are ours. The synthetic network has 1,000 classes too, as the published
    one has, without a background: the two differ in nothing but their numbers.
    """

    name = "resnet50-torch-int8"
    model_source = ModelFile(
        name="resnet50-torch-int8/resnet50_INT8bit_quantized.pt",
        sha256=UNPUBLISHED,
        md5="6893ea9769b0afce65bb0ddf002f4438",  # as MLCommons' automation has it
        about_bytes=26_200_000,  # as the synthetic model, of the same tensors
        sources=("https://zenodo.org/record/4589637/files/resnet50_INT8bit_quantized.pt",),
        licence=Licence(
            name="Apache-2.0",
            url="https://github.com/mlcommons/inference/blob/master/LICENSE.md",
            attribution="EdgeCortix, for MLCommons, from torchvision's weights",
        ),
    )
    synthetic = Made(
        path=MODELS / "resnet50-torch-int8" / "synthetic.pt",
        write=network.write,
        sources=(*_NETWORK, Path(from_onnx.__file__), Path(qdq.__file__)),
        bytes=26_200_000,
        modules=("torch",),
        extra="torch",
        distributions=("torch", "onnx", "onnxruntime"),
    )
    twin = Made(
        path=MODELS / "resnet50-torch-int8" / "synthetic.onnx",
        write=network.write_float,
        sources=_NETWORK,
        bytes=102_500_000,
        distributions=("onnx",),
    )
    recipe = images.RESNET50_TORCH
    inputs = (TensorSpec(network.INPUT, "float32", (3, 224, 224)),)
    outputs = (TensorSpec(network.SCORES, "float32", (network.CLASSES,)),)
    classes = network.CLASSES
    precisions = (Precision.INT8,)
    mlperf = False
    stands_for = "resnet50"
    settings = {"common": {"engine": "torch"}}  # the engine that takes TorchScript
    sources = (*ImageClassification.sources, Path(__file__))
    reference_top_1 = {"imagenet": 75.790}  # mlcommons/inference, vision/classification_and_detection, README


BENCHMARK = ResNet50TorchInt8()
