import os
import sys
sys.path.insert(0, os.getcwd())

from code.common.constants import Benchmark, Scenario
from code.common.systems.system_list import KnownSystem, System, Architecture, CPUArch
from configs.configuration import *
from configs.resnet50 import GPUBaseConfig


class OfflineGPUBaseConfig(GPUBaseConfig):
    scenario = Scenario.Offline
    gpu_copy_streams = 2
    gpu_inference_streams = 1
    use_graphs = False


@ConfigRegistry.register(HarnessType.LWIS, AccuracyTarget.k_99, PowerSetting.MaxP)
class Q100_PCIe_16GBx1(OfflineGPUBaseConfig):
    system = KnownSystem.Q100_PCIe_16GBx1
    gpu_batch_size = 512
    offline_expected_qps = 1234.0


@ConfigRegistry.register(HarnessType.Triton, AccuracyTarget.k_99, PowerSetting.MaxP)
class Q100_PCIe_16GBx1_Triton(Q100_PCIe_16GBx1):
    use_triton = True
    offline_expected_qps = 1100


@ConfigRegistry.register(HarnessType.LWIS, AccuracyTarget.k_99, PowerSetting.MaxP)
class Q100_PCIe_16GBx4(Q100_PCIe_16GBx1):
    system = KnownSystem.Q100_PCIe_16GBx4
    offline_expected_qps = 4900.5
    min_duration = None


@ConfigRegistry.register(HarnessType.LWIS, AccuracyTarget.k_99, PowerSetting.MaxQ)
class Q100_PCIe_16GBx4_MaxQ(Q100_PCIe_16GBx4):
    power_limit = 150
    offline_expected_qps = 4000


@ConfigRegistry.register(HarnessType.LWIS, AccuracyTarget.k_99, PowerSetting.MaxP)
class Q100_SXMx2(OfflineGPUBaseConfig):
    system = System("../../Q100-SXM", Architecture.Ampere, 2, cpu_arch=CPUArch.aarch64)
    _batch = 128
    gpu_batch_size = 2 * _batch
    dla_batch_size = 4
    offline_expected_qps = 2 * 1300


@ConfigRegistry.register(HarnessType.LWIS, AccuracyTarget.k_99_9, PowerSetting.MaxP)
class Q100_SXMx2_HighAccuracy(OfflineGPUBaseConfig):
    system = System("../../Q100-SXM", Architecture.Ampere, 2, cpu_arch=CPUArch.aarch64)
    offline_expected_qps = 1300
