"""What a person sees: lines, warnings, progress bars and tables. Results go to stdout, everything else to stderr."""

from __future__ import annotations

import os
import shutil
import stat
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

GAP = 2  # columns between two cells of a table
BAR = (10, 30)  # columns of a bar, at least and at most
BESIDE_BAR = 50  # columns kept for the words beside a bar where the terminal is wide enough

Update = Callable[[float, str], None]  # (amount done so far, a few words beside the bar)


def say(text: str) -> None:
    """Print one line about what is being done."""
    print(text, file=sys.stderr, flush=True)


def warn(text: str) -> None:
    """Print a warning: the work goes on, but the reader should know."""
    print(f"warning: {text}", file=sys.stderr, flush=True)


def note(text: str, *, hanging: int = 0) -> None:
    """Print a remark about results to stdout, on a terminal wrapped at words.

    What is wrapped goes on below where its line began, or `hanging` columns in.
    """
    for line in text.splitlines():
        indent = " " * (hanging or len(line) - len(line.lstrip()))
        width = _width() or len(line) + 1
        words = textwrap.wrap(line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
        print("\n".join(words))


def is_interactive() -> bool:
    """Tell whether a person watches: a bar makes sense only on a terminal that can redraw a line."""
    return sys.stderr.isatty() and os.environ.get("TERM", "") not in ("", "dumb")


def forget_readers() -> None:
    """Let what is still to be written go nowhere: who read it has gone, and Python would complain when it ends.

    A file still takes it.
    """
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for number in (1, 2):
        if not stat.S_ISREG(os.fstat(number).st_mode):
            os.dup2(nowhere, number)


@contextmanager
def progress(title: str, total: float) -> Iterator[Update]:
    """Show a bar of `total` units while the body runs; without a terminal print one line when it starts.

    The yielded function takes the amount done and a short text. Title and bar, below it, are gone when the body ends.
    """
    if not is_interactive():
        say(f"{title} ...")
        yield lambda done, text: None
        return
    from rich.console import Group
    from rich.live import Live
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
    from rich.table import Column
    from rich.text import Text

    console = _console(stderr=True)
    least, most = BAR
    bar = Progress(
        BarColumn(bar_width=max(least, min(most, console.width - BESIDE_BAR))),
        TaskProgressColumn(),
        TextColumn(
            "{task.fields[text]}", markup=False, table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")
        ),
        expand=True,
    )
    task = bar.add_task("", total=total, text="")
    shown = Group(Text(title, no_wrap=True, overflow="ellipsis"), bar)
    # Redrawing costs CPU that the measured engine wants: four times a second is enough to the eye.
    with Live(shown, console=console, transient=True, refresh_per_second=4):
        yield lambda done, text: bar.update(task, completed=min(done, total), text=text)


def counting(update: Update) -> Callable[[int, int], None]:
    """Turn a bar of 1 unit into the (done, total) callback that plug-ins report to."""
    return lambda done, total: update(done / max(total, 1), f"{done:,} of {total:,}")


def size(number: float) -> str:
    """Return a number of bytes as a person says it: "512 kB", "6.7 GB"."""
    for unit, one in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if number >= one:
            return f"{number / one:.{0 if number >= 10 * one else 1}f} {unit}"
    return f"{number / 1000:.0f} kB"


def table(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: Sequence[str] = (),
    whole: Sequence[str] = (),
) -> None:
    """Print a table to stdout. Columns named in `right` are aligned right. Cells are plain text, not markup.

    A newline in a cell says where it may break: on a terminal that is too narrow for the table, each one does. What is
    still too wide is wrapped at words, but not in the columns named in `whole`.
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    console = _console(stderr=False)
    joined = [[cell.replace("\n", " ") for cell in row] for row in rows]
    if _columns_needed(columns, joined) <= console.width:
        rows = joined
    # Without lines between the columns: they would cost a quarter of 80 columns.
    grid = Table(
        show_header=any(columns),
        box=SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, GAP - 1, 0, 0),
    )
    for column in columns:
        justify: Literal["left", "right"] = "right" if column in right else "left"
        grid.add_column(column, justify=justify, overflow="fold", no_wrap=column in whole)
    for row in rows:
        grid.add_row(*(_styled(cell, Text) for cell in row))
    with console.capture() as captured:
        if title:  # not the table's own, which would be wrapped where a small table ends
            console.print(Text(title, style="bold"))
        console.print(grid)
    print("\n".join(line.rstrip() for line in captured.get().splitlines()))


def fits(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Tell whether a table of these cells fits stdout, each row on one line."""
    return _columns_needed(columns, rows) <= _console(stderr=False).width


def _columns_needed(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
    from rich.cells import cell_len

    widest = [max(map(cell_len, cells)) for cells in zip(columns, *rows, strict=True)]
    return sum(widest) + GAP * (len(widest) - 1)


def _styled(cell: str, text: type[Text]) -> Text:
    styles = {"VALID": "green", "INVALID": "red", "met": "green", "missed": "red", "FAILED": "red"}
    alone = {"good": "green", "advice": "yellow", "missing": "red"}  # not at the end of a sentence
    styled = text(cell)
    word = cell.split()[-1] if cell.strip() else ""
    styled.stylize(styles.get(word) or alone.get(cell, ""), len(cell) - len(word))
    return styled


def _width() -> int | None:
    """Return the columns of the terminal that stdout is, or None where it is none."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _console(*, stderr: bool) -> Console:
    from rich.console import Console

    class Piped(Console):
        def on_broken_pipe(self) -> None:
            raise  # the BrokenPipeError that is being handled; rich would end the process here

    # Piped output has no width: 160 columns keep each row on one line.
    stream = sys.stderr if stderr else sys.stdout
    return Piped(stderr=stderr, width=None if stream.isatty() else 160, highlight=False)
