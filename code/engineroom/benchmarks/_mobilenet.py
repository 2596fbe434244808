"""What the MobileNets share: TFLite models for ImageNet, with their synthetic counterparts."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from engineroom.benchmarks import Made
from engineroom.benchmarks._classification import ImageClassification
from engineroom.images import preprocess as images
from engineroom.networks import mobilenet as network
from engineroom.networks import weights as drawing
from engineroom.networks.mobilenet import Architecture
from engineroom.paths import MODELS
from engineroom.sources import UNPUBLISHED, Licence, ModelFile, Unpack
from engineroom.terms import Precision, TensorSpec

_SOURCES = (Path(network.__file__), Path(drawing.__file__))


class MobileNet(ImageClassification):
    """224 x 224 images, 1,001 classes with the background first; the response is a score per class.

    No MLPerf benchmarks, but models for one: what they are scored against is the accuracy that their authors publish.
    """

    recipe = images.MOBILENET
    inputs = (TensorSpec(network.INPUT, "float32", (network.SIZE, network.SIZE, 3)),)
    classes = network.CLASSES
    precisions: tuple[Precision, ...] = (Precision.FP32,)
    mlperf = False
    stands_for = "resnet50"  # the same images, the same classes
    settings = {"common": {"engine": "litert"}}  # for which .tflite files are made
    sources = (*ImageClassification.sources, Path(__file__))


def scores(architecture: Architecture, dtype: str = "float32") -> tuple[TensorSpec]:
    """Return the output."""
    return (TensorSpec(architecture.output, dtype, (network.CLASSES,)),)


def published(benchmark: str, archive: str, model: str, most_bytes: int) -> ModelFile:
    """Return where TensorFlow's authors have the model: in an archive beside checkpoints, all without checksums."""
    return ModelFile(
        name=f"{benchmark}/{archive.rpartition('/')[2]}",
        sha256=UNPUBLISHED,
        sources=(f"https://storage.googleapis.com/{archive}",),
        unpack=Unpack(members=model, bytes=most_bytes),
        licence=Licence(
            name="Apache-2.0",
            url="https://github.com/tensorflow/models/blob/master/LICENSE",
            attribution="The TensorFlow Authors, TensorFlow Model Garden (research/slim/nets/mobilenet)",
        ),
    )


def synthetic(benchmark: str, architecture: Architecture, size: int, *, uint8: bool = False) -> Made:
    """Return how the model with seeded weights is made, of about `size` bytes."""
    return Made(
        path=MODELS / benchmark / "synthetic.tflite",
        write=partial(network.write, architecture, uint8=uint8),
        sources=_SOURCES,
        bytes=size,
        modules=("ai_edge_litert", "flatbuffers"),
        extra="litert",
        distributions=("ai-edge-litert", "flatbuffers"),
    )


def float_twin(benchmark: str, architecture: Architecture, size: int) -> Made:
    """Return how the same model is made as float ONNX, of about `size` bytes."""
    return Made(
        path=MODELS / benchmark / "synthetic.onnx",
        write=partial(network.write_onnx, architecture),
        sources=_SOURCES,
        bytes=size,
        distributions=("onnx",),
    )
