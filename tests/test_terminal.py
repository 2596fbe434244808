"""Results go to stdout, everything else to stderr; a table shows cells as they are."""

from __future__ import annotations

import os
import pty
import re
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
    assert any("[/" in line and line.endswith("    5") for line in lines)
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


@pytest.mark.parametrize("columns", [40, 80])
def test_bar_and_percentage_stay_on_a_narrow_terminal(columns: int) -> None:
    script = (
        "import time\nfrom engineroom import terminal\n"
        "with terminal.progress('digits SingleStream performance, fixed_delay int8', 1) as update:\n"
        "    update(0.5, '300 of 600 s, 26,265,600 samples, 43,775/s'); time.sleep(0.6)\n"
    )
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", _on_terminal(script, columns))
    (line, *_) = [line for line in re.split(r"[\r\n]+", shown) if "300 of 600 s" in line]
    assert len(line) <= columns
    assert re.match(r"[━╸╺]{10,} +50% 300 of 600 s, 26,265,6", line)
    assert columns < 80 or "43,775/s" in line
    assert "digits SingleStream performance, fixed_" in shown


def test_cells_break_at_newlines_only_where_the_table_is_too_wide() -> None:
    script = (
        "from engineroom import terminal\n"
        "terminal.table('T', ('one', 'two'), [('name', 'many words\\nof text')], whole=('two',))\n"
        "terminal.note('words that go ' * 3 + 'on')\n"
    )
    assert "name  many words of text" in _on_terminal(script, 80)
    narrow = [line.rstrip() for line in _on_terminal(script, 20).splitlines()]
    assert "name  many words" in narrow and "      of text" in narrow
    assert narrow[-3:] == ["words that go words", "that go words that", "go on"]


def test_what_is_wrapped_goes_on_below_its_text() -> None:
    script = (
        "from engineroom import terminal\n"
        "terminal.note('  unit  many words of text', hanging=8)\n"
        "print(terminal.fits(('a', 'b'), [('x' * 9, 'y' * 9)]), terminal.fits(('a', 'b'), [('x' * 9, 'y' * 10)]))\n"
    )
    lines = [line.rstrip() for line in _on_terminal(script, 20).splitlines()]
    assert lines == ["  unit  many words", "        of text", "True False"]


def _on_terminal(script: str, columns: int = 100) -> str:
    """Run a Python script with stderr and stdout on a terminal, and return what it wrote."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": str(CODE), "TERM": "xterm-256color", "COLUMNS": str(columns)}
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
