"""Makes build/venv: says what the machine lacks, creates the venv and installs the locked packages into it.

Started by the Makefile with the system's python3, so it uses only the standard library, and syntax that Python 3.6 can
still parse: an old Python must be able to say that it is too old.
"""

import contextlib
import fcntl
import hashlib
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Callable, Dict, Iterator, List, NoReturn, Optional
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build"
VENV = BUILD / "venv"
READY = VENV / "ready"  # written last: the Makefile takes a venv without it for an unfinished one
CHECKOUT = VENV / "checkout"  # a link to ROOT: the Makefile sees by it that the folder was moved or copied
LOG = BUILD / "bootstrap.log"
LOCK = ROOT / "requirements" / "base.lock"

OLDEST_PYTHON = (3, 11)
NEWER_PYTHONS = ("python3.13", "python3.12", "python3.11")
PLATFORMS = {"x86_64": "x86-64", "aarch64": "arm64", "arm64": "arm64"}
OLDEST_GLIBC = (2, 28)  # what the wheels of OpenVINO and ONNX Runtime are built for (manylinux_2_28)
COMPILERS = ("c++", "g++", "clang++")

# pip's and urllib3's words when the index cannot be reached, and pip's when a file is not the one that the lock names
NETWORK_WORDS = (
    "NewConnectionError",
    "ConnectTimeoutError",
    "ReadTimeoutError",
    "NameResolutionError",
    "ProxyError",
    "SSLError",
    "Failed to establish a new connection",
    "Temporary failure in name resolution",
)
NOTHING_FOUND = "(from versions: none)"  # what is left of that in pip's output where PIP_RETRIES is 0
HASH_WORDS = r"^ +(\S+)[^\n]*:\n +Expected sha256 (\w+)(?:\n +Expected +or \w+)*\n +Got +(\w+)"


class SetupError(Exception):
    """What keeps Engineroom from being installed: what and where in one line, then how to mend it."""

    def __init__(self, what: str, mend: str, apt: str = "", dnf: str = "") -> None:
        super().__init__("{}\n  {}".format(what, mend))
        self.apt, self.dnf = apt, dnf


def main(arguments: List[str]) -> int:
    """Make build/venv if it is missing or out of date. Returns 0, 2 for what the user must mend, 130 if interrupted.

    A code that is not 0 is also the last line printed, as with every task.
    """
    try:
        if arguments[:1] == ["--unknown-target"]:
            raise unknown_target(arguments[1])
        if sys.version_info < OLDEST_PYTHON:
            start_newer_python(arguments)
        check_machine()
        with only_one():
            make_venv()
    except SetupError as lack:
        say("error: {}\nexit code 2".format(lack))
        return 2
    except OSError as error:  # a full disk, a folder that became unwritable meanwhile
        closed = outermost_closed()
        say(
            "error: {}\nexit code 2".format(
                not_writable(closed) if closed else "{}: {}".format(error.filename or BUILD, error.strerror)
            )
        )
        return 2
    except KeyboardInterrupt:
        say("\ninterrupted; the next make starts build/venv again\nexit code 130")
        return 130
    return 0


def unknown_target(target: str) -> SetupError:
    """Say what replaces a target of NVIDIA's, or name the known target nearest to `target`."""
    import difflib
    import runpy

    instead = runpy.run_path(str(Path(__file__).with_name("legacy.py")))["TARGETS"].get(target)
    if instead:
        return SetupError("make {}: no target of Engineroom".format(shlex.quote(target)), instead)
    known = re.findall(r"^([a-z0-9_]+):.*#- ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    near = difflib.get_close_matches(target.lower().replace("-", "_"), known, n=1)
    hint = "did you mean {}?".format(near[0]) if near else "known: {}".format(", ".join(sorted(known)))
    return SetupError("make {}: unknown target".format(shlex.quote(target)), hint)


# What the machine must have


def start_newer_python(arguments: List[str]) -> NoReturn:
    """Go on with the first newer Python on PATH that works. Raises SetupError with what to install."""
    for name in NEWER_PYTHONS:
        path = shutil.which(name)
        # A name on PATH may be a version manager's shim for a Python that is not there: so it is tried.
        if path and subprocess.call([path, "-I", "-c", ""], stderr=subprocess.DEVNULL) == 0:
            os.execv(path, [path, "-I", __file__] + arguments)
    raise SetupError(
        "{}: this is Python {}; Engineroom needs 3.11 or newer".format(sys.executable, platform.python_version()),
        "install one (Debian, Ubuntu: sudo apt-get install python3.11 python3.11-venv python3.11-dev;\n"
        "  Fedora: sudo dnf install python3.11 python3.11-devel), or name one: make PYTHON=/path/to/python3",
    )


def check_machine() -> None:
    """Raise one SetupError that names everything that is missing, so that one round of installing mends it all."""
    lacks = [lack for lack in (no_platform(), no_venv(), no_headers(), no_compiler(), no_build_folder()) if lack]
    if not lacks:
        return
    text = "\n".join(str(lack) for lack in lacks)
    apt = " ".join(lack.apt for lack in lacks if lack.apt)
    dnf = " ".join(lack.dnf for lack in lacks if lack.dnf)
    if apt:
        text += "\nDebian, Ubuntu: sudo apt-get install {}\nFedora, RHEL:   sudo dnf install {}".format(apt, dnf)
    raise SetupError(text, "then type the same make command again")


def no_platform() -> Optional[SetupError]:
    """Return a SetupError unless this is Linux (or WSL2) with glibc on x86-64 or arm64, and the Python has 64 bits."""
    release = platform.release()
    name = "{} {}".format(platform.system(), platform.machine())
    if sys.platform != "linux" or platform.machine() not in PLATFORMS or sys.maxsize < 2**32:
        why = "{} is not supported".format(name)
    elif release.endswith("-Microsoft"):  # WSL1 has no Linux kernel; WSL2 calls itself "microsoft-standard-WSL2"
        why = "WSL1 is not supported; convert it: wsl --set-version DISTRIBUTION 2"
    elif glibc() < OLDEST_GLIBC:
        why = "the C library of this system is not glibc 2.28 or newer"
    else:
        return None
    return SetupError("platform: {}".format(why), "Engineroom runs on Linux x86-64 and arm64, and on WSL2")


def glibc() -> "tuple[int, ...]":
    """Return the version of glibc; (0,) where the C library is another one."""
    try:
        name, version = (os.confstr("CS_GNU_LIBC_VERSION") or "none 0").split()
        return tuple(int(part) for part in version.split(".")) if name == "glibc" else (0,)
    except (OSError, ValueError):
        return (0,)


def no_venv() -> Optional[SetupError]:
    """Return a SetupError if this Python cannot create a venv that has pip."""
    missing = [module for module in ("venv", "ensurepip") if find_spec(module) is None]
    if not missing:
        return None
    what = "{}: the module {} is missing".format(sys.executable, " and ".join(missing))
    return SetupError(what, "Debian packs it apart from Python", apt=python_package("venv"), dnf="python3")


def no_headers() -> Optional[SetupError]:
    """Return a SetupError if Python.h, which the native module is compiled against, is missing."""
    header = Path(sysconfig.get_path("include"), "Python.h")
    if header.is_file():
        return None
    what = "{}: Python's C headers are missing".format(header)
    return SetupError(what, "the native harness needs them", apt=python_package("dev"), dnf=python_package("devel"))


def python_package(part: str) -> str:
    """Return a distribution's name for a part of this very Python: python3.12-dev."""
    return "python{}.{}-{}".format(sys.version_info[0], sys.version_info[1], part)


def no_compiler() -> Optional[SetupError]:
    """Return a SetupError if there is no C++ compiler: the one that CXX names, or c++, g++ or clang++ on PATH."""
    named = os.environ.get("CXX")
    if named:
        if shutil.which(shlex.split(named)[0]):
            return None
        return SetupError("CXX={}: no such compiler on PATH".format(named), "unset CXX, or name a C++20 compiler")
    if any(shutil.which(name) for name in COMPILERS):
        return None
    what = "no C++ compiler on PATH (looked for {})".format(", ".join(COMPILERS))
    return SetupError(
        what, "the native harness is compiled here; or name one: CXX=/path/to/c++", apt="g++", dnf="gcc-c++"
    )


def no_build_folder() -> Optional[SetupError]:
    """Return a SetupError that names user, path, owner and the mending command if build/ cannot be written."""
    try:
        BUILD.mkdir(exist_ok=True)
    except OSError as error:
        if not isinstance(error, PermissionError):
            return SetupError("{}: {}".format(BUILD, error.strerror), "move away what stands there")
    closed = outermost_closed()
    return not_writable(closed) if closed else None


def outermost_closed() -> Optional[Path]:
    """Return the outermost of build/ and build/venv that cannot be written, so that one command mends all; or None.

    The checkout itself counts only where build/ is still to be made in it.
    """
    there = [folder for folder in (BUILD, VENV) if folder.is_dir()] if BUILD.is_dir() else [ROOT]
    return next((folder for folder in there if not os.access(str(folder), os.W_OK | os.X_OK)), None)


def not_writable(folder: Path) -> SetupError:
    """Say who may not write where, whose the folder is, and what mends it."""
    me, owner = user_name(os.geteuid()), user_name(folder.stat().st_uid)
    quoted = shlex.quote(str(folder))
    mend = "chmod u+rwx " + quoted if me == owner else "sudo chown -R {} {}".format(shlex.quote(me), quoted)
    return SetupError(
        "{}: user {} cannot write here; it belongs to {}".format(folder, me, owner), "mend it with: " + mend
    )


def user_name(uid: int) -> str:
    """Return a user's name, or the number where a container runs with a uid that has no name."""
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


# The venv


@contextlib.contextmanager
def only_one() -> Iterator[None]:
    """Hold build/.bootstrap.lock, so that two makes of one checkout do not install over each other."""
    with (BUILD / ".bootstrap.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another make is setting up build/venv; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def make_venv() -> None:
    """Create or update build/venv unless its stamp says that it is as it should be."""
    key = wanted()
    whole = READY.is_file() and os.path.realpath(str(CHECKOUT)) == str(ROOT) and (VENV / "bin" / "python").exists()
    have = READY.read_text(encoding="utf-8").splitlines() if whole else []
    if have == key:
        os.utime(str(READY))  # a checkout touches files that it does not change
        return
    started = time.monotonic()
    LOG.write_text("", encoding="utf-8")
    say("setting up build/venv with Python {} (log: build/bootstrap.log)".format(platform.python_version()))
    if have[:1] != key[:1]:
        create_venv()
    else:
        READY.unlink()
    install_lock()
    # By its scheme's name: Debian's default scheme is that of /usr/local.
    site_packages = Path(sysconfig.get_path("purelib", "venv", vars={"base": str(VENV), "platbase": str(VENV)}))
    # Relative, and read by Python's site module: an editable install that needs no build and can move.
    (site_packages / "engineroom.pth").write_text(os.path.relpath(str(ROOT / "code"), str(site_packages)) + "\n")
    beside = VENV / "ready.partial"
    beside.write_text("\n".join(key) + "\n", encoding="utf-8")
    beside.rename(READY)
    say("  build/venv is ready after {:.0f} s".format(time.monotonic() - started))


def wanted() -> List[str]:
    """Return what the stamp of an up-to-date venv says: the Python it is made of, and the lock it is made from."""
    content = hashlib.sha256(LOCK.read_bytes() + Path(__file__).read_bytes())
    return ["{} {}".format(real_python(), platform.python_version()), content.hexdigest()]


def real_python() -> str:
    """Return this Python's own file, no link: that the system's Python was upgraded then shows as a missing file."""
    return os.path.realpath(sys.executable)


def create_venv() -> None:
    """Create an empty venv; whatever stood there is removed."""
    with stage("create the virtual environment") as show:
        shutil.rmtree(str(VENV), ignore_errors=True)
        command = [real_python(), "-I", "-m", "venv", str(VENV)]
        if logged(command, LOG, show) != 0:
            raise SetupError("{}: could not be created".format(VENV), last_errors(LOG.read_text(encoding="utf-8")))
        CHECKOUT.symlink_to(ROOT)


def install_lock() -> None:
    """Install exactly what the lock names, each file checked against its hash."""
    house = wheelhouse()
    with stage("install the locked packages from {}".format(house or "the package index")) as show:
        pip(["install", "--require-hashes", "--no-deps", "--no-compile", "--requirement", str(LOCK)], LOG, show)


# pip


def pip(arguments: List[str], log: Path, show: Callable[[str], None], offline: bool = True) -> None:
    """Run a subcommand of the venv's pip, with `offline` on the wheelhouse if there is one, else on the user's index.

    Its output goes to `log`; `show` gets a word about each package. Raises SetupError with one clear message.
    """
    house = wheelhouse() if offline else None
    source = ["--no-index", "--find-links", str(house)] if house else []
    begin = log.stat().st_size if log.exists() else 0
    command = [str(VENV / "bin" / "python"), "-I", "-m", "pip", arguments[0], *source, *arguments[1:]]
    if logged(command, log, show) != 0:
        with log.open("rb") as file:
            file.seek(begin)
            raise why_pip_failed(file.read().decode("utf-8", "replace"), house, log)


def wheelhouse() -> Optional[Path]:
    """Return the folder to install from without a network, if there is one. Raises SetupError."""
    named = os.environ.get("WHEELHOUSE")
    folder = Path(named) if named else BUILD / "wheelhouse"
    if folder.is_dir():
        return folder.resolve()
    if named:
        raise SetupError(
            "WHEELHOUSE={}: no such folder".format(named), "name one that `make wheelhouse` filled, or unset it"
        )
    return None


def why_pip_failed(output: str, house: Optional[Path], log: Path) -> SetupError:
    """Turn pip's output into one message."""
    wrong = re.search(HASH_WORDS, output, re.MULTILINE)
    if wrong:
        return wrong_hash(wrong.group(1), wrong.group(2), wrong.group(3), house)
    if house:
        return SetupError(
            "{}: this wheelhouse lacks a package for Python {} on {}".format(
                house, platform.python_version(), platform.machine()
            ),
            "run `make wheelhouse` on a connected machine with this Python, and copy its build/wheelhouse here\n  "
            + last_errors(output),
        )
    way_out = (
        "name a mirror (PIP_INDEX_URL=https://...), or run `make wheelhouse` on a connected machine of this kind\n"
        "  and copy its build/wheelhouse here"
    )
    if any(word in output for word in NETWORK_WORDS):
        return not_reached(output, log, way_out)
    errors = last_errors(output)
    if NOTHING_FOUND in output:
        what = "no network, or an index that lacks what the lock names (log: {})".format(log)
        return SetupError(what, "{}\n  {}".format(errors, way_out))
    return SetupError(
        "packages could not be installed (log: {})".format(log),
        "{}\n  if the index is at fault: {}".format(errors, way_out),
    )


def not_reached(output: str, log: Path, way_out: str) -> SetupError:
    """Say which indexes pip could not reach, as far as it tells: all of them, or only one beside the main one.

    Older pips name no host but the path that they asked for, INDEX/PACKAGE/: it tells the index that has this path.
    """
    named = re.search(r"^Looking in indexes: (.+)$", output, re.MULTILINE)  # left out where that is PyPI alone
    indexes = [urlsplit(index) for index in (named.group(1).split(", ") if named else ["https://pypi.org/simple"])]
    hosts = set(re.findall(r"host='([^']+)'", output))
    for path in re.findall(r"after connection broken by .*: (/\S*)$", output, re.MULTILINE):
        folder = path.rstrip("/").rpartition("/")[0]
        hosts.update(index.hostname for index in indexes if index.hostname and index.path.rstrip("/") == folder)
    whose = " ".join(["the package index", *([", ".join(sorted(hosts))] if hosts else [])])
    if hosts and indexes[0].hostname not in hosts:
        way_out = (
            "let this machine reach it, by a proxy (HTTPS_PROXY=http://...) if need be,\n"
            "  or name a mirror of it (PIP_EXTRA_INDEX_URL=https://...)"
        )
        return SetupError("{} cannot be reached (log: {})".format(whose, log), way_out)
    return SetupError("no network: {} cannot be reached (log: {})".format(whose, log), way_out)


def wrong_hash(package: str, expected: str, found: str, house: Optional[Path]) -> SetupError:
    """Say that a file is not the one that the lock names; set it aside if it lies in the wheelhouse."""
    what = "{}: the SHA-256 is {}, but the lock expects {}".format(package, found, expected)
    for path in sorted(house.iterdir()) if house else []:
        if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == found:
            aside = path.with_name(path.name + ".mismatch")
            path.rename(aside)
            return SetupError(what, "set aside as {}; fetch it again with `make wheelhouse`".format(aside))
    return SetupError(
        what, "the index or a mirror delivers an altered file: use another one (PIP_INDEX_URL=https://...)"
    )


def last_errors(output: str) -> str:
    """Return pip's own error lines, or else its last line."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")]
    return "\n  ".join(errors[-3:] or lines[-1:] or ["it says nothing"])


@contextlib.contextmanager
def stage(name: str) -> Iterator[Callable[[str], None]]:
    """Print one line for a stage of the work, with its seconds. On a terminal the yielded function adds a word."""

    def show(word: str) -> None:
        if sys.stderr.isatty():
            say("\r\x1b[K  {} ... {}".format(name, word), end="")

    show("")
    started = time.monotonic()
    ending = "failed"
    try:
        yield show
        ending = "{:.0f} s".format(time.monotonic() - started)
    finally:
        show("")
        say("{}  {} ... {}".format("\r" if sys.stderr.isatty() else "", name, ending))


def say(text: str, end: str = "\n") -> None:
    """Print what is being done; like all that is no result it goes to stderr."""
    print(text, end=end, file=sys.stderr, flush=True)


def logged(command: List[str], log: Path, show: Callable[[str], None]) -> int:
    """Run `command` with its output in `log`. Returns its exit code."""
    with log.open("a", encoding="utf-8") as file:
        file.write("$ {}\n".format(" ".join(shlex.quote(word) for word in command)))
        with subprocess.Popen(
            command,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            universal_newlines=True,
            errors="replace",
        ) as process:
            for line in process.stdout or ():
                file.write(line)
                if line.startswith(("Collecting ", "Installing ")):
                    show(line.split()[1])
            return process.wait()


def environment() -> Dict[str, str]:
    """Return the caller's environment without what would send packages elsewhere; mirrors and certificates stay."""
    python = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    strange = (*python, "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_REQUIRE_VIRTUALENV")
    ours = {name: value for name, value in os.environ.items() if name not in strange}
    ours.update(PIP_USER="0", PIP_NO_INPUT="1", PIP_DISABLE_PIP_VERSION_CHECK="1", PIP_PROGRESS_BAR="off")
    return ours


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
