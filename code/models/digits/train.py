"""Trains the network of the digits quick start and writes digits.onnx beside this file.

    PYTHONPATH=code python code/models/digits/train.py [--output FILE] [--cross_validate]

Only the training part is used; --cross_validate is how the settings below were chosen (five folds of it). Two runs
on one machine write the same bytes: one thread, deterministic algorithms, seeded.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn
from torch.nn import functional

from engineroom.benchmarks import Part
from engineroom.benchmarks.digits import BENCHMARK, MODEL
from engineroom.datasets import Dataset
from engineroom.paths import write_beside

SEED = 7
EPOCHS = 60
BATCH_SIZE = 32
LEARNING_RATE = 3e-3
WEIGHT_DECAY = 2e-2
LABEL_SMOOTHING = 0.05
MOST_DEGREES = 10.0  # random rotation
MOST_SHIFT = 0.8  # random shift, in pixels
MOST_ZOOM = 0.1  # random change of size
OPSET = 17
IR_VERSION = 9  # what ONNX 1.14, of opset 17 to 19, writes: older readers take it too


class Network(nn.Module):
    """Four convolutions, one residual add, two dense layers: input [N, 1, 8, 8], logits [N, 10]."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 32, 3, padding=1, bias=False)
        self.left = nn.Conv2d(32, 32, 3, padding=1, bias=False)
        self.right = nn.Conv2d(32, 32, 3, padding=1, bias=False)
        self.widen = nn.Conv2d(32, 64, 3, padding=1, bias=False)
        self.norms = nn.ModuleDict(
            {name: nn.BatchNorm2d(size) for name, size in [("stem", 32), ("left", 32), ("right", 32), ("widen", 64)]}
        )
        self.hidden = nn.Linear(256, 64)
        self.logits = nn.Linear(64, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits [N, 10] of `images` [N, 1, 8, 8]."""
        stem = functional.relu(self._normed("stem", images))
        left = functional.relu(self._normed("left", stem))
        block = functional.relu(stem + self._normed("right", left))
        wide = functional.relu(self._normed("widen", functional.max_pool2d(block, 2)))
        flat = functional.max_pool2d(wide, 2).flatten(1)
        hidden = functional.dropout(functional.relu(self.hidden(flat)), 0.3, self.training)
        logits: Tensor = self.logits(hidden)
        return logits

    def _normed(self, name: str, images: Tensor) -> Tensor:
        normed: Tensor = self.norms[name](getattr(self, name)(images))
        return normed

    def folded(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Return weight and bias of each layer, batch normalization folded into the convolution before it."""
        layers: dict[str, tuple[Tensor, Tensor]] = {}
        for name, norm in self.norms.items():
            assert isinstance(norm, nn.BatchNorm2d) and norm.running_var is not None and norm.running_mean is not None
            scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
            weight = getattr(self, name).weight * scale.reshape(-1, 1, 1, 1)
            layers[name] = (weight, norm.bias - norm.running_mean * scale)
        for name in ("hidden", "logits"):
            layers[name] = (getattr(self, name).weight, getattr(self, name).bias)
        return layers


def distort(images: Tensor, random: torch.Generator) -> Tensor:
    """Return `images` [N, 1, 8, 8], each turned, shifted and sized a little at random."""
    count = len(images)

    def uniform(most: float, *shape: int) -> Tensor:
        return (2 * torch.rand(count, *shape, generator=random) - 1) * most

    angle, zoom = torch.deg2rad(uniform(MOST_DEGREES)), 1 + uniform(MOST_ZOOM)
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = torch.cos(angle) * zoom
    theta[:, 1, 0] = torch.sin(angle) * zoom
    theta[:, 0, 1] = -theta[:, 1, 0]
    theta[:, :, 2] = uniform(MOST_SHIFT / 4, 2)  # the grid is two wide: one pixel is a quarter of it
    grid = functional.affine_grid(theta, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, align_corners=False)


def train(images: Tensor, labels: Tensor, seed: int) -> Network:
    """Return a network trained on `images` [N, 1, 8, 8] and `labels` [N]."""
    torch.manual_seed(seed)
    random = torch.Generator().manual_seed(seed)
    network = Network()
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=WEIGHT_DECAY)
    steps = EPOCHS * (len(images) // BATCH_SIZE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    for _ in range(EPOCHS):
        order = torch.randperm(len(images), generator=random)[: len(images) // BATCH_SIZE * BATCH_SIZE]
        for batch in order.reshape(-1, BATCH_SIZE):
            logits = network(distort(images[batch], random))
            loss = functional.cross_entropy(logits, labels[batch], label_smoothing=LABEL_SMOOTHING)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    return network.eval()


def cross_validate(images: Tensor, labels: Tensor, folds: int = 5) -> float:
    """Return the share of the training part read rightly by networks that did not see it, fold by fold."""
    good = 0
    for fold in range(folds):
        held_out = torch.arange(len(images)) % folds == fold
        network = train(images[~held_out], labels[~held_out], SEED + fold)
        with torch.no_grad():
            good += int((network(images[held_out]).argmax(1) == labels[held_out]).sum())
        print(f"fold {fold + 1} of {folds} done", flush=True)
    return good / len(images)


def to_onnx(network: Network) -> onnx.ModelProto:
    """Return the network as an ONNX model without anything a trainer leaves behind."""
    layers = {name: (_array(weight), _array(bias)) for name, (weight, bias) in network.folded().items()}
    weights = [
        numpy_helper.from_array(array, f"{name}.{kind}")
        for name, pair in layers.items()
        for kind, array in zip(("weight", "bias"), pair, strict=True)
    ]
    nodes = [
        *_conv("stem", "input"),
        *_conv("left", "stem"),
        *_conv("right", "left", relu=False),
        helper.make_node("Add", ["stem", "right"], ["sum"], "sum"),
        helper.make_node("Relu", ["sum"], ["block"], "block"),
        _pool("block_pooled", "block"),
        *_conv("widen", "block_pooled"),
        _pool("widen_pooled", "widen"),
        helper.make_node("Flatten", ["widen_pooled"], ["flat"], "flat", axis=1),
        helper.make_node("Gemm", ["flat", "hidden.weight", "hidden.bias"], ["hidden_sum"], "hidden_sum", transB=1),
        helper.make_node("Relu", ["hidden_sum"], ["hidden"], "hidden"),
        helper.make_node("Gemm", ["hidden", "logits.weight", "logits.bias"], ["logits"], "logits", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        BENCHMARK.name,
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 1, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 10])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    model.producer_name = "code/models/digits/train.py"
    onnx.checker.check_model(model, full_check=True)
    return model


def _conv(name: str, source: str, relu: bool = True) -> list[onnx.NodeProto]:
    target = f"{name}_sum" if relu else name
    inputs = [source, f"{name}.weight", f"{name}.bias"]
    node = helper.make_node("Conv", inputs, [target], target, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    return [node, helper.make_node("Relu", [target], [name], name)] if relu else [node]


def _pool(name: str, source: str) -> onnx.NodeProto:
    return helper.make_node("MaxPool", [source], [name], name, kernel_shape=[2, 2], strides=[2, 2])


def _array(tensor: Tensor) -> npt.NDArray[np.float32]:
    return tensor.detach().numpy().astype(np.float32)


def training_part() -> tuple[Tensor, Tensor]:
    """Return images [1097, 1, 8, 8] and labels [1097]."""
    images = BENCHMARK.preprocess(Part.TRAINING, 0, BENCHMARK.sample_count(Part.TRAINING))["input"]
    return torch.from_numpy(images), torch.tensor(Dataset(BENCHMARK.dataset).labels(Part.TRAINING))


def main() -> None:
    """Train, or cross-validate, as the command line says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--output", type=Path, default=MODEL)
    parser.add_argument("--cross_validate", action="store_true", help="measure the settings; writes nothing")
    arguments = parser.parse_args()
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)
    images, labels = training_part()
    if arguments.cross_validate:
        print(f"top-1 on held-out folds of the training part: {cross_validate(images, labels):.2%}")
        return
    model = to_onnx(train(images, labels, SEED))
    with write_beside(arguments.output) as beside:
        beside.write_bytes(model.SerializeToString(deterministic=True))


if __name__ == "__main__":
    main()
