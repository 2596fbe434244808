"""Runs a TensorRT plan in Python, apart from the harness, so that the two can be told apart where answers are wrong.

One stream, one batch at a time, pageable copies: it is for looking at answers, and for no measurement. CUDA is reached
by cuda-python, whose functions return an error code before their results.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engineroom.engines._trt_builder import imported, loaded, logger_of, started
from engineroom.errors import EngineError
from engineroom.paths import display

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import tensorrt as trt

    Arrays = tuple[npt.NDArray[np.generic], ...]


def open_session(
    options: Mapping[str, str], inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Mapping[str, Any]]
) -> Callable[[Arrays], Sequence[npt.NDArray[np.generic]]]:
    """Load options["plan"] on the first of options["gpus"]; return a function from inputs [n, *shape] to outputs.

    Raises EngineError if the plan does not load, does not have these tensors, or CUDA fails.
    """
    api, cuda, plan = imported(), _cuda(), Path(options["plan"])
    device = int(options.get("gpus", "0").split(",")[0])
    _done(cuda, "cudaSetDevice", cuda.cudaSetDevice(device))
    logger = logger_of(detailed=False)
    runtime: trt.Runtime = started(lambda: api.Runtime(logger), logger, "runtime")
    engine: trt.ICudaEngine = loaded(runtime, plan.read_bytes(), logger, display(plan), options.get("built_with", ""))
    known = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    for spec in (*inputs, *outputs):
        if spec["name"] not in known:
            raise EngineError(f"the plan has no tensor {spec['name']}, only {', '.join(known)}", where=display(plan))
    context: trt.IExecutionContext | None = engine.create_execution_context()
    if context is None:
        what = f"no room for its {engine.device_memory_size_v2:,} bytes of activations"
        raise EngineError(f"TensorRT cannot run the plan: {what}", where=display(plan), mend="lower --batch_size")
    [stream] = _done(cuda, "cudaStreamCreate", cuda.cudaStreamCreate())

    def infer(arrays: Arrays) -> Sequence[npt.NDArray[np.generic]]:
        return _infer(cuda, context, stream, arrays, inputs, outputs)

    infer.runtime, infer.engine = runtime, engine  # type: ignore[attr-defined]  # they must outlive the context
    return infer


def _cuda() -> Any:
    """Return cuda-python's runtime API. Raises EngineError if it is not here."""
    try:
        from cuda.bindings import runtime
    except ImportError as error:
        raise EngineError(
            f"cuda-python cannot be loaded: {error}", mend='install it with: make install RUN_ARGS="--engine=tensorrt"'
        ) from error
    return runtime


def _done(cuda: Any, name: str, answer: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return what a function of CUDA's gave beside its error code. Raises EngineError with CUDA's name and words."""
    code, *results = answer
    if code != cuda.cudaError_t.cudaSuccess:
        text = cuda.cudaGetErrorString(code)[1]
        words = text.decode(errors="replace") if isinstance(text, bytes) else str(text)
        raise EngineError(f"{name}: {code.name} ({words})", mend="sudo dmesg | grep -i xid shows what the driver saw")
    return tuple(results)


def _infer(
    cuda: Any,
    context: trt.IExecutionContext,
    stream: Any,
    arrays: Arrays,
    inputs: Sequence[Mapping[str, Any]],
    outputs: Sequence[Mapping[str, Any]],
) -> list[npt.NDArray[np.generic]]:
    import numpy as np

    count, buffers = len(arrays[0]), []
    results = [np.empty((count, *spec["shape"]), spec["dtype"]) for spec in outputs]
    names = [spec["name"] for spec in (*inputs, *outputs)]
    given = [np.ascontiguousarray(array) for array in arrays]
    kinds = cuda.cudaMemcpyKind
    try:
        for name, array in zip(names, (*given, *results), strict=True):
            [buffer] = _done(cuda, f"cudaMalloc of {array.nbytes:,} bytes for {name}", cuda.cudaMalloc(array.nbytes))
            buffers.append(buffer)
            context.set_tensor_address(name, int(buffer))
        for name, array, buffer in zip(names, given, buffers, strict=False):
            if not context.set_input_shape(name, tuple(array.shape)):
                raise EngineError(f"the plan takes no {name} of shape {list(array.shape)}", mend="lower the batch")
            answer = cuda.cudaMemcpy(buffer, array.ctypes.data, array.nbytes, kinds.cudaMemcpyHostToDevice)
            _done(cuda, f"cudaMemcpy of {name}", answer)
        if not context.execute_async_v3(int(stream)):
            raise EngineError("TensorRT could not start the inference; it says why in the lines above")
        _done(cuda, "cudaStreamSynchronize", cuda.cudaStreamSynchronize(stream))
        for name, result, buffer in zip(names[len(given) :], results, buffers[len(given) :], strict=True):
            answer = cuda.cudaMemcpy(result.ctypes.data, buffer, result.nbytes, kinds.cudaMemcpyDeviceToHost)
            _done(cuda, f"cudaMemcpy of {name}", answer)
    finally:
        for buffer in buffers:
            cuda.cudaFree(buffer)
    return results
