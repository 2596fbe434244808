from code.common.constants import Scenario
from code.common.systems.system_list import KnownSystem
from configs.configuration import *


class OfflineGPUBaseConfig(BenchmarkConfiguration):
    scenario = Scenario.Offline
    precision = "fp8"
    trtllm_build_flags = {'tensor_parallelism': 1}


@ConfigRegistry.register(HarnessType.Custom, AccuracyTarget.k_99_9, PowerSetting.MaxP)
@ConfigRegistry.register(HarnessType.Custom, AccuracyTarget.k_99, PowerSetting.MaxP)
class Q500x1(OfflineGPUBaseConfig):
    system = KnownSystem.Q500x1
    gpu_batch_size = {'llama2-70b': 96}
    offline_expected_qps = 3.5


@ConfigRegistry.register(HarnessType.Custom, AccuracyTarget.k_99, PowerSetting.MaxP, "PP2")
class Q500x1_PP2(Q500x1):
    offline_expected_qps = 7
