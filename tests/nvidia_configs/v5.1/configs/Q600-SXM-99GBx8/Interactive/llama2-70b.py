import code.common.constants as C
import code.fields.loadgen as loadgen_fields

EXPORTS = {
    C.WorkloadSetting(C.HarnessType.Custom, C.AccuracyTarget(0.99), C.PowerSetting.MaxP): {
        loadgen_fields.server_target_qps: 2.5,
    },
}
