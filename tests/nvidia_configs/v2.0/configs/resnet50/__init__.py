import os
import sys
sys.path.insert(0, os.getcwd())

from code.common.constants import Benchmark
from configs.configuration import BenchmarkConfiguration


class GPUBaseConfig(BenchmarkConfiguration):
    benchmark = Benchmark.ResNet50
    precision = "int8"
    input_dtype = "int8"
    tensor_path = "${PREPROCESSED_DATA_DIR}/imagenet/int8_linear"
