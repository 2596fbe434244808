"""Running other programs: what is logged, how failures are told, and that an interrupt lets the child tidy up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engineroom import shell
from engineroom.errors import ExitCode

ROOT = Path(__file__).resolve().parents[1]
PRINT = [sys.executable, "-c", "import sys; sys.stdout.write(repr(sys.argv[1:]))"]


def test_arguments_reach_the_program_as_they_are() -> None:
    awkward = ["a b", "$HOME", "`id`", "'", '"', "", "*", "; false", "x\ny"]
    assert shell.capture([*PRINT, *awkward]) == repr(awkward)


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), min_size=1))
def test_a_logged_line_can_be_pasted(argv: list[str]) -> None:
    import shlex

    assert shlex.split(shell.quoted(argv)) == argv


def test_a_failure_names_command_and_exit_code() -> None:
    with pytest.raises(shell.CommandError, match="failed with exit code 7") as caught:
        shell.run([sys.executable, "-c", "raise SystemExit(7)"])
    assert caught.value.exit_code == 7
    assert caught.value.code == ExitCode.ENGINE
    assert "raise SystemExit(7)" in str(caught.value)


def test_a_signal_is_named() -> None:
    with pytest.raises(shell.CommandError, match="was ended by SIGKILL"):
        shell.run([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"])


def test_a_program_that_is_not_there_is_named() -> None:
    with pytest.raises(shell.CommandError, match="cannot start no-such-program: No such file") as caught:
        shell.run(["no-such-program", "x"])
    assert caught.value.exit_code is None


def test_a_captured_failure_shows_the_last_line_of_stderr() -> None:
    with pytest.raises(shell.CommandError, match="the reason") as caught:
        shell.capture([sys.executable, "-c", "import sys; print('the reason', file=sys.stderr); sys.exit(1)"])
    assert caught.value.mend == "the reason"


def test_a_log_holds_the_command_and_its_whole_output(tmp_path: Path) -> None:
    log, lines = tmp_path / "x.log", []
    argv = [sys.executable, "-c", "import sys; print('out', flush=True); print('err', file=sys.stderr)"]
    shell.run(argv, log=log, on_line=lines.append)
    assert lines == ["out", "err"]
    assert log.read_text() == f"$ {shell.quoted(argv)}\nout\nerr\n"


def test_verbose_shows_the_command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(shell, "verbose", True)
    shell.run(["true", "a b"])
    assert capfd.readouterr().err == "$ true 'a b'\n"


TIDY = """
import pathlib, sys, time
try:
    print("started", flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    time.sleep(0.3)
    pathlib.Path(sys.argv[1]).write_text("tidied up")
"""


def test_an_interrupt_waits_until_the_child_has_tidied_up(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    code = f"from engineroom import shell; shell.run({[sys.executable, '-c', TIDY, str(mark)]!r})"
    parent = subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT / "code")},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        text=True,
    )
    assert parent.stdout
    assert parent.stdout.readline() == "started\n"
    begin = time.monotonic()
    os.killpg(parent.pid, signal.SIGINT)
    parent.communicate()
    assert parent.returncode != 0
    assert mark.read_text() == "tidied up"
    assert time.monotonic() - begin < 5
