"""PyTorch, reached through the bridge: on an NVIDIA GPU where PyTorch sees one, else on the CPU.

It takes ONNX models, which its build step turns into an exported program; programs that torch.export saved (.pt2); and
TorchScript (.pt), which is how quantized models come, for the CPU.
"""

from __future__ import annotations

import copy
import ctypes
import itertools
import shutil
import threading
import warnings
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engineroom import qdq
from engineroom.engines import BuildRequest, Engine
from engineroom.errors import EngineError
from engineroom.networks import from_onnx
from engineroom.paths import display
from engineroom.qdq import Graph, read_model
from engineroom.terms import Precision, TensorSpec

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch

    from engineroom.config import RunConfig
    from engineroom.detection import Machine

    Arrays = tuple[npt.NDArray[np.generic], ...]
    Module = Callable[..., Any]

PROGRAM = "model.pt2"
TYPES = {Precision.FP32: "float32", Precision.BF16: "bfloat16", Precision.FP16: "float16"}


class Torch(Engine):
    """All instances share one module; on GPUs each has a stream of its own, on the GPUs in turn."""

    name = "torch"
    native = False
    precisions = (Precision.INT8, Precision.BF16, Precision.FP16, Precision.FP32)
    formats = (".onnx", ".pt2", ".pt")
    takes_qdq = False
    modules = ("torch",)
    distributions = ("torch", "onnx", "onnxruntime")  # the latter two read and fold ONNX models
    sources = (Path(from_onnx.__file__), Path(qdq.__file__))
    accelerator = "gpu"

    def precisions_on(self, machine: Machine, config: RunConfig) -> tuple[Precision, ...]:
        """Return all on GPUs; CPUs compute in fp16 slower than in fp32, and no better than in bf16."""
        return tuple(each for each in self.precisions if machine.gpus or each is not Precision.FP16)

    def accelerator_with(self, settings: Mapping[str, Any]) -> str | None:
        """Return "gpu" but for int8, which is quantized TorchScript."""
        return None if settings.get("precision") == Precision.INT8 else "gpu"

    def settings_of(self, config: RunConfig) -> dict[str, str]:
        """Return the threads that help one inference on the CPU, 0 for PyTorch's choice, and whether to compile."""
        return {"threads": str(config.threads_per_instance), "compile": str(config.torch_compile).lower()}

    def build(self, request: BuildRequest, folder: Path) -> dict[str, str]:
        """Export an ONNX model, or keep a copy of a model that is PyTorch's own.

        Raises EngineError if the model cannot be exported, or is not one of the precision asked for.
        """
        source = Path(request.model)
        if (source.suffix == ".pt") != (request.precision is Precision.INT8):
            raise EngineError(
                f"PyTorch cannot run this model in {request.precision}",
                where=display(source),
                mend="int8 needs TorchScript that came quantized (.pt); it runs in no other precision",
            )
        if source.suffix != ".onnx" and not zipfile.is_zipfile(source):
            raise EngineError("is not a file that torch.export or torch.jit saved", where=display(source))
        target = folder / (PROGRAM if source.suffix == ".onnx" else f"model{source.suffix}")
        if source.suffix == ".onnx":
            _export(request, target)
        else:
            shutil.copyfile(source, target)
        kind = {"precision": request.precision.value, "batch_size": str(request.batch_size)}
        return {"model": f"./{target.name}", **kind, **request.settings}


def _export(request: BuildRequest, target: Path) -> None:
    """Write the ONNX model as a program whose batch may have any length."""
    import torch

    _check_inputs(Path(request.model), request.inputs)
    module = from_onnx.module_of(Path(request.model), [spec.name for spec in request.outputs])
    examples = tuple(torch.zeros((2, *spec.shape), dtype=getattr(torch, spec.dtype)) for spec in request.inputs)
    batch = torch.export.Dim("batch", min=1)
    try:
        program = torch.export.export(module, examples, dynamic_shapes=tuple({0: batch} for _ in examples))
    except Exception as error:  # torch.export's errors are of many kinds
        raise EngineError(
            f"PyTorch cannot export this model: {_reason(error)}", where=display(Path(request.model))
        ) from error
    torch.export.save(program, target)


def _check_inputs(path: Path, specs: Sequence[TensorSpec]) -> None:
    """Raise EngineError unless the ONNX model has these inputs in this order, for PyTorch will not know their names."""
    from onnx import helper

    graph = Graph(read_model(path))
    tensors = [tensor for tensor in graph.model.graph.input if not graph.is_constant(tensor.name)]
    names = [tensor.name for tensor in tensors]
    if names != [spec.name for spec in specs]:
        said = ", ".join(spec.name for spec in specs)
        raise EngineError(f"the model takes the inputs {', '.join(names)}, not {said}", where=display(path))
    for tensor, spec in zip(tensors, specs, strict=True):
        dtype = str(helper.tensor_dtype_to_np_dtype(tensor.type.tensor_type.elem_type))
        shape = list(graph.shape(tensor.name) or ())[1:]
        open_or_same = [
            not have or isinstance(have, str) or have == want for have, want in zip(shape, spec.shape, strict=False)
        ]
        if dtype != spec.dtype or len(shape) != len(spec.shape) or not all(open_or_same):
            raise EngineError(
                f"the input {spec.name} is {dtype} {shape}, not {spec.dtype} {list(spec.shape)}", where=display(path)
            )


def open_session(
    options: Mapping[str, str], inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Mapping[str, Any]]
) -> Callable[[Arrays], Sequence[npt.NDArray[np.generic]]]:
    """Load options["model"] and return a function from the inputs [n, *shape] to the outputs.

    Both are taken in the model's own order, for PyTorch's models do not name them. Raises EngineError in one line if
    the model cannot be loaded, or has other tensors.
    """
    import torch

    path, precision = Path(options["model"]), Precision(options["precision"])
    on_gpu = torch.cuda.is_available() and path.suffix != ".pt"  # quantized TorchScript has no kernels there
    if precision is Precision.FP16 and not on_gpu:
        raise EngineError("PyTorch sees no GPU, and fp16 is for GPUs", mend="add --precision=bf16 or --precision=fp32")
    warnings.filterwarnings("ignore", "The given NumPy array is not writable")  # nothing here writes to inputs
    warnings.filterwarnings("ignore", "`torch.jit.load` is deprecated", DeprecationWarning)  # quantized models need it
    if threads := int(options["threads"]):
        torch.set_num_threads(threads)  # of each thread that infers: they do not share them
    torch.backends.cudnn.allow_tf32 = False  # fp32 means fp32
    torch.backends.cudnn.benchmark = True  # it meets one shape only
    session = (_OnGpus if on_gpu else _OnCpu)(options, precision, inputs)
    try:
        answers = session.load(_load(path, session.dtype))
    except Exception as error:  # PyTorch's errors have no common base but this one
        raise EngineError(f"PyTorch cannot run this model: {_reason(error)}", where=display(path)) from error
    _check(answers, outputs, path)
    return session


def _load(path: Path, dtype: torch.dtype | None) -> Any:
    """Return the module, in evaluation mode, its weights of type `dtype`, laid out for convolutions."""
    import torch

    if path.suffix == ".pt":
        return torch.jit.load(path, map_location="cpu").eval()
    module = torch.export.load(path).module()
    return module.to(dtype=dtype, memory_format=torch.channels_last)


def _check(answers: Sequence[npt.NDArray[np.generic]], outputs: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Raise EngineError unless the answers to one sample are what is declared."""
    if len(answers) != len(outputs):
        raise EngineError(f"the model answers with {len(answers)} tensors, not {len(outputs)}", where=display(path))
    for answer, spec in zip(answers, outputs, strict=True):
        found, wanted = (str(answer.dtype), answer.shape), (spec["dtype"], (1, *spec["shape"]))
        if found != wanted:
            raise EngineError(
                f"the output {spec['name']} is {found[0]} {list(found[1][1:])}, not {wanted[0]} {spec['shape']}",
                where=display(path),
            )


class _OnCpu:
    """All threads call the one module; a compiled one always gets full batches, so that it is compiled once."""

    def __init__(self, options: Mapping[str, str], precision: Precision, inputs: Sequence[Mapping[str, Any]]) -> None:
        import torch

        self.dtype = getattr(torch, TYPES[precision]) if precision in TYPES else None
        self._batch_size, self._inputs = int(options["batch_size"]), inputs
        self._compiles = options["compile"] == "true"

    def load(self, module: Module) -> Sequence[npt.NDArray[np.generic]]:
        """Take the module that is to run; return its answer to one sample of zeros."""
        _keep_freed_memory()
        self._module = self._compiled(module)
        return self(tuple(_zeros(spec) for spec in self._inputs))

    def __call__(self, arrays: Arrays) -> Sequence[npt.NDArray[np.generic]]:
        """Infer a batch."""
        import torch

        count = len(arrays[0])
        rows = self._batch_size if self._compiles else count
        with torch.inference_mode():
            tensors = (_typed(_filled(torch.from_numpy(array), rows), self.dtype) for array in arrays)
            return [_array(tensor[:count]) for tensor in _tensors(self._module(*tensors))]

    def _compiled(self, module: Module) -> Module:
        import torch

        compiled: Module = torch.compile(module, dynamic=False) if self._compiles else module
        return compiled


class _OnGpus(_OnCpu):
    """Each thread that calls has its GPU, its stream and its staging memory, from its first call on.

    A last, smaller batch is filled up with what was there before: one shape is compiled and tuned, and no other.
    """

    def load(self, module: Any) -> Sequence[npt.NDArray[np.generic]]:
        """Copy the module to every GPU and run it there, for what takes long at the first time; return as above."""
        import torch

        devices = range(torch.cuda.device_count())
        self._modules = [self._compiled(copy.deepcopy(module).to(f"cuda:{device}")) for device in devices]
        for device in devices:
            self._turns, self._own = itertools.count(device), threading.local()
            answers = self(tuple(_zeros(spec) for spec in self._inputs))
        self._turns, self._own = itertools.count(), threading.local()
        return answers

    def __call__(self, arrays: Arrays) -> Sequence[npt.NDArray[np.generic]]:
        """Infer a batch."""
        import torch

        own, count = self._own, len(arrays[0])
        if not hasattr(own, "stream"):
            self._settle()
        with torch.inference_mode(), torch.cuda.device(own.device), torch.cuda.stream(own.stream):
            for array, pinned, tensor in zip(arrays, own.pinned, own.tensors, strict=True):
                pinned[:count].copy_(torch.from_numpy(array))
                tensor[:count].copy_(pinned[:count], non_blocking=True)
            results = _tensors(self._modules[own.device](*(_typed(tensor, self.dtype) for tensor in own.tensors)))
            # Waits for the stream, so that the staging memory is free for the next batch.
            return [_array(tensor[:count]) for tensor in results]

    def _settle(self) -> None:
        """Give the calling thread what it keeps."""
        import torch

        own = self._own
        own.device = next(self._turns) % len(self._modules)
        own.stream = torch.cuda.Stream(own.device)
        with torch.cuda.device(own.device), torch.cuda.stream(own.stream):
            sizes = [((self._batch_size, *spec["shape"]), getattr(torch, spec["dtype"])) for spec in self._inputs]
            own.pinned = [torch.zeros(shape, dtype=dtype, pin_memory=True) for shape, dtype in sizes]
            own.tensors = [pinned.to(f"cuda:{own.device}") for pinned in own.pinned]


def _keep_freed_memory() -> None:
    """Let the C library keep what tensors free. By default it gives large pieces back and fetches them anew.

    Half of the time that the kernel took for ResNet-50 in batches of 16 went there, a tenth of all.
    """
    mmap_threshold, trim_threshold = -3, -1  # glibc's malloc.h
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        mallopt(mmap_threshold, 1 << 30)
        mallopt(trim_threshold, (1 << 31) - 1)


def _filled(tensor: torch.Tensor, rows: int) -> torch.Tensor:
    """Return a batch of `rows` samples, the missing ones zeros."""
    if len(tensor) == rows:
        return tensor
    full = tensor.new_zeros((rows, *tensor.shape[1:]))
    full[: len(tensor)] = tensor
    return full


def _typed(tensor: torch.Tensor, dtype: torch.dtype | None) -> torch.Tensor:
    """Return a float tensor in the type and layout of the weights; other tensors as they are."""
    import torch

    if dtype is None or not tensor.is_floating_point():
        return tensor
    layout = torch.channels_last if tensor.ndim == 4 else torch.preserve_format
    return tensor.to(dtype=dtype, memory_format=layout)


def _tensors(result: Any) -> Sequence[torch.Tensor]:
    return result if isinstance(result, (tuple, list)) else [result]


def _array(tensor: torch.Tensor) -> npt.NDArray[np.generic]:
    """Return a tensor as the harness takes it: on the CPU, in one piece, and scores in float32."""
    found: npt.NDArray[np.generic] = (
        (tensor.float() if tensor.is_floating_point() else tensor).cpu().contiguous().numpy()
    )
    return found


def _zeros(spec: Mapping[str, Any]) -> npt.NDArray[np.generic]:
    import numpy as np

    return np.zeros((1, *spec["shape"]), spec["dtype"])


def _reason(error: Exception) -> str:
    """Return the line that says what is wrong: the first, but TorchScript's errors begin with where they happened."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1 if "TorchScript" in lines[0] else 0]


ENGINE = Torch()
