from code.common.constants import Benchmark, Scenario
from code.common.systems.system_list import KnownSystem
from configs.configuration import *
from configs.bert import GPUBaseConfig


class ServerGPUBaseConfig(GPUBaseConfig):
    scenario = Scenario.Server
    precision = "fp16"


@ConfigRegistry.register(HarnessType.Custom, AccuracyTarget.k_99, PowerSetting.MaxP)
class Q300x1(ServerGPUBaseConfig):
    system = KnownSystem.Q300x1
    gpu_batch_size = {'bert': 16 * 2}
    server_target_qps = 700


@ConfigRegistry.register(HarnessType.Custom, AccuracyTarget.k_99, PowerSetting.MaxP)
class Q300x8(Q300x1):
    system = KnownSystem.Q300x8
    server_target_qps = int(Q300x1.server_target_qps * 7.5)


@ConfigRegistry.register(HarnessType.Custom, AccuracyTarget.k_99_9, PowerSetting.MaxP)
class Q300x8_HighAccuracy(Q300x8):
    precision = "fp16"
    server_target_qps = Q300x8.server_target_qps / 2


@ConfigRegistry.register(HarnessType.Custom, AccuracyTarget.k_99_9, PowerSetting.MaxP)
class Q400x1_HighAccuracy(ServerGPUBaseConfig):
    system = KnownSystem.Q400x1
    gpu_batch_size = {'bert': 24}
