"""Every part of TensorRT's Python API that our source uses is in NVIDIA's own bindings, of TensorRT 10 and 11.

The bindings are real, from PyPI; the library behind them cannot be had here, so a stand-in that exports its eleven
symbols is compiled. Nothing of it is called: names, arguments and properties are held against what pybind11 says.
"""

from __future__ import annotations

import ast
import json
import platform
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from engineroom.paths import CODE, ROOT

HERE = Path(__file__).parent
ENGINES = CODE / "engineroom" / "engines"
SOURCES = [ENGINES / name for name in ("_trt_builder.py", "_trt_session.py", "tensorrt.py")]
MODULES = ("tensorrt", "engineroom.engines._trt_builder")  # the second hands on the first
SYMBOLS = (
    "createInferBuilder_INTERNAL",
    "createInferRefitter_INTERNAL",
    "createInferRuntime_INTERNAL",
    "createNvOnnxParser_INTERNAL",
    "createNvOnnxParserRefitter_INTERNAL",
    "getBuilderPluginRegistry",
    "getInferLibVersion",
    "getLogger",
    "getNvOnnxParserVersion",
    "getPluginRegistry",
    "initLibNvInferPlugins",
)
pytestmark = [
    pytest.mark.heavy,
    pytest.mark.skipif(platform.machine() not in ("x86_64", "aarch64"), reason="NVIDIA has no bindings for it"),
]


def wheels(lock: str, folder: Path) -> Path:
    """Fetch and unpack the wheels that a lock names, and return where."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    arguments = ["--require-hashes", "--requirement", str(HERE / "locks" / f"{lock}.lock"), "--dest", str(folder)]
    subprocess.run([*command, *arguments], check=True)
    for wheel in folder.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder / "unpacked")
    return folder / "unpacked"


@pytest.fixture(scope="module", params=["10", "11"])
def bindings(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return the folder of the bindings of one TensorRT and that of what stands for its libraries."""
    folder = tmp_path_factory.mktemp(f"tensorrt-{request.param}")
    libraries = folder / "libraries"
    libraries.mkdir()
    source = folder / "stand_in.c"
    for name in ("nvinfer", "nvonnxparser", "nvinfer_plugin"):
        functions = SYMBOLS if name == "nvinfer" else (f"stand_in_{name}",)
        source.write_text("".join(f"void *{each}(void) {{ return 0; }}\n" for each in functions))
        file = f"lib{name}.so.{request.param}"
        command = ["cc", "-shared", "-fPIC", str(source), f"-Wl,-soname,{file}", "-o", str(libraries / file)]
        subprocess.run(command, check=True)
    return wheels(f"tensorrt-{request.param}", folder), libraries


def found_in(bindings: tuple[Path, Path], *sources: Path) -> dict[str, Any]:
    """Return what the sources use, and what is wrong with that."""
    command = [sys.executable, str(ROOT / "tests" / "spoofs" / "tensorrt_use.py"), *map(str, (*bindings, *sources))]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def modules_of(source: Path) -> set[str]:
    """Return the names of what a source imports, by statement or by a function of that name."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source.read_bytes())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            found |= {each.value for each in node.args if isinstance(each, ast.Constant)}
    return found


def test_every_source_that_uses_tensorrt_is_looked_at() -> None:
    using = [path for path in sorted(CODE.rglob("*.py")) if not modules_of(path).isdisjoint(MODULES)]
    assert using == SOURCES


def test_all_that_is_used_is_there(bindings: tuple[Path, Path]) -> None:
    found = found_in(bindings, *SOURCES)
    assert found["mistakes"] == []
    assert len(found["uses"]) > 60
    for use in (
        "Builder.build_serialized_network",
        "BuilderFlag.TF32",
        "IBuilderConfig.builder_optimization_level=",
        "IBuilderConfig.set_timing_cache(ignore_mismatch)",
        "IOptimizationProfile.set_shape(opt)",
        "IProgressMonitor.step_complete(phase_name, step)",
        "IExecutionContext.execute_async_v3",
        "ParserError.node_operator",
    ):
        assert use in found["uses"], f"{use} was not followed"


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ("ignore_mismatch=False", "ignore_missmatch=False", "set_timing_cache takes (cache, ignore_mismatch)"),
        ("each.name, min=each.min", "each.name, least=each.min", "set_shape takes (input, min, opt, max)"),
        (".set_memory_pool_limit(", ".set_max_workspace_size(", "IBuilderConfig has no set_max_workspace_size"),
        ("config.clear_flag(api.BuilderFlag.TF32)", "config.clear_flag()", "clear_flag takes (flag), not 0"),
        ("MemoryPoolType.WORKSPACE", "MemoryPoolType.WORKSPCE", "MemoryPoolType has no WORKSPCE"),
        ("api.ILogger.Severity.ERROR", "api.ILogger.Severity.GRAVE", "Severity has no GRAVE"),
        ("def step_complete(self", "def step_completed(self", "IProgressMonitor calls no step_completed"),
        ("phase_name: str, step: int", "phase_name: str", "calls step_complete with other arguments"),
        ("config.progress_monitor =", "config.progres_monitor =", "IBuilderConfig.progres_monitor cannot be set"),
        ("parser.num_errors", "parser.error_count", "OnnxParser has no error_count"),
        ("-> trt.ICudaEngine:", "-> trt.ICudaMotor:", "tensorrt has no ICudaMotor"),
    ],
)
def test_a_mistake_is_found(bindings: tuple[Path, Path], tmp_path: Path, right: str, wrong: str, said: str) -> None:
    text = SOURCES[0].read_text(encoding="utf-8")
    assert right in text
    broken = tmp_path / "broken.py"
    broken.write_text(text.replace(right, wrong), encoding="utf-8")
    mistakes = found_in(bindings, broken)["mistakes"]
    assert any(said in mistake for mistake in mistakes), mistakes


def test_what_11_removed_is_found(bindings: tuple[Path, Path], tmp_path: Path) -> None:
    text = SOURCES[0].read_text(encoding="utf-8")
    broken = tmp_path / "broken.py"
    broken.write_text(text.replace("api.BuilderFlag.TF32", "api.BuilderFlag.FP16"), encoding="utf-8")
    found = found_in(bindings, broken)
    mistakes = [mistake.partition(": ")[2] for mistake in found["mistakes"]]
    assert mistakes == (["BuilderFlag has no FP16"] if found["version"].startswith("11.") else [])


def test_every_compatibility_is_there(bindings: tuple[Path, Path], tmp_path: Path) -> None:
    """Its names are looked up when they are needed, as older TensorRTs do not have all."""
    from engineroom.engines._plans import COMPATIBILITY

    words = "".join(f"api.HardwareCompatibilityLevel.{name}\n" for name, _ in COMPATIBILITY.values())
    source = tmp_path / "compatibility.py"
    source.write_text(f"api = imported()\n{words}", encoding="utf-8")
    assert found_in(bindings, source)["mistakes"] == []


def test_every_function_of_cuda_is_there(tmp_path: Path) -> None:
    """cuda-python's names, with the number of arguments that each takes."""
    folder = wheels("cuda", tmp_path)
    calls = "import ast,json,sys\n" + CALLS
    done = subprocess.run(
        [sys.executable, "-c", calls, str(SOURCES[1])], env={"PYTHONPATH": str(folder)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["wrong"] == []
    assert {"cudaMalloc", "cudaMemcpy", "cudaStreamSynchronize"} <= set(found["calls"])


# Looks up what a source uses of the name `cuda`; Cython says a function's arguments in its signature.
CALLS = """
import inspect
from cuda.bindings import runtime
tree = ast.parse(open(sys.argv[1]).read())
calls, wrong = [], []
for node in ast.walk(tree):
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "cuda":
        if not hasattr(runtime, node.attr):
            wrong.append(node.attr)
    function = getattr(node, "func", None)
    if isinstance(function, ast.Attribute) and getattr(function.value, "id", "") == "cuda":
        calls.append(node.func.attr)
        try:
            takes = len(inspect.signature(getattr(runtime, node.func.attr)).parameters)
        except (ValueError, AttributeError):
            continue
        if len(node.args) != takes:
            wrong.append([node.func.attr, takes, len(node.args)])
for name in ("cudaMemcpyHostToDevice", "cudaMemcpyDeviceToHost"):
    if not hasattr(runtime.cudaMemcpyKind, name):
        wrong.append(name)
if not hasattr(runtime.cudaError_t, "cudaSuccess"):
    wrong.append("cudaSuccess")
print(json.dumps({"calls": calls, "wrong": wrong}))
"""
