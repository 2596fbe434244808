"""Post-training quantization by NVIDIA's ModelOpt, on the CPU. It decides itself what is worth int8 in TensorRT.

    python -m engineroom.calibrators.modelopt JOB

ModelOpt changes ONNX Runtime's tools for the whole process and writes to the terminal, so it works in one of its own.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from engineroom import shell
from engineroom.calibrators._post_training import Job, PostTraining, Ranges, batches, observable
from engineroom.errors import EngineError
from engineroom.qdq import Graph, read_model
from engineroom.terms import Observer

if TYPE_CHECKING:
    import onnx

    from engineroom.calibrators._post_training import Samples

METHODS = {Observer.MINMAX: "max", Observer.ENTROPY: "entropy"}  # ModelOpt's names
MOST = 127  # the largest magnitude of symmetric int8
ORDER, LOG, QUANTIZED = "order.json", "modelopt.log", "quantized.onnx"
_DONE = re.compile(r"calibrated ([0-9]+)")


class Order(msgspec.Struct, frozen=True):
    """What the process of its own is asked for. `samples` are .npy files by the input's name."""

    model: str
    samples: dict[str, str]
    method: str
    float_layers: list[str]


class ModelOpt(PostTraining):
    """Quantizes what ModelOpt chooses, but for the layers that shall stay in float."""

    name = "modelopt"
    modules = (*PostTraining.modules, "modelopt", "onnx_graphsurgeon")
    extra = "modelopt"
    distributions = (*PostTraining.distributions, "nvidia-modelopt")
    observers = tuple(METHODS)

    def quantize(self, job: Job) -> tuple[onnx.ModelProto, Ranges]:
        """Return ModelOpt's Q/DQ model and the ranges by its scales."""
        import onnx

        log, total = job.scratch / LOG, len(next(iter(job.samples.values())))

        def follow(line: str) -> None:
            if found := _DONE.fullmatch(line):
                job.progress(int(found[1]), total)

        command = [sys.executable, "-m", __name__, str(_write(job))]
        places = {"TMPDIR": str(job.scratch), "PYTHONPATH": os.pathsep.join(sys.path)}
        try:
            shell.run(command, cwd=job.scratch, env={**os.environ, **places}, log=log, on_line=follow)
        except shell.CommandError as error:
            said = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1]
            raise EngineError(f"ModelOpt cannot quantize it: {said}", where=job.model.name) from error
        model = onnx.load(job.scratch / QUANTIZED)
        return model, _ranges(Graph(model))


def _write(job: Job) -> Path:
    """Write down for the other process what it shall do; return the file."""
    import numpy as np

    files = {name: job.scratch / f"samples_{number}.npy" for number, name in enumerate(job.samples)}
    for name, path in files.items():
        np.save(path, job.samples[name])
    order = Order(
        model=str(job.model),
        samples={name: str(path) for name, path in files.items()},
        method=METHODS[job.settings.observer],
        float_layers=sorted(job.float_layers),
    )
    path = job.scratch / ORDER
    path.write_bytes(msgspec.json.encode(order))
    return path


def _ranges(graph: Graph) -> Ranges:
    """Return the range that each activation's scale covers."""
    return {name: (-MOST * scale, MOST * scale) for name, scale in sorted(graph.activation_scales().items())}


def main(argv: list[str]) -> None:
    """Do what the file argv[0] asks for, beside it, in the other process."""
    import numpy as np
    from modelopt.onnx.quantization import quantize
    from onnxruntime.quantization import CalibrationDataReader

    path = Path(argv[0])
    order = msgspec.json.decode(path.read_bytes(), type=Order)
    samples = {name: np.load(file, mmap_mode="r") for name, file in order.samples.items()}
    graph = Graph(read_model(Path(order.model)))

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        """Hands the samples over in batches, and says how far it is."""

        def __init__(self) -> None:
            self.rewind()

        def rewind(self) -> None:
            self._batches, self._done = batches(graph, observable(graph), samples), 0

        def get_first(self) -> Samples:
            return next(batches(graph, observable(graph), samples))[1]

        def get_next(self) -> Samples | None:
            print(f"calibrated {self._done}", flush=True)
            self._done, batch = next(self._batches, (self._done, None))
            return batch

    quantize(
        order.model,
        quantize_mode="int8",
        calibration_data_reader=Reader(),
        calibration_method=order.method,
        calibration_eps=["cpu"],
        nodes_to_exclude=[f"^{re.escape(name)}$" for name in order.float_layers],
        high_precision_dtype="fp32",  # what is not quantized stays as it is
        output_path=str(path.with_name(QUANTIZED)),
    )


CALIBRATOR = ModelOpt()

if __name__ == "__main__":
    main(sys.argv[1:])
