"""The child process that runs one LoadGen test: reads a recipe's harness.json and hands it to the native harness.

    python -m engineroom.child RECIPE/harness.json RUN_DIR [--probe SECONDS]

It imports as little as it can, so that it starts at once. Whatever goes wrong ends it with status 3, an error.json
in RUN_DIR and the same words on stderr; from the first inference on the native harness writes that record itself.
"""

from __future__ import annotations

import ast
import json
import os
import signal
import struct
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn

from engineroom import registry
from engineroom.errors import EngineroomError

if TYPE_CHECKING:
    import engineroom_native as native

EXIT_ENGINE = 3
PARENT_VARIABLE = "ENGINEROOM_PARENT_PID"
_PR_SET_PDEATHSIG = 1
_NPY_DTYPES = {"f": "float", "i": "int", "u": "uint", "b": "bool"}


class ChildError(Exception):
    """What goes into error.json: `what` is wrong, `where` (a phase of the run), how to `mend` it."""

    def __init__(self, what: str, *, where: str, mend: str | None = None) -> None:
        super().__init__(what)
        self.what, self.where, self.mend = what, where, mend


@dataclass(frozen=True)
class NpyHeader:
    """What a .npy file says about itself: `shape` has the samples on axis 0, the data begin at `offset_bytes`."""

    dtype: str
    shape: tuple[int, ...]
    offset_bytes: int


def main(argv: Sequence[str] | None = None) -> int:
    """Run the test, or the probe; returns 0. Errors end the process with status 3."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    probe_seconds = 0.0
    if len(arguments) == 4 and arguments[2] == "--probe":
        probe_seconds = float(arguments[3])
    elif len(arguments) != 2:
        print("usage: python -m engineroom.child RECIPE/harness.json RUN_DIR [--probe SECONDS]", file=sys.stderr)
        return 2
    run_dir = Path(arguments[1]).resolve()
    follow_parent()
    try:
        _run(Path(arguments[0]).resolve(), run_dir, probe_seconds)
    except ChildError as error:
        _fail(run_dir, error)
    except Exception as error:  # a mistake of ours or of an engine's module: the record must exist all the same
        _fail(run_dir, ChildError(f"{type(error).__name__}: {error}", where="engine load"))
    return 0


def read_npy_header(path: Path) -> NpyHeader:
    """Read the header of a .npy file (NumPy's format 1.0 to 3.0) without importing numpy. Raises ChildError."""
    try:
        with path.open("rb") as file:
            return _parse_npy_header(file)
    except OSError as error:
        raise ChildError(f"cannot read {path}: {error.strerror}", where="samples", mend=_PREPROCESS) from error
    except (ValueError, SyntaxError, KeyError, struct.error) as error:
        raise ChildError(f"{path} is not a .npy file: {error}", where="samples", mend=_PREPROCESS) from error


_PREPROCESS = "delete it and run `make preprocess_data`"


def _parse_npy_header(file: BinaryIO) -> NpyHeader:
    magic = file.read(8)
    if magic[:6] != b"\x93NUMPY":
        raise ValueError("its first bytes are wrong")
    length = struct.unpack("<H", file.read(2))[0] if magic[6] == 1 else struct.unpack("<I", file.read(4))[0]
    header = ast.literal_eval(file.read(length).decode("utf-8"))
    descr, shape = header["descr"], header["shape"]
    if header["fortran_order"] and len(shape) > 1:
        raise ValueError("its arrays are in Fortran order")
    if not isinstance(descr, str) or descr[0] not in "<|" or descr[1] not in _NPY_DTYPES:
        raise ValueError(f"its type {descr!r} is not a little-endian number")
    bits = "" if descr[1] == "b" else str(8 * int(descr[2:]))
    return NpyHeader(_NPY_DTYPES[descr[1]] + bits, tuple(shape), file.tell())


def follow_parent() -> None:
    """Die with the parent and leave the terminal's interrupt to it; run by hand, an interrupt ends this process."""
    parent = os.environ.get(PARENT_VARIABLE)
    signal.signal(signal.SIGINT, signal.SIG_IGN if parent else signal.SIG_DFL)
    if parent:
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != int(parent):
            os._exit(EXIT_ENGINE)  # it died before the line above


def _run(recipe_path: Path, run_dir: Path, probe_seconds: float) -> None:
    recipe = _read_recipe(recipe_path)
    _keep_to(recipe.get("cpus", []))
    _check_native()
    import engineroom_native as native

    config = _harness_config(recipe, recipe_path.parent, run_dir)
    spec = _engine_spec(recipe)
    session = _python_session(recipe)
    if probe_seconds:
        _write_probe(run_dir, native.probe(config, spec, probe_seconds, session))
    else:
        native.run_test(config, spec, session)


def _keep_to(cpus: Sequence[int]) -> None:
    """Let every thread of this process, those of engines too, run on these CPUs only; none named: on all."""
    try:
        if cpus:
            os.sched_setaffinity(0, cpus)
    except OSError as error:
        raise ChildError(f"cannot run on the CPUs {list(cpus)}: {error.strerror}", where="cpus") from error


def _read_recipe(path: Path) -> dict[str, Any]:
    try:
        recipe: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ChildError(f"cannot read the recipe {path}: {error}", where="loadgen") from error
    return recipe


def _check_native() -> None:
    try:
        import_module("engineroom_native")
    except ImportError as error:
        raise ChildError(
            f"the native harness cannot be imported: {error}", where="engine load", mend="run `make build_harness`"
        ) from error


def _harness_config(recipe: dict[str, Any], recipe_dir: Path, run_dir: Path) -> native.HarnessConfig:
    import engineroom_native as native

    config = native.HarnessConfig()
    for name in ("benchmark", "scenario", "test_mode", "total_sample_count", "performance_sample_count"):
        setattr(config, name, recipe[name])
    config.user_conf = str(recipe_dir / recipe["user_conf"])
    config.run_dir = str(run_dir)
    config.sut_name = f"engineroom {recipe['engine']['name']}"
    config.samples = [_sample_file(tensor, recipe["total_sample_count"]) for tensor in recipe["inputs"]]
    config.queue_delay_us = recipe.get("queue_delay_us", 0)
    config.cpu_affinity = recipe.get("cpu_affinity", [])
    config.watchdog_s = recipe.get("watchdog_s", 30.0)
    if recipe.get("audit_conf"):
        config.audit_conf = str(recipe_dir / recipe["audit_conf"])
        if not Path(config.audit_conf).is_file():
            raise ChildError(f"no audit settings at {config.audit_conf}", where="loadgen")
    return config


def _sample_file(tensor: dict[str, Any], total_sample_count: int) -> native.SampleFile:
    import engineroom_native as native

    path = Path(tensor["path"])
    header = read_npy_header(path)
    wanted = (tensor["dtype"], tuple(tensor["shape"]))
    if (header.dtype, header.shape[1:]) != wanted:
        raise ChildError(
            f"{path} holds samples of {header.dtype} {list(header.shape[1:])}, the recipe wants "
            f"{wanted[0]} {list(wanted[1])}",
            where="samples",
            mend=_PREPROCESS,
        )
    if header.shape[0] < total_sample_count:
        raise ChildError(
            f"{path} holds {header.shape[0]} samples, the recipe wants {total_sample_count}",
            where="samples",
            mend=_PREPROCESS,
        )
    sample_bytes = native.TensorSpec("", header.dtype, list(header.shape[1:])).sample_bytes()
    return native.SampleFile(str(path), header.offset_bytes, sample_bytes)


def _engine_spec(recipe: dict[str, Any]) -> native.EngineSpec:
    import engineroom_native as native

    spec = native.EngineSpec()
    spec.name = recipe["engine"]["name"]
    spec.options = {name: str(value) for name, value in recipe["engine"].get("options", {}).items()}
    spec.inputs = [native.TensorSpec(t["name"], t["dtype"], t["shape"]) for t in recipe["inputs"]]
    spec.outputs = [native.TensorSpec(t["name"], t["dtype"], t["shape"]) for t in recipe["outputs"]]
    spec.instances, spec.batch_size = recipe["instances"], recipe["batch_size"]
    spec.loaded_samples, spec.answer_offset = recipe["performance_sample_count"], recipe["answer_offset"]
    return spec


def _python_session(recipe: dict[str, Any]) -> Callable[..., Any] | None:
    """Open the session of a Python engine: engineroom.engines.<name>.open_session. None for a native engine."""
    import engineroom_native as native

    engine = recipe["engine"]
    if engine["name"] in native.native_engines():
        return None
    options = engine.get("options", {})
    try:
        module = registry.get("engines", engine["name"]).load()
        session: Callable[..., Any] = module.open_session(options, recipe["inputs"], recipe["outputs"])
    except EngineroomError as error:
        raise ChildError(error.what, where="engine load", mend=error.mend) from error
    except (Exception, SystemExit) as error:  # whatever an engine's library throws; one that exits is none that runs
        raise ChildError(f"engine {engine['name']}: {type(error).__name__}: {error}", where="engine load") from error
    return session


def _write_probe(run_dir: Path, result: native.ProbeResult) -> None:
    names = ("samples_per_second", "latency_p50_ns", "batch_size", "seconds")
    _write_synced(run_dir / "probe.json", {name: getattr(result, name) for name in names})


def _write_synced(path: Path, record: dict[str, Any]) -> None:
    beside = path.with_name(path.name + ".partial")
    with beside.open("w", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def _fail(run_dir: Path, error: ChildError) -> NoReturn:
    record = {"what": error.what, "where": error.where, "worker": None, "mend": error.mend}
    try:
        _write_synced(run_dir / "error.json", record)
    except OSError as unwritable:
        print(f"cannot write {run_dir}/error.json: {unwritable.strerror}", file=sys.stderr)
    print(f"{error.where}: {error.what}" + (f"\n  {error.mend}" if error.mend else ""), file=sys.stderr, flush=True)
    os._exit(EXIT_ENGINE)


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # all is on disk; tearing down engines and their threads would only cost time
