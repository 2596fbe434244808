"""OpenVINO on CPUs, the default engine: compiles the model ahead and exports it as a blob for the native harness."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from engineroom.engines import BuildRequest, Engine
from engineroom.errors import EngineError
from engineroom.paths import display
from engineroom.terms import Precision, Scenario

if TYPE_CHECKING:
    from engineroom.config import RunConfig

DEVICE = "CPU"
BLOB = "model.blob"
# On CPUs with AMX OpenVINO would take bf16 even for a float32 model, so the precision is always said.
INFERENCE_PRECISION = {Precision.FP32: "f32", Precision.INT8: "f32", Precision.BF16: "bf16"}


class OpenVino(Engine):
    """Static batch, as many streams as instances. Native in the harness."""

    name = "openvino"
    native = True
    precisions = (Precision.INT8, Precision.BF16, Precision.FP32)
    modules = ("openvino",)
    distributions = ("openvino",)

    def settings_of(self, config: RunConfig) -> dict[str, str]:
        """Return OpenVINO's properties. An exported blob forgets them, so the harness gives them again on import."""
        streams = config.scenario in (Scenario.SINGLE_STREAM, Scenario.MULTI_STREAM)
        return {
            "PERFORMANCE_HINT": "LATENCY" if streams else "THROUGHPUT",
            "INFERENCE_PRECISION_HINT": INFERENCE_PRECISION[config.precision],
            "NUM_STREAMS": str(config.instances),
            "INFERENCE_NUM_THREADS": str(config.instances * config.threads_per_instance),
        }

    def build(self, request: BuildRequest, folder: Path) -> dict[str, str]:
        """Compile for `request.batch_size` and write the blob. Raises EngineError with OpenVINO's first line."""
        import openvino

        core = openvino.Core()
        try:
            model = core.read_model(request.model)
            model.reshape({spec.name: [request.batch_size, *spec.shape] for spec in request.inputs})
            blob = core.compile_model(model, DEVICE, request.settings).export_model()
        except RuntimeError as error:
            where = display(Path(request.model))
            raise EngineError(f"OpenVINO cannot compile this model: {_reason(error)}", where=where) from error
        missing = {spec.name for spec in request.outputs} - {name for port in model.outputs for name in port.names}
        if missing:
            raise EngineError(f"the model has no output {', '.join(missing)}", where=display(Path(request.model)))
        (folder / BLOB).write_bytes(blob.read() if hasattr(blob, "read") else blob)
        return {"blob": f"./{BLOB}", **request.settings}


def _reason(error: RuntimeError) -> str:
    """OpenVINO prints a stack of source locations; the reason is the last line that is not one."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = [line for line in lines if not line.startswith(("Exception from", "Check '"))]
    return (said or lines or ["no reason given"])[-1]


ENGINE = OpenVino()
