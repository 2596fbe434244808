"""What the harness's engines for GPUs are compiled with is found, and where it is not, the remedy is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from engineroom import toolkits
from engineroom.engines.tensorrt import ENGINE
from engineroom.errors import RequestError


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Return an empty folder on a machine that has neither a CUDA toolkit nor TensorRT's headers."""
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("CUDA_HOME", toolkits.TENSORRT_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(toolkits, "NVCC_PLACES", (tmp_path / "cuda/bin/nvcc",))
    monkeypatch.setattr(toolkits, "TENSORRT_PLACES", (tmp_path / "include",))
    monkeypatch.setattr(ENGINE, "modules", ())
    return tmp_path


def nvcc(folder: Path, release: str) -> None:
    path = folder / "cuda/bin/nvcc"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho 'Cuda compilation tools, release {release}, V{release}.88'\n")
    path.chmod(0o755)


def headers(folder: Path, major: int, minor: int) -> None:
    folder.mkdir()
    (folder / "NvInfer.h").touch()
    lines = (f"#define TRT_MAJOR_ENTERPRISE {major}", f"#define TRT_MINOR_ENTERPRISE {minor}")
    (folder / "NvInferVersion.h").write_text("\n".join(lines) + "\n")


def refusal() -> str:
    with pytest.raises(RequestError) as caught:
        ENGINE.check_installed()
    return str(caught.value)


def test_a_toolkit_that_is_missing_or_old_is_told(bare: Path) -> None:
    lack = refusal()
    assert "the harness's engine tensorrt is compiled with a CUDA toolkit of version 12.2 or later" in lack
    assert f"there is no nvcc on PATH, in CUDA_HOME or at {bare}/cuda/bin/nvcc\n  export CUDA_HOME=" in lack
    nvcc(bare, "12.1")
    assert refusal().startswith(f"{bare}/cuda/bin/nvcc: ") and "this is 12.1\n" in refusal()


def test_headers_that_are_missing_or_of_another_version_are_told(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nvcc(bare, "13.0")
    monkeypatch.setattr(type(ENGINE), "installed_version", "11.4.0.106")
    lack = refusal()
    assert f"no NvInfer.h of version 11 is in {bare}/include\n  sudo apt-get install libnvinfer-headers-dev" in lack
    assert "export TENSORRT_INCLUDE=" in lack
    headers(bare / "include", 10, 8)
    assert "of the same major version; these are of 10.8, and 11.4.0.106 is installed" in refusal()
    headers(bare / "another", 11, 1)
    monkeypatch.setenv(toolkits.TENSORRT_VARIABLE, str(bare / "another"))
    ENGINE.check_installed()
    headers(bare / "old", 10, 7)
    monkeypatch.setenv(toolkits.TENSORRT_VARIABLE, str(bare / "old"))
    assert f"TENSORRT_INCLUDE={bare}/old: holds no NvInfer.h of TensorRT 10.8 or later" in refusal()
