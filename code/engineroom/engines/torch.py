"""PyTorch, reached through the bridge: on an NVIDIA GPU where PyTorch sees one, else on the CPU.

It takes ONNX models, which its build step turns into an exported program; programs that torch.export saved (.pt2); and
TorchScript (.pt), which is how quantized models come, for the CPU.
"""

from __future__ import annotations

import itertools
import shutil
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engineroom.engines import BuildRequest, Engine
from engineroom.errors import EngineError
from engineroom.networks import from_onnx
from engineroom.paths import display
from engineroom.terms import Precision

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch

    from engineroom.config import RunConfig

    Arrays = tuple[npt.NDArray[np.generic], ...]
    Module = Callable[..., Any]

PROGRAM = "model.pt2"
TYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


class Torch(Engine):
    """All instances share one module; on GPUs each has a stream of its own, on the GPUs in turn."""

    name = "torch"
    native = False
    precisions = (Precision.INT8, Precision.BF16, Precision.FP32)
    formats = (".onnx", ".pt2", ".pt")
    takes_qdq = False
    modules = ("torch",)
    distributions = ("torch",)
    accelerator = "gpu"

    def settings_of(self, config: RunConfig) -> dict[str, str]:
        """Return the threads that help one inference on the CPU."""
        return {"threads": str(config.threads_per_instance)}

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

    module = from_onnx.module_of(Path(request.model), [spec.name for spec in request.outputs])
    examples = tuple(torch.zeros((2, *spec.shape), dtype=getattr(torch, spec.dtype)) for spec in request.inputs)
    batch = torch.export.Dim("batch", min=1)
    try:
        program = torch.export.export(module, examples, dynamic_shapes=tuple({0: batch} for _ in examples))
    except Exception as error:  # torch.export's errors are of many kinds
        raise EngineError(
            f"PyTorch cannot export this model: {_first_line(error)}", where=display(Path(request.model))
        ) from error
    torch.export.save(program, target)


def open_session(
    options: Mapping[str, str], inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Mapping[str, Any]]
) -> Callable[[Arrays], Sequence[npt.NDArray[np.generic]]]:
    """Load options["model"] and return a function from the inputs [n, *shape] to the outputs.

    Both are taken in the model's own order, for PyTorch's models do not name them. Raises EngineError in one line if
    the model cannot be loaded, or answers with another number of tensors.
    """
    import torch

    path = Path(options["model"])
    warnings.filterwarnings("ignore", "The given NumPy array is not writable")  # nothing here writes to inputs
    torch.set_num_threads(int(options["threads"]))
    on_gpu = torch.cuda.is_available() and path.suffix != ".pt"  # quantized TorchScript has no kernels there
    dtype = getattr(torch, TYPES[options["precision"]]) if options["precision"] in TYPES else None
    try:
        module = _load(path, dtype)
        infer = _OnGpus(module, dtype, options) if on_gpu else _on_cpu(module, dtype)
        count = len(infer(tuple(_zeros(spec) for spec in inputs)))
    except Exception as error:  # PyTorch's errors have no common base but this one
        raise EngineError(f"PyTorch cannot run this model: {_first_line(error)}", where=display(path)) from error
    if count != len(outputs):
        raise EngineError(f"the model answers with {count} tensors, not {len(outputs)}", where=display(path))
    return infer


def _load(path: Path, dtype: torch.dtype | None) -> Any:
    """Return the module, in evaluation mode, its weights of type `dtype`, laid out for convolutions."""
    import torch

    if path.suffix == ".pt":
        return torch.jit.load(path, map_location="cpu").eval()
    module = torch.export.load(path).module()
    return module.to(dtype=dtype, memory_format=torch.channels_last)


def _on_cpu(module: Module, dtype: torch.dtype | None) -> Callable[[Arrays], Sequence[npt.NDArray[np.generic]]]:
    import torch

    def infer(arrays: Arrays) -> Sequence[npt.NDArray[np.generic]]:
        with torch.inference_mode():
            return [
                _array(tensor) for tensor in _tensors(module(*(_typed(torch.from_numpy(a), dtype) for a in arrays)))
            ]

    return infer


class _OnGpus:
    """Each thread that calls has its GPU and its stream, from its first call on."""

    def __init__(self, module: Any, dtype: torch.dtype | None, options: Mapping[str, str]) -> None:
        import copy

        import torch

        self._dtype, self._batch_size = dtype, int(options["batch_size"])
        devices = range(torch.cuda.device_count())
        self._modules = [copy.deepcopy(module).to(f"cuda:{device}") for device in devices]
        if options.get("compile") == "true":
            self._modules = [torch.compile(module, dynamic=False) for module in self._modules]
        self._turns, self._own = itertools.count(), threading.local()

    def __call__(self, arrays: Arrays) -> Sequence[npt.NDArray[np.generic]]:
        """Infer a batch; what is missing from a full one is filled up, so that one shape is compiled and tuned."""
        import torch

        if not hasattr(self._own, "device"):
            self._own.device = next(self._turns) % len(self._modules)
            self._own.stream = torch.cuda.Stream(self._own.device)
        count = len(arrays[0])
        with torch.inference_mode(), torch.cuda.stream(self._own.stream):
            tensors = (self._full(torch.from_numpy(array)) for array in arrays)
            results = _tensors(self._modules[self._own.device](*tensors))
            return [_array(tensor[:count]) for tensor in results]

    def _full(self, tensor: torch.Tensor) -> torch.Tensor:
        import torch

        device = f"cuda:{self._own.device}"
        full = torch.zeros((max(self._batch_size, len(tensor)), *tensor.shape[1:]), dtype=tensor.dtype, device=device)
        full[: len(tensor)].copy_(tensor.pin_memory(), non_blocking=True)
        return _typed(full, self._dtype)


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


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


ENGINE = Torch()
