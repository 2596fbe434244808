"""ONNX Runtime on the CPU, reached through the bridge: runs float and Q/DQ models as they are, without a build step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engineroom.engines import BuildRequest, Engine
from engineroom.errors import EngineError
from engineroom.paths import display
from engineroom.terms import Precision

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from engineroom.config import RunConfig

    Arrays = tuple[npt.NDArray[np.generic], ...]

PROVIDERS = ("CPUExecutionProvider",)
ERRORS_ONLY = 3  # log severity: the reasons of errors arrive as exceptions anyway
# ONNX Runtime's names of NumPy's types, where they differ.
TENSOR_TYPES = {"float32": "float", "float64": "double", "float16": "float16"}


class OnnxRuntime(Engine):
    """All instances share one session, and with it the threads that help one inference."""

    name = "onnxruntime"
    native = False
    precisions = (Precision.INT8, Precision.FP32)
    modules = ("onnxruntime",)
    distributions = ("onnxruntime",)

    def settings_of(self, config: RunConfig) -> dict[str, str]:
        """Return the thread counts; 0 is the library's choice. Operators run one after another."""
        return {"intra_op_num_threads": str(config.threads_per_instance), "inter_op_num_threads": "1"}

    def build(self, request: BuildRequest, folder: Path) -> dict[str, str]:
        """There is nothing to build; the session needs the model and the settings."""
        return {**super().build(request, folder), **request.settings}


def open_session(
    options: Mapping[str, str], inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Mapping[str, Any]]
) -> Callable[[Arrays], Sequence[npt.NDArray[np.generic]]]:
    """Load options["model"] and return a function from the inputs [n, *shape] to the outputs, in the order asked for.

    `inputs` and `outputs` are TensorSpecs as mappings. The arrays are not copied. Raises EngineError in one line if
    the model cannot be loaded or has other tensors.
    """
    import onnxruntime

    path = Path(options["model"])
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = int(options["intra_op_num_threads"])
    settings.inter_op_num_threads = int(options["inter_op_num_threads"])
    settings.log_severity_level = ERRORS_ONLY
    try:
        session = onnxruntime.InferenceSession(path, settings, providers=list(PROVIDERS))
    except Exception as error:  # ONNX Runtime's errors have no common base but this one
        raise EngineError(f"ONNX Runtime cannot load this model: {_first_line(error)}", where=display(path)) from error
    _check("input", inputs, session.get_inputs(), path)
    _check("output", outputs, session.get_outputs(), path)
    names = [spec["name"] for spec in inputs]
    wanted = [spec["name"] for spec in outputs]

    def infer(arrays: Arrays) -> Sequence[npt.NDArray[np.generic]]:
        results: Sequence[npt.NDArray[np.generic]] = session.run(wanted, dict(zip(names, arrays, strict=True)))
        return results

    return infer


def _check(kind: str, specs: Sequence[Mapping[str, Any]], nodes: Sequence[Any], path: Path) -> None:
    """Raise EngineError unless the model has these tensors with their types; of inputs, it must need no others."""
    types = {node.name: node.type for node in nodes}
    for spec in specs:
        expected = f"tensor({TENSOR_TYPES.get(spec['dtype'], spec['dtype'])})"
        if types.get(spec["name"]) != expected:
            has = f"is {types[spec['name']]}" if spec["name"] in types else f"is not among {', '.join(types)}"
            raise EngineError(f"the {kind} {spec['name']}, {expected}, {has}", where=display(path))
    others = types.keys() - {spec["name"] for spec in specs}
    if kind == "input" and others:
        raise EngineError(f"the model also needs the input {', '.join(sorted(others))}", where=display(path))


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


ENGINE = OnnxRuntime()
