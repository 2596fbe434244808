"""ResNet-50 v1.5 as quantized TorchScript, with seeded weights, and the float ONNX file of the same weights.

The published file is torchvision's quantizable ResNet-50, traced (mlcommons/inference, vision/
classification_and_detection/tools/calibrate_torchvision_model.py): 1,000 classes without a background, the pool padded
on all sides, pixels in units of their deviation, int8 to the float logits. It is quantized as PyTorch does for fbgemm:
weights in int8 per output channel, activations in 7 bits, for processors without VNNI add up two products in 16 bits.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from engineroom.networks import from_onnx
from engineroom.networks.resnet50 import SEED, Graph, Variant, add_layers
from engineroom.networks.weights import patterns, rounded_up
from engineroom.paths import write_beside

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch

INPUT, SCORES = "image", "scores"
CLASSES = 1000
RANGE_DIGITS = 6  # binary ones. Of 48 images, 38 get the float model's answer; with 4 digits 35, with all 40
MEANS, DEVIATIONS = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's pixels, from 0 to 1
TORCHVISION = Variant(INPUT, SCORES, CLASSES, 1.0, (1, 1, 1, 1))


def write_float(path: Path, seed: int = SEED) -> None:
    """Write the float model as ONNX to `path`; the same seed gives the same bytes."""
    from onnx import TensorProto, helper

    graph = Graph(seed)
    scores = helper.make_tensor_value_info(add_layers(graph, TORCHVISION), TensorProto.FLOAT, ["N", CLASSES])
    with write_beside(path) as beside:
        beside.write_bytes(graph.model(INPUT, [scores]).SerializeToString(deterministic=True))


def write(path: Path, seed: int = SEED) -> None:
    """Write the quantized model as TorchScript to `path`. Needs the packages of the extra `torch`.

    The ranges are observed on seeded patterns and rounded outwards, so that they do not depend on the last digits that
    a machine computes: the same seed gives the same numbers in the file.
    """
    import torch

    with TemporaryDirectory(prefix="engineroom-torch-") as scratch:
        write_float(Path(scratch) / "float.onnx", seed)
        module = from_onnx.module_of(Path(scratch) / "float.onnx", [SCORES])
    images = torch.from_numpy(_images(seed))
    content = io.BytesIO()  # a file's name would be written into the file
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's own plans for quantization and TorchScript
        torch.jit.save(torch.jit.trace(_quantized(module, images), images[:1]), content)
    with write_beside(path) as beside:
        beside.write_bytes(content.getvalue())


def _images(seed: int) -> npt.NDArray[np.float32]:
    """Return the patterns as the network takes them: [n, 3, 224, 224]."""
    import numpy as np

    pixels = np.stack(list(patterns(seed))).astype(np.float32) / np.float32(255)
    scaled = (pixels - np.array(MEANS, np.float32)) / np.array(DEVIATIONS, np.float32)
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))


def _quantized(module: torch.fx.GraphModule, images: torch.Tensor) -> torch.fx.GraphModule:
    """Return the module in int8, the ranges of its activations observed on `images`."""
    import torch
    from torch.ao.quantization import QConfig, QConfigMapping
    from torch.ao.quantization.observer import MinMaxObserver, default_per_channel_weight_observer
    from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx

    activation = MinMaxObserver.with_args(dtype=torch.quint8, reduce_range=True)
    chosen = QConfig(activation=activation, weight=default_per_channel_weight_observer)
    prepared = prepare_fx(module, QConfigMapping().set_global(chosen), (images[:1],))
    for image in images:
        prepared(image[None])
    for observer in prepared.modules():
        if isinstance(observer, MinMaxObserver):
            observer.min_val.fill_(-rounded_up(-float(observer.min_val), RANGE_DIGITS))
            observer.max_val.fill_(rounded_up(float(observer.max_val), RANGE_DIGITS))
    return convert_fx(prepared)
