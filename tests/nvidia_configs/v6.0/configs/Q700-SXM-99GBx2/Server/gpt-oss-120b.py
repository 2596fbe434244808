import code.common.constants as C
import code.llmlib.fields as llm_fields
import code.fields.models as model_fields
import code.fields.loadgen as loadgen_fields
import os

os.environ['SOME_SWITCH'] = '1'

harness_config = {
    loadgen_fields.min_duration: 600000,
    loadgen_fields.server_target_qps: 12 * 1.5,
    model_fields.precision: 'fp4',
    llm_fields.trtllm_runtime_flags: {'sizes': [1, 2, *[4 * size for size in range(3)]]},
}

gen_config = {
    **harness_config,
    loadgen_fields.server_target_qps: 99,
}

EXPORTS = {
    C.WorkloadSetting(C.HarnessType.Custom, C.AccuracyTarget(0.99), C.PowerSetting.MaxP): harness_config,
}

ACCURACY_OVERRIDES = {
    C.WorkloadSetting(C.HarnessType.Custom, C.AccuracyTarget(0.99), C.PowerSetting.MaxP): {
        loadgen_fields.min_query_count: 4000,
    },
}

ATOMIC_EXPORTS = {
    C.WorkloadSetting(C.HarnessType.Custom, C.AccuracyTarget(0.99), C.PowerSetting.MaxP): {
        "default": harness_config,
        "gen_config": gen_config,
    },
}
