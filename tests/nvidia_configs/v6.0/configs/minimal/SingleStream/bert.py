import code.common.constants as C
import code.fields.models as model_fields
import code.fields.loadgen as loadgen_fields

_base_99 = {
    model_fields.gpu_batch_size: {'bert': 1},
    model_fields.precision: 'int8',
    loadgen_fields.single_stream_expected_latency_ns: 2_500_000,
}

_base_999 = dict(_base_99)
_base_999[model_fields.precision] = 'fp16'

ATOMIC_EXPORTS = {
    C.WorkloadSetting(accuracy_target=C.AccuracyTarget.k_99).short: _base_99,
    C.WorkloadSetting(accuracy_target=C.AccuracyTarget.k_99_9).short: _base_999,
}
