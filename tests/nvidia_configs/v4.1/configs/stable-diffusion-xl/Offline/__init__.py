from code.common.constants import Benchmark, Scenario
from code.common.systems.system_list import KnownSystem
from configs.configuration import *


class OfflineGPUBaseConfig(BenchmarkConfiguration):
    scenario = Scenario.Offline
    precision = "fp16"


@ConfigRegistry.register(HarnessType.Custom, AccuracyTarget.k_99, PowerSetting.MaxP)
class Q300x1(OfflineGPUBaseConfig):
    system = KnownSystem.Q300x1
    gpu_batch_size = {'clip1': 16, 'unet': 8, 'vae': 4}
    offline_expected_qps = 0.75
    min_duration = 1200000
