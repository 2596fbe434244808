"""ONNX Runtime, reached through the bridge: on the CPU, or with its GPU build through its CUDA or TensorRT provider."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from engineroom.engines import MODEL, BuildRequest, Engine, keep
from engineroom.errors import EngineError, RequestError
from engineroom.paths import display
from engineroom.terms import ExecutionProvider, Precision

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from engineroom.config import RunConfig
    from engineroom.detection import Machine

    Arrays = tuple[npt.NDArray[np.generic], ...]

# onnxruntime.ai, "Quantize ONNX models", "Quantization on GPU": int8 on GPUs is TensorRT's, CUDA's provider would only
# compute its Q/DQ nodes in float.
PRECISIONS = {
    ExecutionProvider.CPU: (Precision.INT8, Precision.FP32),
    ExecutionProvider.CUDA: (Precision.FP16, Precision.FP32),
    ExecutionProvider.TENSORRT: (Precision.INT8, Precision.BF16, Precision.FP16, Precision.FP32),
}
NAMES = {
    ExecutionProvider.CPU: "CPUExecutionProvider",
    ExecutionProvider.CUDA: "CUDAExecutionProvider",
    ExecutionProvider.TENSORRT: "TensorrtExecutionProvider",
}
# Both builds are the same package to Python: of two, the one that was installed last would answer in part.
GPU_BUILD = (
    "install its GPU build in place of it: build/venv/bin/pip uninstall onnxruntime, then "
    'build/venv/bin/pip install "onnxruntime-gpu[cuda,cudnn]=={version}"; or leave out --execution_provider'
)
ERRORS_ONLY = 3  # log severity: the reasons of errors arrive as exceptions anyway
# ONNX Runtime's names of NumPy's types, where they differ.
TENSOR_TYPES = {"float32": "float", "float64": "double", "float16": "float16"}


class OnnxRuntime(Engine):
    """All instances share one session, and with it the threads that help one inference, or the first visible GPU."""

    name = "onnxruntime"
    native = False
    precisions = (Precision.INT8, Precision.BF16, Precision.FP16, Precision.FP32)
    modules = ("onnxruntime",)
    distributions = ("onnxruntime", "onnxruntime-gpu")

    def check_settings(self, config: RunConfig) -> None:
        """Raise RequestError if ONNX Runtime is not here, or is a build without the provider that is asked for."""
        self.check_installed()
        if config.execution_provider is not ExecutionProvider.CPU:  # which every build has
            _check_provider(config.execution_provider)

    def precisions_on(self, machine: Machine, config: RunConfig) -> tuple[Precision, ...]:
        """Return those that the chosen provider has."""
        return PRECISIONS[config.execution_provider]

    def accelerator_with(self, settings: Mapping[str, Any]) -> str | None:
        """Return "gpu" for the providers that run there."""
        return None if settings.get("execution_provider", ExecutionProvider.CPU) == ExecutionProvider.CPU else "gpu"

    def settings_of(self, config: RunConfig) -> dict[str, str]:
        """Return the provider and the thread counts; 0 is the library's choice. Operators run one after another."""
        return {
            "execution_provider": config.execution_provider.value,
            "intra_op_num_threads": str(config.threads_per_instance),
            "inter_op_num_threads": "1",
        }

    def build(self, request: BuildRequest, folder: Path) -> dict[str, str]:
        """Keep the model, for CUDA in fp16 converted, for TensorRT with the engine that it compiles for this GPU."""
        converted = request.settings["execution_provider"] == ExecutionProvider.CUDA
        if converted and request.precision is Precision.FP16:
            _write_fp16(Path(request.model), folder / MODEL)
        else:
            keep(Path(request.model), folder / MODEL)
        kind = {"precision": request.precision.value, "batch_size": str(request.batch_size)}
        options = {"model": str(folder / MODEL), **kind, **request.settings}
        if request.settings["execution_provider"] == ExecutionProvider.TENSORRT:
            open_session(options, msgspec.to_builtins(request.inputs), msgspec.to_builtins(request.outputs))
        return {**options, "model": f"./{MODEL}"}


def _write_fp16(source: Path, target: Path) -> None:
    """Write the model with weights and activations in float16, inputs and outputs as they are."""
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    try:
        onnx.save(convert_float_to_float16(onnx.load(source), keep_io_types=True), target)
    except Exception as error:  # the converter's and protobuf's errors have no common base but this one
        raise EngineError(f"cannot be converted to fp16: {_first_line(error)}", where=display(source)) from error


def open_session(
    options: Mapping[str, str], inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Mapping[str, Any]]
) -> Callable[[Arrays], Sequence[npt.NDArray[np.generic]]]:
    """Load options["model"] and return a function from the inputs [n, *shape] to the outputs, in the order asked for.

    `inputs` and `outputs` are TensorSpecs as mappings. The arrays are not copied. Raises EngineError in one line if
    the model cannot be loaded or has other tensors, or if the provider does not take the session; RequestError if this
    build of ONNX Runtime has not the provider.
    """
    path, provider = Path(options["model"]), ExecutionProvider(options["execution_provider"])
    session = _session(path, provider, options)
    _check("input", inputs, session.get_inputs(), path)
    _check("output", outputs, session.get_outputs(), path)
    names = [spec["name"] for spec in inputs]
    wanted = [spec["name"] for spec in outputs]

    def infer(arrays: Arrays) -> Sequence[npt.NDArray[np.generic]]:
        results: Sequence[npt.NDArray[np.generic]] = session.run(wanted, dict(zip(names, arrays, strict=True)))
        return results

    if provider is ExecutionProvider.CPU:
        return infer
    filled = _filled(infer, int(options["batch_size"]))
    filled(tuple(_zeros(spec) for spec in inputs))  # what is compiled or tuned for this shape, is it now
    return filled


def _session(path: Path, provider: ExecutionProvider, options: Mapping[str, str]) -> Any:
    """Return a session that `provider` has taken. ONNX Runtime itself would go on with the CPU, which is refused."""
    import onnxruntime

    name = NAMES[provider]
    _check_provider(provider)
    if provider is not ExecutionProvider.CPU:
        with contextlib.redirect_stdout(sys.stderr):  # where it says which library it does not find
            onnxruntime.preload_dlls()  # CUDA and cuDNN of NVIDIA's Python packages, which no loader's path names
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = int(options["intra_op_num_threads"])
    settings.inter_op_num_threads = int(options["inter_op_num_threads"])
    settings.log_severity_level = ERRORS_ONLY
    try:
        session = onnxruntime.InferenceSession(
            path, settings, providers=_providers(provider, path, options), enable_fallback=0
        )
    except Exception as error:  # ONNX Runtime's errors have no common base but this one
        raise EngineError(f"ONNX Runtime cannot load this model: {_first_line(error)}", where=display(path)) from error
    if (taken := session.get_providers()[0]) != name:
        raise EngineError(
            f"{name} could not be loaded, and {taken} is not what was asked for",
            mend="ONNX Runtime says why in the lines before; its CUDA, cuDNN and TensorRT must be the ones it names",
        )
    return session


def _check_provider(provider: ExecutionProvider) -> None:
    """Raise RequestError unless this build of ONNX Runtime has the provider."""
    import onnxruntime

    name, known = NAMES[provider], onnxruntime.get_available_providers()
    if name not in known:
        raise RequestError(
            f"this ONNX Runtime has no {name}, only {', '.join(known)}",
            where="execution_provider",
            mend=GPU_BUILD.format(version=onnxruntime.__version__),
        )


def _providers(provider: ExecutionProvider, path: Path, options: Mapping[str, str]) -> list[tuple[str, dict[str, str]]]:
    """Return the providers in their order, with their options: what one cannot run falls to the next.

    onnxruntime.ai, "CUDA Execution Provider" and "TensorRT Execution Provider", "Configurations".
    """
    cuda = (NAMES[ExecutionProvider.CUDA], {"use_tf32": "0"})  # fp32 means fp32
    cpu: tuple[str, dict[str, str]] = (NAMES[ExecutionProvider.CPU], {})
    if provider is ExecutionProvider.CPU:
        return [cpu]
    if provider is ExecutionProvider.CUDA:
        return [cuda, cpu]
    cache = {"trt_engine_cache_enable": "1", "trt_engine_cache_path": str(path.parent)}
    precision = {} if options["precision"] == Precision.FP32 else {f"trt_{options['precision']}_enable": "1"}
    return [(NAMES[provider], {**cache, **precision}), cuda, cpu]


def _filled(infer: Callable[[Arrays], Sequence[Any]], batch_size: int) -> Callable[[Arrays], Sequence[Any]]:
    """Fill a last, smaller batch up: for another shape, TensorRT would compile and cuDNN search while the clock runs.

    TensorRT's profiles, which allow a range of shapes, cannot be said for inputs with a colon in their name.
    """
    import numpy as np

    def infer_full(arrays: Arrays) -> Sequence[npt.NDArray[np.generic]]:
        count = len(arrays[0])
        if count == batch_size:
            return infer(arrays)
        missing = [np.zeros((batch_size - count, *array.shape[1:]), array.dtype) for array in arrays]
        full = tuple(np.concatenate(pair) for pair in zip(arrays, missing, strict=True))
        return [result[:count] for result in infer(full)]

    return infer_full


def _zeros(spec: Mapping[str, Any]) -> npt.NDArray[np.generic]:
    import numpy as np

    return np.zeros((1, *spec["shape"]), spec["dtype"])


def _check(kind: str, specs: Sequence[Mapping[str, Any]], nodes: Sequence[Any], path: Path) -> None:
    """Raise EngineError unless the model has these tensors with their types; of inputs, it must need no others."""
    found = {node.name: node for node in nodes}
    for spec in specs:
        name, expected = spec["name"], f"tensor({TENSOR_TYPES.get(spec['dtype'], spec['dtype'])})"
        if name not in found:
            raise EngineError(f"the {kind} {name}, {expected}, is not among {', '.join(found)}", where=display(path))
        if found[name].type != expected:
            raise EngineError(f"the {kind} {name}, {expected}, is {found[name].type}", where=display(path))
        shape = found[name].shape[1:]
        if not _fits(shape, spec["shape"]):
            raise EngineError(f"the {kind} {name} is {shape}, not {list(spec['shape'])}", where=display(path))
    others = found.keys() - {spec["name"] for spec in specs}
    if kind == "input" and others:
        raise EngineError(f"the model also needs the input {', '.join(sorted(others))}", where=display(path))


def _fits(shape: Sequence[Any], wanted: Sequence[int]) -> bool:
    """Whether a sample's shape is the wanted one; a length that the model leaves open has a name, or none."""
    return len(shape) == len(wanted) and all(
        have == want or not isinstance(have, int) for have, want in zip(shape, wanted, strict=True)
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


ENGINE = OnnxRuntime()
