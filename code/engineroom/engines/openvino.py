"""OpenVINO on CPUs, the default engine: compiles the model ahead and exports it as a blob for the native harness."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engineroom import qdq
from engineroom.engines import BuildRequest, Engine, computes_in
from engineroom.errors import EngineError
from engineroom.networks import layout
from engineroom.paths import display
from engineroom.terms import Precision, Scenario, TensorSpec

if TYPE_CHECKING:
    from engineroom.config import RunConfig
    from engineroom.detection import Machine

DEVICE = "CPU"
BLOB = "model.blob"
HINT = "INFERENCE_PRECISION_HINT"
# A model of this size or less is compiled for each instance of one thread. Its inferences are so short that handing
# each to another thread shows (docs/performance.md), and its weights so few that every instance can hold them.
OWN_MODEL_BYTES = 4_000_000
# The thread that asks then computes itself, so OpenVINO pins that one, anew for each inference, and others wait for its
# core while the next is free.
OWN_MODEL = {"NUM_STREAMS": "1", "INFERENCE_NUM_THREADS": "1", "ENABLE_CPU_PINNING": "NO"}
# On CPUs with AMX OpenVINO would take bf16 even for a float32 model, so the precision is always said.
INFERENCE_PRECISION = {Precision.FP32: "f32", Precision.INT8: "f32", Precision.BF16: "bf16"}


class OpenVino(Engine):
    """Static batch, as many streams as instances, in one model or, if small, in a model each. Native in the harness."""

    name = "openvino"
    native = True
    precisions = (Precision.INT8, Precision.BF16, Precision.FP32)
    modules = ("openvino",)
    distributions = ("openvino",)
    formats = (".onnx", ".tflite")
    sources = (Path(qdq.__file__),)

    def precisions_on(self, machine: Machine, config: RunConfig) -> tuple[Precision, ...]:
        """Return those that the CPU computes in: asked for bf16, OpenVINO silently computes in fp32 elsewhere."""
        return tuple(each for each in self.precisions if each is not Precision.BF16 or computes_in(each, machine))

    def settings_of(self, config: RunConfig) -> dict[str, str]:
        """Return OpenVINO's properties. An exported blob forgets them, so the harness gives them again on import."""
        streams = config.scenario in (Scenario.SINGLE_STREAM, Scenario.MULTI_STREAM)
        return {
            "PERFORMANCE_HINT": "LATENCY" if streams else "THROUGHPUT",
            HINT: INFERENCE_PRECISION[config.precision],
            "NUM_STREAMS": str(config.instances),
            "INFERENCE_NUM_THREADS": str(config.instances * config.threads_per_instance),
        }

    def build(self, request: BuildRequest, folder: Path) -> dict[str, str]:
        """Compile for `request.batch_size` and write the blob. Raises EngineError with OpenVINO's first line."""
        import openvino

        core, where = openvino.Core(), display(Path(request.model))
        try:
            model = core.read_model(_quantized_ahead(request) or request.model)
        except RuntimeError as error:
            raise EngineError(f"OpenVINO cannot read this model: {_reason(error)}", where=where) from error
        _check("input", request.inputs, model.inputs, where)
        _check("output", request.outputs, model.outputs, where)
        try:
            model.reshape({spec.name: [request.batch_size, *spec.shape] for spec in request.inputs})
            compiled = core.compile_model(model, DEVICE, request.settings)
            blob = compiled.export_model()
        except RuntimeError as error:
            fixed = "a model made for batches of 1 runs with --batch_size=1 only" if request.batch_size > 1 else None
            what = f"OpenVINO cannot compile this model: {_reason(error)}"
            raise EngineError(what, where=where, mend=fixed) from error
        content = blob.read() if hasattr(blob, "read") else blob
        (folder / BLOB).write_bytes(content)
        own = OWN_MODEL if len(content) <= OWN_MODEL_BYTES and _one_thread_each(request.settings) else {}
        return {"blob": f"./{BLOB}", **request.settings, **own, HINT: compiled.get_property(HINT).get_type_name()}

    def session(
        self, options: Mapping[str, str], inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Mapping[str, Any]]
    ) -> Callable[[Any], Any]:
        """Import the blob as the harness does, and infer whole batches, of which the first part is asked for."""
        import numpy as np
        import openvino

        properties = {name: value for name, value in options.items() if name != "blob"}
        blob = Path(options["blob"])
        try:
            model = openvino.Core().import_model(blob.read_bytes(), DEVICE, properties)
        except RuntimeError as error:
            raise EngineError(f"OpenVINO cannot import this blob: {_reason(error)}", where=display(blob)) from error
        request, rows = model.create_infer_request(), model.inputs[0].shape[0]

        def infer(arrays: Any) -> list[Any]:
            count = len(arrays[0])
            padding = [np.zeros_like(array, shape=(rows - count, *array.shape[1:])) for array in arrays]
            whole = [np.concatenate(pair) for pair in zip(arrays, padding, strict=True)]
            found = request.infer(dict(zip((spec["name"] for spec in inputs), whole, strict=True)))
            return [found[spec["name"]][:count].copy() for spec in outputs]

        return infer

    def notes_of(self, config: RunConfig, options: Mapping[str, str]) -> tuple[str, ...]:
        """Say if the CPU has no bf16, so that OpenVINO computes in something else."""
        wanted, taken = INFERENCE_PRECISION[config.precision], options.get(HINT)
        return () if taken in (None, wanted) else (f"OpenVINO computes in {taken} here: this CPU has no {wanted}.",)


def _quantized_ahead(request: BuildRequest) -> bytes | None:
    """Return a Q/DQ model as OpenVINO is quickest with it, if that is another: it moves no Q/DQ pair itself."""
    path = Path(request.model)
    if request.precision is not Precision.INT8 or path.suffix != ".onnx" or layout.external_files(path):
        return None
    model = qdq.read_model(path)
    return model.SerializeToString() if qdq.quantize_ahead(model) else None


def _one_thread_each(settings: Mapping[str, str]) -> bool:
    return settings["NUM_STREAMS"] == settings["INFERENCE_NUM_THREADS"]


def _check(kind: str, specs: Sequence[TensorSpec], ports: Sequence[Any], where: str) -> None:
    """Raise EngineError unless the model has these tensors; of inputs, it must need no others."""
    import openvino

    known = {name: port for port in ports for name in port.names}
    for spec in specs:
        if spec.name not in known:
            raise EngineError(f"the {kind} {spec.name} is not among {', '.join(sorted(known))}", where=where)
        port = known[spec.name]
        wanted = openvino.PartialShape([openvino.Dimension(), *spec.shape])
        found = (str(port.element_type.to_dtype()), port.partial_shape)
        if found[0] != spec.dtype or not found[1].compatible(wanted):
            raise EngineError(
                f"the {kind} {spec.name} is {found[0]} {found[1]}, not {spec.dtype} {wanted}", where=where
            )
    if kind == "input" and (others := [port for port in ports if not port.names & {spec.name for spec in specs}]):
        names = ", ".join(port.any_name for port in others)
        raise EngineError(f"the model also needs the input {names}", where=where)


def _reason(error: RuntimeError) -> str:
    """OpenVINO prints a stack of source locations; the reason is the last line that is not one."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = [line for line in lines if not line.startswith(("Exception from", "Check '"))]
    return (said or lines or ["no reason given"])[-1]


ENGINE = OpenVino()
