# Generated file
from . import *


@ConfigRegistry.register(HarnessType.LWIS, AccuracyTarget.k_99, PowerSetting.MaxP)
class OURS_Q200x2(SingleStreamGPUBaseConfig):
    system = KnownSystem.OURS_Q200x2
    gpu_batch_size: Dict = {}
    single_stream_expected_latency_ns: int = 0
    performance_sample_count_override: int = 96
    min_query_count: int
    active_sms: int = 60


class NOT_REGISTERED(SingleStreamGPUBaseConfig):
    system = KnownSystem.NOT_REGISTERED
    gpu_batch_size = 2
