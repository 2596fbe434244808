import code.common.constants as C
import code.fields.models as model_fields
import code.fields.loadgen as loadgen_fields
import code.fields.harness as harness_fields
import code.fields.power as power_fields
import copy


base = {
    model_fields.gpu_batch_size: {
        'resnet50': 1536,
    },
    model_fields.precision: C.Precision.INT8,
    harness_fields.gpu_copy_streams: 2,
    loadgen_fields.offline_expected_qps: 60e3,
    harness_fields.tensor_path: f'build/{C.VERSION}/imagenet',
}

less = copy.deepcopy(base)
less[power_fields.power_limit] = 300
less[loadgen_fields.offline_expected_qps] *= 0.5

EXPORTS = {
    C.WorkloadSetting(C.HarnessType.Custom, C.AccuracyTarget(0.99), C.PowerSetting.MaxP): base,
    C.WorkloadSetting(C.HarnessType.Custom, C.AccuracyTarget(0.99), C.PowerSetting.MaxQ): less,
}
