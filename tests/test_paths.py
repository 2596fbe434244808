"""Files are written whole or not at all, and whoever may not write reads which command mends it."""

from __future__ import annotations

import errno
import hashlib
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engineroom import paths
from engineroom.errors import RequestError
from engineroom.paths import display, ensure_folder, not_writable, sha256_file, write_beside, write_text

NOBODY = 65534
DENIED = OSError(errno.EACCES, "Permission denied")


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that every user may enter; pytest's own are closed to others."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_paths_are_shown_as_typed_in_the_checkout() -> None:
    assert display(paths.ROOT / "configs" / "default") == "configs/default"
    assert display(Path("/etc/passwd")) == "/etc/passwd"


@settings(max_examples=40)  # each is synced to the disk
@given(st.text().filter(lambda text: "\r" not in text))
def test_text_is_read_back_as_written(text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "new" / "file"
        write_text(path, text)
        assert path.read_text(encoding="utf-8") == text
        assert [item.name for item in path.parent.iterdir()] == ["file"]


@pytest.mark.parametrize("fault", [ValueError, KeyboardInterrupt])
def test_a_failed_write_leaves_the_old_content_and_nothing_else(tmp_path: Path, fault: type[BaseException]) -> None:
    path = tmp_path / "settings"
    path.write_text("old")
    with pytest.raises(fault), write_beside(path) as beside:
        beside.write_text("half of the n")
        raise fault
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_sha256_is_that_of_the_content(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc" * 100_000)
    assert sha256_file(path) == hashlib.sha256(b"abc" * 100_000).hexdigest()


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="missing: cannot be read: No such file"):
        sha256_file(tmp_path / "missing")
    with pytest.raises(RequestError, match="cannot be read: Is a directory"):
        sha256_file(tmp_path)


def test_who_may_not_write_reads_user_path_owner_and_command(shared: Path) -> None:
    """With a real user and a real folder: root is allowed everything, so another user tries."""
    closed = shared / "closed"
    closed.mkdir(mode=0o555)
    message = _message_to_another_user(lambda: ensure_folder(closed / "engines" / "digits"))
    user, owner = _name(NOBODY if os.geteuid() == 0 else os.geteuid()), _name(os.geteuid())
    assert message.startswith(f"{closed}/engines/digits: user {user} cannot write here; {closed} belongs to {owner}\n")
    mend = f"chmod u+rwx {closed}" if user == owner else f"sudo install -d -o {user} {closed}/engines"
    assert message.endswith(f"mend it with: {mend}")


@pytest.mark.parametrize("name", ["build dir", "it's", "a;b", "$(x)", "--help"])
def test_the_mending_command_can_be_pasted(shared: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    build = shared / name
    build.mkdir()
    monkeypatch.setattr(paths, "BUILD", build)
    monkeypatch.setattr(os, "geteuid", lambda: NOBODY)
    if build.owner() == _name(NOBODY):
        pytest.skip("this is the user the test takes for another one")
    command = (not_writable(build, DENIED).mend or "").removeprefix("mend it with: ")
    assert shlex.split(command) == ["sudo", "chown", "-R", _name(NOBODY), str(build)]


@pytest.mark.parametrize("path", ["/", "/no_such_folder/x", "/etc", "/usr/share/no_such_folder/x"])
def test_no_command_hands_over_the_system(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: NOBODY)
    mend = not_writable(Path(path), DENIED).mend or ""
    assert "sudo" in mend
    assert "-R" not in mend
    assert "777" not in mend


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "build").write_text("")
    with pytest.raises(RequestError, match=r"engines: .*/build is in the way: it is no folder"):
        ensure_folder(tmp_path / "build" / "engines")


def test_a_link_to_nowhere_is_named(tmp_path: Path) -> None:
    (tmp_path / "build").symlink_to(tmp_path / "unplugged" / "disk")
    with pytest.raises(RequestError, match=r"/build is in the way"):
        ensure_folder(tmp_path / "build")


def test_a_full_disk_is_called_so(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="no space left") as caught, write_beside(tmp_path / "file") as beside:
        beside.write_text("some")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert "df -h" in str(caught.value)
    assert "chown" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(handle: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(RequestError, match="this file system gives no locks") as caught, paths.locked(tmp_path):
        raise AssertionError("nothing may be done without the lock")
    assert str(tmp_path) in str(caught.value) and "local disk" in str(caught.value)


WRITES = """
import sys
from pathlib import Path
from engineroom import paths

for write in (paths.ensure_folder, lambda folder: paths.write_text(folder / "file", "")):
    try:
        write(Path(sys.argv[1]))
    except paths.RequestError as error:
        print(error)
"""
READ_ONLY = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@" "$0"'


def test_a_read_only_file_system_is_called_so(tmp_path: Path) -> None:
    """With a real mount, in a namespace of its own: no permission binds root, but this does."""
    namespace = ["unshare", "--map-root-user", "--mount"]
    if subprocess.run([*namespace, "true"], capture_output=True).returncode:
        pytest.skip("this machine gives no mount namespaces")
    done = subprocess.run(
        [*namespace, "sh", "-c", READ_ONLY, tmp_path, sys.executable, "-c", WRITES],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(paths.CODE)},
    )
    lines = done.stdout.splitlines()
    assert [line.partition(": ")[2] for line in lines[::2]] == ["lies on a file system that is mounted read-only"] * 2
    assert lines[1] == f"  see how it is mounted: findmnt -T {tmp_path}"


def test_a_folder_where_a_file_is_to_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "result.json").mkdir()
    with pytest.raises(RequestError, match=r"result\.json: cannot be written: Is a directory"):
        write_text(tmp_path / "result.json", "{}")


def _message_to_another_user(action: Callable[[], object]) -> str:
    """Return the message of `action`'s RequestError, raised for a user who is not root."""
    if os.geteuid():
        with pytest.raises(RequestError) as caught:
            action()
        return str(caught.value)
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.setuid(NOBODY)
            action()
        except RequestError as error:
            os.write(writer, str(error).encode())
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader, encoding="utf-8") as pipe:
        return pipe.read()


def _name(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def test_a_home_is_resolved_and_one_that_nobody_has_stays_as_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ann")
    assert paths.typed("~/configs") == Path("/home/ann/configs")
    assert paths.typed("~no_such_user/configs") == Path("~no_such_user/configs")
