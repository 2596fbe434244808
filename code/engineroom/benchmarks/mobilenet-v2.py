"""MobileNet v2 1.0 on ImageNet, as a float TFLite model."""

from __future__ import annotations

from engineroom.benchmarks._mobilenet import MobileNet, float_twin, published, scores, synthetic
from engineroom.networks.mobilenet import V2


class MobileNetV2(MobileNet):
    """mobilenet_v2_1.0_224: 300 million multiply-accumulates an image, 3.5 million parameters."""

    name = "mobilenet-v2"
    model_source = published(
        name, "mobilenet_v2/checkpoints/mobilenet_v2_1.0_224.tgz", "mobilenet_v2_1.0_224.tflite", 20_000_000
    )
    synthetic = synthetic(name, V2, 14_000_000)
    twin = float_twin(name, V2, 14_000_000)
    outputs = scores(V2)
    reference_top_1 = {"imagenet": 71.8}  # tensorflow/models, research/slim/nets/mobilenet/README.md


BENCHMARK = MobileNetV2()
