import os
import sys
sys.path.insert(0, os.getcwd())

from code.common.constants import Benchmark, Scenario
from code.common.systems.system_list import KnownSystem
from configs.configuration import *
from configs.resnet50 import GPUBaseConfig


class ServerGPUBaseConfig(GPUBaseConfig):
    scenario = Scenario.Server
    use_deque_limit = True
    deque_timeout_usec = 2100


@ConfigRegistry.register(HarnessType.LWIS, AccuracyTarget.k_99, PowerSetting.MaxP)
class Q100_PCIe_16GBx4(ServerGPUBaseConfig):
    system = KnownSystem.Q100_PCIe_16GBx4
    gpu_batch_size = 48
    server_target_qps = 3 * 1000 + 500
    min_query_count = 270336
