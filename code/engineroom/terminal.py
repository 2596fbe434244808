"""What a person sees: lines, warnings, progress bars and tables. Results go to stdout, everything else to stderr."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

Update = Callable[[float, str], None]  # (amount done so far, a few words beside the bar)


def say(text: str) -> None:
    """Print one line about what is being done."""
    print(text, file=sys.stderr, flush=True)


def warn(text: str) -> None:
    """Print a warning: the work goes on, but the reader should know."""
    print(f"warning: {text}", file=sys.stderr, flush=True)


def is_interactive() -> bool:
    """Tell whether a person watches: a bar makes sense only on a terminal that can redraw a line."""
    return sys.stderr.isatty() and os.environ.get("TERM", "") not in ("", "dumb")


@contextmanager
def progress(title: str, total: float) -> Iterator[Update]:
    """Show a bar of `total` units while the body runs; without a terminal print one line when it starts.

    The yielded function takes the amount done and a short text. The bar is gone when the body ends.
    """
    if not is_interactive():
        say(f"{title} ...")
        yield lambda done, text: None
        return
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[text]}"),
    )
    # Redrawing costs CPU that the measured engine wants: four times a second is enough to the eye.
    with Progress(*columns, console=_console(stderr=True), transient=True, refresh_per_second=4) as bar:
        task = bar.add_task(title, total=total, text="")
        yield lambda done, text: bar.update(task, completed=min(done, total), text=text)


def counting(update: Update) -> Callable[[int, int], None]:
    """Turn a bar of 1 unit into the (done, total) callback that plug-ins report to."""
    return lambda done, total: update(done / max(total, 1), f"{done:,} of {total:,}")


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = ()) -> None:
    """Print a table to stdout. Columns named in `right` are aligned right. Cells are plain text, not markup."""
    from rich.table import Table
    from rich.text import Text

    grid = Table(title=title, title_justify="left", show_header=any(columns))
    for column in columns:
        grid.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        grid.add_row(*(_styled(cell, Text) for cell in row))
    _console(stderr=False).print(grid)


def _styled(cell: str, text: type[Text]) -> Text:
    styles = {"VALID": "green", "INVALID": "red", "met": "green", "missed": "red", "FAILED": "red"}
    return text(cell, style=styles.get(cell, ""))


def _console(*, stderr: bool) -> Console:
    from rich.console import Console

    # Piped output has no width: 160 columns keep each row on one line.
    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, width=None if stream.isatty() else 160, highlight=False)


@contextmanager
def timed(title: str) -> Iterator[None]:
    """Print one line with the seconds the body took."""
    begin = time.perf_counter()
    yield
    say(f"{title} ({time.perf_counter() - begin:.1f} s)")
