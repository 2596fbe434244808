"""MobileNet v3 large minimalistic on ImageNet, as a TFLite model that was trained for 8 bits."""

from __future__ import annotations

from engineroom.benchmarks._mobilenet import MobileNet, float_twin, published, scores, synthetic
from engineroom.images.preprocess import Quantization
from engineroom.networks.mobilenet import INPUT, INPUT_SCALE, INPUT_ZERO_POINT, SIZE, V3_LARGE_MINIMALISTIC
from engineroom.terms import Precision, TensorSpec


class MobileNetV3LargeMinimalisticUint8(MobileNet):
    """v3-large-minimalistic_224_1.0_uint8: images and scores are uint8."""

    name = "mobilenet-v3-large-minimalistic-uint8"
    model_source = published(
        name,
        "mobilenet_v3/checkpoints/v3-large-minimalistic_224_1.0_uint8.tgz",
        "v3-large-minimalistic_224_1.0_uint8.tflite",
        5_000_000,
    )
    synthetic = synthetic(name, V3_LARGE_MINIMALISTIC, 4_000_000, uint8=True)
    twin = float_twin(name, V3_LARGE_MINIMALISTIC, 15_700_000)
    inputs = (TensorSpec(INPUT, "uint8", (SIZE, SIZE, 3)),)
    quantization = Quantization(INPUT_SCALE, INPUT_ZERO_POINT)
    outputs = scores(V3_LARGE_MINIMALISTIC, "uint8")
    precisions = (Precision.INT8,)
    reference_top_1 = {"imagenet": 71.3}  # tensorflow/models, research/slim/nets/mobilenet/README.md


BENCHMARK = MobileNetV3LargeMinimalisticUint8()
