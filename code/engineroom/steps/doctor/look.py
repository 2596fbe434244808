"""Looks at what the checks judge: one small function a fact, each without privileges and quick."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import shlex
import shutil
import socket
import subprocess
import sysconfig
import tempfile
from collections.abc import Iterable
from pathlib import Path

from engineroom import packages, versions
from engineroom.bootstrap import COMPILERS
from engineroom.paths import OVERLAYS, not_writable, typed
from engineroom.steps.doctor.checks import Compiled, Docker, Folder

COMPILE_TIMEOUT_S = 30.0
CONNECT_TIMEOUT_S = 0.5
DOCKER_SOCKET = "/var/run/docker.sock"
TIME_ERROR = 5  # adjtimex's answer while the clock is not synchronized

# What an old compiler or an old C++ library lacks: concepts, span.
PROGRAM = """
#include <concepts>
#include <span>
template <std::integral T> int count(std::span<T> all) { return static_cast<int>(all.size()); }
int main() { int all[3] = {}; return count(std::span<int>(all)) - 3; }
"""


def compiled() -> Compiled | None:
    """Compile and link a small C++20 program with the compiler that the build takes; None without a compiler."""
    try:
        named = shlex.split(os.environ.get("CXX", "")) or [path for path in map(shutil.which, COMPILERS) if path][:1]
    except ValueError as error:
        return Compiled("CXX", str(error).lower())
    if not named:
        return None
    with tempfile.TemporaryDirectory(prefix="engineroom-doctor-") as folder:
        command = [*named, "-std=c++20", "-pthread", "-x", "c++", "-", "-o", str(Path(folder) / "program")]
        try:
            done = subprocess.run(
                command, input=PROGRAM, capture_output=True, text=True, errors="replace", timeout=COMPILE_TIMEOUT_S
            )
        except OSError as error:
            return Compiled(shlex.join(named), f"it does not start: {error.strerror}")
        except subprocess.TimeoutExpired:
            return Compiled(shlex.join(named), f"it took longer than {COMPILE_TIMEOUT_S:.0f} s")
    errors = [line for line in done.stderr.splitlines() if "error" in line.lower()] or done.stderr.splitlines()
    return Compiled(shlex.join(named), (errors or ["it failed"])[0] if done.returncode else None)


def python_header() -> Path:
    """Return where Python.h of this Python has to be."""
    return Path(sysconfig.get_path("include"), "Python.h")


def locked() -> dict[str, str]:
    """Return the versions that base.lock names for this very machine."""
    from packaging.requirements import Requirement

    text = (packages.LOCKS / "base.lock").read_text(encoding="utf-8")
    pins = re.findall(r"^([A-Za-z0-9][^\s;]*==[^\s;]+[^\\\n]*)", text, re.MULTILINE)
    found = {}
    for requirement in map(Requirement, pins):
        if requirement.marker is None or requirement.marker.evaluate():
            found[requirement.name] = str(requirement.specifier).removeprefix("==")
    return found


def installed() -> dict[str, str]:
    """Return the version of each installed distribution, by its normalised name, as locks spell it."""
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in versions.all_distributions().items()}


def folders(needed: Iterable[Path], *, useful: Iterable[Path] = ()) -> list[Folder]:
    """Return folders with what keeps them from being written. One that is not there is judged by where it would be."""
    return [*(_folder(path, needed=True) for path in needed), *(_folder(path, needed=False) for path in useful)]


def _folder(path: Path, *, needed: bool) -> Folder:
    nearest = path
    while not nearest.is_dir() and not os.path.lexists(nearest) and nearest != nearest.parent:
        nearest = nearest.parent
    if nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK):
        return Folder(path, needed)
    read_only = nearest.is_dir() and bool(os.statvfs(nearest).f_flag & os.ST_RDONLY)
    error = not_writable(path, None if nearest.is_dir() else NotADirectoryError(errno.ENOTDIR, "in the way"))
    if read_only:
        return Folder(path, needed, "its file system is read-only", f"findmnt -T {shlex.quote(str(nearest))}")
    return Folder(path, needed, error.what, (error.mend or "").removeprefix("mend it with: "))


def free_bytes(path: Path) -> int:
    """Return what an unprivileged user may still write where `path` is or would be."""
    while not path.exists() and path != path.parent:
        path = path.parent
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


def memory_now() -> tuple[int, int]:
    """Return how much swap is in use and how much memory is available, 0 where the kernel does not say."""
    found = re.findall(r"^(SwapTotal|SwapFree|MemAvailable):\s+(\d+) kB", _read("/proc/meminfo"), re.MULTILINE)
    lines = {name: int(kib) * 1024 for name, kib in found}
    return lines.get("SwapTotal", 0) - lines.get("SwapFree", 0), lines.get("MemAvailable", 0)


def clock_synchronized() -> bool | None:
    """Ask the kernel whether a service keeps its clock right (adjtimex(2), which changes nothing with modes 0)."""
    libc = ctypes.CDLL(None, use_errno=True)
    state = libc.adjtimex(ctypes.create_string_buffer(256))  # struct timex has 208 bytes
    if state < 0:
        return None  # a container's filter may refuse the call
    return bool(state != TIME_ERROR)


def docker() -> Docker:
    """Try to connect to docker's socket; nothing is sent."""
    path = os.environ.get("DOCKER_HOST", f"unix://{DOCKER_SOCKET}")
    client = shutil.which("docker")
    if client is None or not path.startswith("unix://"):
        return Docker(client, path)
    path = path.removeprefix("unix://")
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(CONNECT_TIMEOUT_S)
        try:
            connection.connect(path)
        except OSError as error:
            return Docker(client, path, errno.errorcode.get(error.errno or 0, "unknown"))
    return Docker(client, path)


def taken_ports(ports: Iterable[int]) -> list[int]:
    """Return those of `ports` that another program listens on."""
    return [port for port in ports if not _is_free(port)]


def _is_free(port: int) -> bool:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what has just ended does not count
        try:
            listener.bind(("", port))
        except OSError as error:
            return error.errno != errno.EADDRINUSE
    return True


def overlays() -> dict[str, list[str] | None]:
    """Return the folders that ENGINEROOM_PATH names with the names in each; None for one that is none."""
    found: dict[str, list[str] | None] = {}
    for name in filter(None, os.environ.get(OVERLAYS, "").split(os.pathsep)):
        path = typed(name)
        found[name] = [inside.name for inside in path.iterdir()] if path.is_dir() else None
    return found


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
