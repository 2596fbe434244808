"""MobileNet v3 large minimalistic on ImageNet, as a float TFLite model."""

from __future__ import annotations

from engineroom.benchmarks._mobilenet import MobileNet, float_twin, published, scores, synthetic
from engineroom.networks.mobilenet import V3_LARGE_MINIMALISTIC


class MobileNetV3LargeMinimalistic(MobileNet):
    """v3-large-minimalistic_224_1.0_float: 209 million multiply-accumulates an image, 3.9 million parameters."""

    name = "mobilenet-v3-large-minimalistic"
    model_source = published(
        name,
        "mobilenet_v3/checkpoints/v3-large-minimalistic_224_1.0_float.tgz",
        "v3-large-minimalistic_224_1.0_float.tflite",
        20_000_000,
    )
    synthetic = synthetic(name, V3_LARGE_MINIMALISTIC, 15_700_000)
    twin = float_twin(name, V3_LARGE_MINIMALISTIC, 15_700_000)
    outputs = scores(V3_LARGE_MINIMALISTIC)
    reference_top_1 = {"imagenet": 72.3}  # tensorflow/models, research/slim/nets/mobilenet/README.md


BENCHMARK = MobileNetV3LargeMinimalistic()
