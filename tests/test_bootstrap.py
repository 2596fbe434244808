"""bootstrap: what it says about a machine that lacks something, and the venv that it makes."""

from __future__ import annotations

import ast
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from engineroom import bootstrap

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = Path("code/engineroom/bootstrap.py")
NO_INDEX = "http://127.0.0.1:9/simple"  # the discard port: refused at once, as an index is that cannot be reached


def locked(name: str) -> dict[str, str]:
    """Return the version of each package in a lock."""
    text = (ROOT / "requirements" / f"{name}.lock").read_text(encoding="utf-8")
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", text, re.MULTILINE))


# The locks


@pytest.mark.parametrize(("lock", "extra"), [("base", None), ("test", "test"), ("torch", "torch")])
def test_every_dependency_is_locked_within_its_range(lock: str, extra: str | None) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = project["optional-dependencies"][extra] if extra else project["dependencies"]
    versions = locked(lock)
    for requirement in map(Requirement, wanted):
        assert requirement.specifier.contains(versions[requirement.name]), requirement


def test_the_test_lock_holds_the_base_lock() -> None:
    assert locked("base").items() <= locked("test").items()


@pytest.mark.parametrize("lock", ["base", "test", "loadgen"])
def test_every_locked_package_has_hashes_and_no_index_is_named(lock: str) -> None:
    text = (ROOT / "requirements" / f"{lock}.lock").read_text(encoding="utf-8")
    blocks = re.split(r"^(?=[a-z0-9-]+==)", text, flags=re.MULTILINE)[1:]
    assert blocks
    assert all("--hash=sha256:" in block for block in blocks)
    assert not re.search(r"https?://|file:|--index|--find-links", text)


# What the machine lacks


def test_the_file_parses_on_python_3_6() -> None:
    ast.parse((ROOT / SCRIPT).read_text(encoding="utf-8"), feature_version=(3, 6))


def test_everything_missing_is_named_in_one_pass(checkout: Path, command: Any, tmp_path: Path) -> None:
    (checkout / "build").write_text("a file stands where the folder should be")
    done = command([sys.executable, "-I", SCRIPT], checkout, PATH=str(tmp_path))
    assert done.returncode == 2
    assert "no C++ compiler on PATH (looked for c++, g++, clang++)" in done.stderr
    assert "sudo apt-get install g++" in done.stderr
    assert "sudo dnf install gcc-c++" in done.stderr
    assert f"{checkout}/build: File exists" in done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.splitlines()[-1] == "exit code 2"
    assert "Traceback" not in done.stderr


def test_a_compiler_that_cxx_names_must_exist(checkout: Path, command: Any) -> None:
    done = command([sys.executable, "-I", SCRIPT], checkout, CXX="/no/such/c++ -O2")
    assert done.returncode == 2
    assert "CXX=/no/such/c++ -O2: no such compiler" in done.stderr


def test_missing_venv_and_headers_name_the_packages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    monkeypatch.setattr(bootstrap, "find_spec", lambda name: None if name == "ensurepip" else object())
    monkeypatch.setattr(bootstrap.sysconfig, "get_path", lambda name, **rest: str(tmp_path))
    with pytest.raises(bootstrap.SetupError) as caught:
        bootstrap.check_machine()
    text = str(caught.value)
    assert "the module ensurepip is missing" in text
    assert f"{tmp_path}/Python.h: Python's C headers are missing" in text
    assert f"sudo apt-get install {version}-venv {version}-dev" in text
    assert f"sudo dnf install python3 {version}-devel" in text


@pytest.mark.parametrize(
    ("machine", "release", "libc", "reason"),
    [
        ("ppc64le", "6.1.0", "glibc 2.36", "Linux ppc64le is not supported"),
        ("x86_64", "4.4.0-19041-Microsoft", "glibc 2.36", "WSL1 is not supported"),
        ("x86_64", "6.1.0", "glibc 2.17", "not glibc 2.28 or newer"),
        ("aarch64", "6.1.0", None, "not glibc 2.28 or newer"),
        ("x86_64", "5.15.90.1-microsoft-standard-WSL2", "glibc 2.28", None),
        ("aarch64", "6.1.0", "glibc 2.36", None),
    ],
)
def test_platforms(
    monkeypatch: pytest.MonkeyPatch, machine: str, release: str, libc: str | None, reason: str | None
) -> None:
    monkeypatch.setattr(bootstrap.platform, "machine", lambda: machine)
    monkeypatch.setattr(bootstrap.platform, "release", lambda: release)
    monkeypatch.setattr(bootstrap.os, "confstr", lambda name: libc)
    lack = bootstrap.no_platform()
    assert (lack is None) if reason is None else (reason in str(lack))


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Return a folder that every user can enter."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


@pytest.mark.parametrize("closed", ["build", "build/venv"])
def test_the_outermost_folder_of_somebody_else_is_explained(
    monkeypatch: pytest.MonkeyPatch, open_folder: Path, closed: str
) -> None:
    build = open_folder / "build"
    (build / "venv").mkdir(parents=True)
    (build / "venv").chmod(0o555)
    build.chmod(0o555 if closed == "build" else 0o777)
    monkeypatch.setattr(bootstrap, "ROOT", open_folder)
    monkeypatch.setattr(bootstrap, "BUILD", build)
    monkeypatch.setattr(bootstrap, "VENV", build / "venv")
    text = as_another_user(lambda: str(bootstrap.no_build_folder()))
    assert f"{open_folder / closed}: user " in text
    assert re.search(r"cannot write here; it belongs to \S+", text)
    assert re.search(rf"mend it with: (sudo chown -R \S+|chmod u\+rwx) {re.escape(str(open_folder / closed))}$", text)
    assert "777" not in text


def as_another_user(ask: Any) -> str:
    """Return what `ask` answers in a process that has no root's rights."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        if os.getuid() == 0:
            os.setuid(65534)
        os.write(writing, str(ask()).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    return answer


def test_an_old_python_hands_over_to_a_newer_one_that_works(tmp_path: Path) -> None:
    for name, script in {"python3.13": "exit 127", "python3.12": 'echo "python3.12 $*"'}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    code = (
        "import sys; from engineroom import bootstrap; bootstrap.OLDEST_PYTHON = (9,);"
        "sys.exit(bootstrap.main(['--setup']))"
    )
    ours = {"PATH": str(tmp_path), "PYTHONPATH": str(ROOT / "code")}
    done = subprocess.run([sys.executable, "-c", code], env=ours, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == f"python3.12 -I {ROOT / SCRIPT} --setup"
    (tmp_path / "python3.12").unlink()
    done = subprocess.run([sys.executable, "-c", code], env=ours, capture_output=True, text=True)
    assert done.returncode == 2
    assert "Engineroom needs 3.11 or newer" in done.stderr
    assert "make PYTHON=" in done.stderr


# pip


def test_the_callers_mirrors_stay_and_his_python_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = {"PIP_INDEX_URL": "https://mirror.example/simple", "PIP_CERT": "/etc/ca.pem", "HTTPS_PROXY": "http://p:1"}
    dropped = {"PYTHONPATH": "/x", "PYTHONHOME": "/x", "VIRTUAL_ENV": "/x", "PIP_TARGET": "/x", "PIP_PREFIX": "/x"}
    for name, value in {**kept, **dropped, "PIP_USER": "1"}.items():
        monkeypatch.setenv(name, value)
    ours = bootstrap.environment()
    assert kept.items() <= ours.items()
    assert not dropped.keys() & ours.keys()
    assert ours["PIP_USER"] == "0"


@pytest.fixture
def venv_pip(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Let bootstrap use the pip of this very venv on a wheelhouse of one small wheel; return that wheelhouse."""
    house = tmp_path / "wheelhouse"
    house.mkdir()
    with zipfile.ZipFile(house / "tiny-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tiny.py", "")
        wheel.writestr("tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        wheel.writestr("tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("tiny-1.0.dist-info/RECORD", "")
    monkeypatch.setattr(bootstrap, "VENV", Path(sys.prefix))
    monkeypatch.setenv("WHEELHOUSE", str(house))
    return house


def download(lock_line: str, folder: Path) -> None:
    """Let bootstrap's pip download what one line of a lock names."""
    lock = folder / "one.lock"
    lock.write_text(lock_line, encoding="utf-8")
    arguments = ["download", "--no-deps", "--require-hashes", "-r", str(lock), "-d", str(folder / "got")]
    bootstrap.pip(arguments, folder / "pip.log", lambda word: None)


def test_a_wheelhouse_serves_without_an_index(venv_pip: Path, tmp_path: Path) -> None:
    (wheel,) = venv_pip.iterdir()
    download(f"tiny==1.0 --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}", tmp_path)
    assert (tmp_path / "got" / wheel.name).read_bytes() == wheel.read_bytes()


def test_a_file_with_another_hash_is_named_and_set_aside(venv_pip: Path, tmp_path: Path) -> None:
    (wheel,) = venv_pip.iterdir()
    found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    with pytest.raises(bootstrap.SetupError) as caught:
        download(f"tiny==1.0 --hash=sha256:{'0' * 64}", tmp_path)
    assert f"tiny==1.0: the SHA-256 is {found}, but the lock expects {'0' * 64}" in str(caught.value)
    assert [path.name for path in venv_pip.iterdir()] == [wheel.name + ".mismatch"]


def test_a_wheelhouse_that_lacks_a_package_says_so(venv_pip: Path, tmp_path: Path) -> None:
    with pytest.raises(bootstrap.SetupError, match="this wheelhouse lacks a package for Python") as caught:
        download(f"absent==1.0 --hash=sha256:{'0' * 64}", tmp_path)
    assert "make wheelhouse" in str(caught.value)
    assert "absent==1.0" in str(caught.value)


def test_a_wheelhouse_that_is_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WHEELHOUSE", str(tmp_path / "absent"))
    with pytest.raises(bootstrap.SetupError, match="no such folder"):
        bootstrap.wheelhouse()


@pytest.mark.parametrize("retries", ["0", "1"])
def test_no_network_is_one_message_that_names_the_way_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, retries: str
) -> None:
    for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL", "WHEELHOUSE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_INDEX_URL", NO_INDEX)
    monkeypatch.setenv("PIP_RETRIES", retries)
    monkeypatch.setattr(bootstrap, "VENV", Path(sys.prefix))
    monkeypatch.setattr(bootstrap, "BUILD", tmp_path)
    with pytest.raises(bootstrap.SetupError, match="no network") as caught:
        download(f"absent==1.0 --hash=sha256:{'0' * 64}", tmp_path)
    assert "make wheelhouse" in str(caught.value)


REACHED_PYPI = """Looking in indexes: https://pypi.org/simple, https://user:****@pypi.nvidia.com
WARNING: Retrying (Retry(total=0, connect=None)) after connection broken by '{why}': /tensorrt-cu13-libs/
ERROR: Could not find a version that satisfies the requirement tensorrt-cu13-libs==11.4.0.106 (from versions: none)
"""
NO_CONNECTION = "NewConnectionError('<HTTPSConnection object at 0x7f05>: Failed to establish a new connection')"
NO_NAME = "NameResolutionError(\"HTTPSConnection(host='pypi.nvidia.com', port=443): Failed to resolve\")"


@pytest.mark.parametrize("why", [NO_CONNECTION, NO_NAME])  # as pip 23.2 and pip 26 put it
def test_an_index_beside_the_main_one_is_named(tmp_path: Path, why: str) -> None:
    error = bootstrap.why_pip_failed(REACHED_PYPI.format(why=why), None, tmp_path / "pip.log")
    what, mend = str(error).split("\n", 1)
    assert what == f"the package index pypi.nvidia.com cannot be reached (log: {tmp_path / 'pip.log'})"
    assert "PIP_EXTRA_INDEX_URL" in mend and "make wheelhouse" not in mend


def test_without_any_network_the_main_index_is_named(tmp_path: Path) -> None:
    output = REACHED_PYPI.format(why=NO_CONNECTION).split("\n", 1)[1].replace(": /tensorrt", ": /simple/tensorrt")
    error = bootstrap.why_pip_failed(output, None, tmp_path)
    assert str(error).startswith("no network: the package index pypi.org cannot be reached")


# The venv, made for good


@pytest.mark.heavy
def test_a_venv_is_made_kept_moved_and_made_again_when_it_was_interrupted(
    checkout: Path, make: Any, wheelhouse: Path
) -> None:
    python = checkout / "build" / "venv" / "bin" / "python"
    offline = {"WHEELHOUSE": str(wheelhouse), "PIP_INDEX_URL": NO_INDEX}

    setting_up = subprocess.Popen(["make", "info"], cwd=checkout, env={**os.environ, **offline}, start_new_session=True)
    while not python.exists():
        time.sleep(0.05)
    os.killpg(setting_up.pid, signal.SIGKILL)
    setting_up.wait()
    assert not (checkout / "build" / "venv" / "ready").exists()

    done = make(checkout, "info", **offline, PYTHONPATH="/strange", PYTHONHOME="/strange", VIRTUAL_ENV="/strange")
    assert done.returncode == 0, done.stderr
    assert "create the virtual environment" in done.stderr
    assert f"install the locked packages from {wheelhouse}" in done.stderr

    (checkout / "requirements" / "base.lock").touch()  # newer, but the same: nothing to install
    done = make(checkout, "info", **offline)
    assert "setting up" not in done.stderr

    moved = checkout.rename(checkout.with_name("moved"))
    done = make(moved, "info", **offline)
    assert done.returncode == 0, done.stderr
    assert "create the virtual environment" in done.stderr
    where = subprocess.check_output(
        [moved / "build/venv/bin/python", "-c", "import engineroom as e; print(e.__file__)"]
    )
    assert Path(where.decode().strip()) == moved / "code" / "engineroom" / "__init__.py"
    shutil.rmtree(moved)


@pytest.mark.heavy
def test_two_makes_at_once_set_up_one_venv(checkout: Path, wheelhouse: Path) -> None:
    environ = {**os.environ, "WHEELHOUSE": str(wheelhouse), "PIP_INDEX_URL": NO_INDEX}
    both = [
        subprocess.Popen(["make", "info"], cwd=checkout, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    said = [process.communicate()[1].decode() for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert sum("create the virtual environment" in text for text in said) == 1
    shutil.rmtree(checkout)


@pytest.mark.heavy
def test_pip_install_works_for_those_who_want_no_make(checkout: Path, command: Any, wheelhouse: Path) -> None:
    venv = checkout.parent / "own venv"
    offline = ["--no-index", "--find-links", str(wheelhouse)]
    command([sys.executable, "-m", "venv", venv], checkout)
    done = command([venv / "bin" / "pip", "install", *offline, "-e", "."], checkout)
    assert done.returncode == 0, done.stderr
    done = command([venv / "bin" / "python", "-c", "import engineroom; print(engineroom.__file__)"], checkout.parent)
    assert Path(done.stdout.strip()) == checkout / "code" / "engineroom" / "__init__.py"
