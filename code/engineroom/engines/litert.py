"""LiteRT (TensorFlow Lite) on the CPU, reached through the bridge: float and quantized .tflite models as they are.

LiteRT hands float and int8 layers to XNNPACK by itself; uint8 ones run on its own kernels.
"""

from __future__ import annotations

import math
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
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

MODEL = "model.tflite"


class LiteRt(Engine):
    """Each instance has an interpreter of its own, for one serves one thread at a time."""

    name = "litert"
    native = False
    precisions = (Precision.INT8, Precision.FP32)
    formats = (".tflite",)
    takes_qdq = False
    modules = ("ai_edge_litert",)
    distributions = ("ai-edge-litert",)

    def settings_of(self, config: RunConfig) -> dict[str, str]:
        """Return the threads that help one inference; 0 is the library's choice."""
        return {"num_threads": str(config.threads_per_instance)}

    def build(self, request: BuildRequest, folder: Path) -> dict[str, str]:
        """Keep a copy of the model. Raises EngineError if it has other tensors or another precision than asked for."""
        path = Path(request.model)
        interpreter = _interpreter(path, 1)
        _check(path, request, interpreter)
        quantized = _is_quantized(interpreter)
        if quantized != (request.precision is Precision.INT8):
            kind = "quantized" if quantized else "a float model"
            raise EngineError(
                f"is {kind}, it cannot run in {request.precision}",
                where=display(path),
                mend=f"add --precision={Precision.INT8 if quantized else Precision.FP32}, or give another model",
            )
        shutil.copyfile(path, folder / MODEL)
        return {"model": f"./{MODEL}", **request.settings}


def _check(path: Path, request: BuildRequest, interpreter: Any) -> None:
    """Raise EngineError unless the model has the tensors that are asked for, and its input stands for what was made."""
    _indices("input", [asdict(spec) for spec in request.inputs], interpreter.get_input_details(), path)
    _indices("output", [asdict(spec) for spec in request.outputs], interpreter.get_output_details(), path)
    if request.quantization is None:
        return
    wanted = (float(request.quantization.scale), request.quantization.zero_point)
    for detail in interpreter.get_input_details():
        scale, zero_point = detail["quantization"]
        if zero_point != wanted[1] or not math.isclose(scale, wanted[0], rel_tol=1e-6):  # stored in float32
            raise EngineError(
                f"the input {detail['name']} has scale {scale:.6g} and zero point {zero_point}, but its samples are "
                f"made with {wanted[0]:.6g} and {wanted[1]}",
                where=display(path),
                mend=f"run it as a model of your own, which is asked for them: --model_path={display(path)}",
            )


def _is_quantized(interpreter: Any) -> bool:
    """Whether the model computes in integers: some tensor that is computed has a scale."""
    return any(
        detail["quantization_parameters"]["scales"].size and detail["dtype"].__name__ in ("uint8", "int8", "int16")
        for detail in interpreter.get_tensor_details()
    )


def _interpreter(path: Path, threads: int) -> Any:
    """Return a new interpreter. Raises EngineError in one line if the model cannot be loaded."""
    from ai_edge_litert.interpreter import Interpreter

    try:
        return Interpreter(model_path=str(path), num_threads=threads or None)
    except Exception as error:  # ValueError and RuntimeError, as it happens
        reason = str(error).strip() or type(error).__name__
        raise EngineError(f"LiteRT cannot load this model: {reason.splitlines()[0]}", where=display(path)) from error


def open_session(
    options: Mapping[str, str], inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Mapping[str, Any]]
) -> Callable[[Arrays], Sequence[npt.NDArray[np.generic]]]:
    """Load options["model"] and return a function from the inputs [n, *shape] to the outputs, in the order asked for.

    `inputs` and `outputs` are TensorSpecs as mappings; of the model's shapes the first axis is the batch. Raises
    EngineError in one line if the model cannot be loaded or has other tensors.
    """
    path, threads = Path(options["model"]), int(options["num_threads"])
    first = _Session(path, threads, inputs, outputs)
    own = threading.local()
    own.session = first

    def infer(arrays: Arrays) -> Sequence[npt.NDArray[np.generic]]:
        if not hasattr(own, "session"):
            own.session = _Session(path, threads, inputs, outputs)
        results: Sequence[npt.NDArray[np.generic]] = own.session(arrays)
        return results

    return infer


class _Session:
    """One interpreter, for one thread."""

    def __init__(
        self, path: Path, threads: int, inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Mapping[str, Any]]
    ) -> None:
        self._interpreter = _interpreter(path, threads)
        self._inputs = _indices("input", inputs, self._interpreter.get_input_details(), path)
        self._outputs = _indices("output", outputs, self._interpreter.get_output_details(), path)
        self._shapes = [tuple(spec["shape"]) for spec in inputs]
        # A model with a batch of 1 written into it, in a Reshape for instance, gets its samples one by one.
        self._takes_batches = self._resize(2)
        self._resize(1)

    def __call__(self, arrays: Arrays) -> Sequence[npt.NDArray[np.generic]]:
        """Infer a batch."""
        import numpy as np

        count = len(arrays[0])
        if self._takes_batches or count == 1:
            return self._infer(arrays)
        single = [self._infer(tuple(array[i : i + 1] for array in arrays)) for i in range(count)]
        return [np.concatenate(results) for results in zip(*single, strict=True)]

    def _infer(self, arrays: Arrays) -> Sequence[npt.NDArray[np.generic]]:
        if len(arrays[0]) != self._batch_size:
            self._resize(len(arrays[0]))
        for index, array in zip(self._inputs, arrays, strict=True):
            self._interpreter.set_tensor(index, array)
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(index) for index in self._outputs]

    def _resize(self, count: int) -> bool:
        """Prepare for batches of `count`; tell whether the model can."""
        for index, shape in zip(self._inputs, self._shapes, strict=True):
            self._interpreter.resize_tensor_input(index, (count, *shape))
        self._batch_size = count
        try:
            self._interpreter.allocate_tensors()
        except RuntimeError:
            return False
        details = self._interpreter.get_output_details()
        return all(detail["shape"].size and detail["shape"][0] == count for detail in details)


def _indices(kind: str, specs: Sequence[Mapping[str, Any]], details: Sequence[Any], path: Path) -> list[int]:
    """Return the model's index of each tensor. Raises EngineError unless the model has these, and no other inputs."""
    known = {detail["name"]: detail for detail in details}
    for spec in specs:
        detail = known.get(spec["name"])
        if detail is None:
            raise EngineError(f"the {kind} {spec['name']} is not among {', '.join(known)}", where=display(path))
        found = (detail["dtype"].__name__, tuple(detail["shape_signature"][1:].tolist()))
        if found != (wanted := (spec["dtype"], tuple(spec["shape"]))):
            raise EngineError(
                f"the {kind} {spec['name']} is {found[0]} {list(found[1])}, not {wanted[0]} {list(wanted[1])}",
                where=display(path),
            )
    if kind == "input" and (others := known.keys() - {spec["name"] for spec in specs}):
        raise EngineError(f"the model also needs the input {', '.join(sorted(others))}", where=display(path))
    return [known[spec["name"]]["index"] for spec in specs]


ENGINE = LiteRt()
