"""Results go to stdout, everything else to stderr; a table shows cells as they are."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest

from engineroom import terminal
from engineroom.paths import CODE


def test_results_and_talk_do_not_mix(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.say("building")
    terminal.warn("slow disk")
    terminal.table("Results", ("name", "value"), [("a", "1")])
    out, err = capsys.readouterr()
    assert err == "building\nwarning: slow disk\n"
    assert "Results" in out


def test_cells_are_text_and_each_row_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [("[red]x[/red]", "INVALID", "1,234"), ("[/", "VALID", "5")]
    terminal.table("Results", ("Benchmark", "LoadGen", "Result"), rows, right=("Result",))
    lines = capsys.readouterr().out.splitlines()
    assert any("[red]x[/red]" in line and "INVALID" in line and "1,234" in line for line in lines)
    assert any("[/" in line and line.rstrip(" │|").endswith("    5") for line in lines)
    assert "\x1b" not in "".join(lines)


def test_without_a_terminal_a_bar_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with terminal.progress("calibrate digits", 1) as update:
        report = terminal.counting(update)
        report(0, 0)
        report(1, 2)
    assert capsys.readouterr().err == "calibrate digits ...\n"


def test_on_a_terminal_a_bar_shows_how_far_and_is_gone_at_the_end() -> None:
    script = (
        "import time\nfrom engineroom import terminal\n"
        "with terminal.progress('calibrate digits', 1) as update:\n"
        "    report = terminal.counting(update)\n"
        "    report(500, 1000); time.sleep(0.4); report(1001, 1000)\n"
        "print('after')\n"
    )
    shown = _on_terminal(script)
    assert "calibrate digits" in shown
    assert "500 of 1,000" in shown
    assert "50%" in shown
    assert shown.rstrip().endswith("after")
    assert "\x1b[2K" in shown  # the line was wiped


def test_a_table_can_be_printed_to_an_ascii_pipe() -> None:
    environment = {**os.environ, "PYTHONPATH": str(CODE), "PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    script = "from engineroom import terminal\nterminal.table('Results', ('a', 'b'), [('x', '1')])"
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert b"x" in done.stdout


def _on_terminal(script: str) -> str:
    """Run a Python script with stderr and stdout on a terminal of 100 columns, and return what it wrote."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": str(CODE), "TERM": "xterm-256color", "COLUMNS": "100"}
    process = subprocess.Popen([sys.executable, "-c", script], stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    written = b""
    try:
        while data := os.read(ours, 4096):
            written += data
    except OSError:  # Linux says so when the other end has closed
        pass
    os.close(ours)
    assert process.wait() == 0, written.decode()
    return written.decode()
