"""What every action ends with: an exit code, and for each kind of failure one message without a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from engineroom import actions
from engineroom.actions import house, mishaps
from engineroom.errors import EngineError, RequestError
from engineroom.paths import CODE, ROOT

TASKS = (
    *("build", "build_loadgen", "build_harness", "install", "wheelhouse", "clean", "clean_shallow"),
    *("lint", "shell", "test", "test_all", "test_gpu", "bench"),
)


def _raiser(error: BaseException) -> Callable[..., int]:
    def action(argv: object) -> int:
        raise error

    return action


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (RequestError("no", where="x", mend="so"), 2, "error: x: no\n  so"),
        (EngineError("died"), 3, "error: died"),
        (OSError(28, "No space left on device", "/x"), 3, "No space left on device: '/x'"),
        (BrokenPipeError(32, "of a child"), 3, "of a child"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), 3, "invalid start byte"),
        (MemoryError("Unable to allocate 6.00 TiB"), 3, "MemoryError: Unable to allocate 6.00 TiB"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_a_failure_is_one_message_and_the_exit_code_the_last_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException, code: int, said: str
) -> None:
    monkeypatch.setattr(house, "build", _raiser(error))
    monkeypatch.delenv(mishaps.TRACEBACK, raising=False)
    assert actions.act("house", "build", list) == code
    err = capsys.readouterr().err
    assert said in err
    assert err.splitlines()[-1] == f"exit code {code}"
    assert "Traceback" not in err


@pytest.mark.parametrize(("words", "variable"), [(["--verbose"], ""), ([], "1")])
def test_the_traceback_of_what_nobody_expected_can_be_seen(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], variable: str
) -> None:
    monkeypatch.setattr(house, "build", _raiser(OSError(5, "Input/output error")))
    monkeypatch.setenv(mishaps.TRACEBACK, variable)
    assert actions.act("house", "build", lambda: words) == 3
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("task", TASKS)
def test_help_says_what_a_task_does_and_does_nothing(task: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert actions.act("verify" if task == "test_gpu" else "house", task, lambda: ["--help"]) == 0
    out = capfd.readouterr().out
    assert "flag" in out or "option" in out
    if task == "install":
        assert "--extra=NAME " in out and "--engine=NAME " in out


def test_install_without_a_name_lists_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert actions.act("house", "install", list) == 2
    err = capsys.readouterr().err
    assert "--extra=NAME: " in err and "torch" in err
    assert "--engine=NAME: " in err and "openvino" in err


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("text", ["", "--help"])
def test_a_reader_that_goes_away_is_no_error(text: str, both: bool) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    environment: dict[str, Any] = {**os.environ, "PYTHONPATH": str(CODE), "RUN_ARGS": text}
    done = subprocess.run(
        [sys.executable, "-m", "invoke", "info"],
        cwd=ROOT,
        env=environment,
        stdout=writing,
        stderr=subprocess.STDOUT if both else subprocess.PIPE,
    )
    os.close(writing)
    assert done.returncode == 141
    assert not done.stderr
