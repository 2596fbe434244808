"""Shows results in one form: those that are staged here, and anybody's from the rounds since v2.0."""

from __future__ import annotations

import csv
import io
import json
import re
import textwrap
from collections.abc import Sequence
from pathlib import Path

import msgspec

from engineroom import run_args, terminal
from engineroom.errors import ExitCode, RequestError
from engineroom.paths import PUBLISHED, SUBMISSION, display, sha256_text, typed, write_text
from engineroom.steps.submission import published, stage
from engineroom.steps.submission.entry import NOTICE
from engineroom.steps.submission.layout import DIVISIONS
from engineroom.steps.submission.published import COLUMNS, Published

SHOWING = {
    "benchmarks=LIST": "show only these benchmarks",
    "submitter=NAME": "show only this submitter's",
    "csv=PATH": "write the whole table as CSV",
    "json": "print JSON instead of a table",
}
SHOWN = ("Submitter", "System", "Result", "Figure", "Each", "Accuracy")
PASSED_OVER_SHOWN = 5
ACCURACY_SHOWN = 40  # letters


def summarize_results(argv: Sequence[str]) -> int:
    """Show what is staged, with the figures per accelerator or per core; as a table, CSV or JSON."""
    flags = {"round=NAME": "the tree to show, such as v6.1 or v6.1-rehearsal; default: every one", **SHOWING}
    asked = run_args.options(argv, flags)
    name = asked.get("round")
    found: list[Published] = []
    passed_over: list[str] = []
    with stage.reading(SUBMISSION):
        roots = [SUBMISSION / name] if name else _staged()
        if not roots:
            raise RequestError("nothing is staged", where=display(SUBMISSION), mend="make stage_results stages runs")
        for root in roots:
            results, left = published.read(root, root.name.partition("-")[0])
            found, passed_over = found + results, passed_over + left
    _show(f"Staged in {', '.join(display(root) for root in roots)}", found, passed_over, asked)
    return ExitCode.GOOD


def import_submission(argv: Sequence[str]) -> int:
    """Read published results, a tree or a summary_results.json, from v2.0 on; keep them for comparison."""
    flags = {"PATH": "folder that holds closed/ or open/, or a file summary_results.json"}
    more = {"round=ROUND": "round they are of; default: as the folder's name, the seeds or LoadGen say", **SHOWING}
    if run_args.asks_help(argv):
        raise run_args.Help({**flags, **more})
    asked = run_args.options([word for word in argv if word.startswith("--")], more)
    paths = [typed(word).absolute() for word in argv if not word.startswith("--")]
    if len(paths) != 1:
        mend = 'make import_submission RUN_ARGS="inference_results_v5.1"'
        raise RequestError(f"name one folder or file, not {len(paths) or 'none'}", where=run_args.WHERE, mend=mend)
    with stage.reading(paths[0]):
        found, passed_over = published.read(paths[0], asked.get("round") or "")
    if not found:
        raise RequestError(
            "holds no result that can be read",
            where=display(paths[0]),
            mend="\n  ".join(passed_over[:PASSED_OVER_SHOWN]),
        )
    kept = PUBLISHED / f"{_name(paths[0], found)}.json"
    write_text(kept, msgspec.json.format(msgspec.json.encode(found), indent=1).decode() + "\n")
    _show(f"{len(found):,} results in {display(paths[0])}", found, passed_over, asked)
    if "json" not in asked:
        terminal.note(f"kept in {display(kept)}")
    return ExitCode.GOOD


def _staged() -> list[Path]:
    found = sorted(SUBMISSION.glob("*")) if SUBMISSION.is_dir() else []
    return [root for root in found if any((root / division).is_dir() for division in DIVISIONS)]


def _name(path: Path, found: Sequence[Published]) -> str:
    """Return the name to keep an import under: its newest round, and the folder it was read from.

    The beginning of a hash tells folders of one name apart; what is imported again takes the place of what was.
    """
    rounds = sorted({each.round for each in found if each.round}, key=published.number_of)
    folder = (path.parent if path.is_file() else path).resolve()
    told = [*rounds[-1:], folder.name, sha256_text(str(path.resolve()))[:8]]
    return re.sub(r"[^A-Za-z0-9._-]+", "_", "-".join(filter(None, told)))


def _show(title: str, found: Sequence[Published], passed_over: Sequence[str], asked: dict[str, str | None]) -> None:
    shown = [each for each in found if _wanted(each, asked)]
    if (path := asked.get("csv")) is not None:
        write_text(typed(path), _csv(shown))
        terminal.say(f"wrote {path}")
    if "json" in asked:
        print(json.dumps(list(published.rows(shown)), indent=1))
        return
    terminal.table(title, SHOWN, [_row(each) for each in shown], right=("Figure", "Each"))
    if any(each.rehearsal for each in shown):
        terminal.note(NOTICE)
    for line in passed_over[:PASSED_OVER_SHOWN]:
        terminal.note(f"passed over: {line}", hanging=2)
    if (more := len(passed_over) - PASSED_OVER_SHOWN) > 0:
        terminal.note(f"passed over: {more:,} more")


def _wanted(each: Published, asked: dict[str, str | None]) -> bool:
    names = (asked.get("benchmarks") or "").split(",")
    submitter = asked.get("submitter") or each.submitter
    return each.submitter.lower() == submitter.lower() and (names == [""] or each.benchmark in names)


def _row(each: Published) -> tuple[str, ...]:
    marks = [f"by {each.inferred_from}" if each.inferred_from else "", "" if each.valid else "INVALID"]
    marks += ["rehearsal"] if each.rehearsal else []
    words = "".join(f", {mark}" for mark in marks if mark)
    return (
        f"{each.submitter}, {each.division}",
        each.system,
        f"{each.benchmark} {each.scenario}{words}",
        f"{each.value:,.6g} {each.unit}",
        _each(each),
        textwrap.shorten(each.accuracy, ACCURACY_SHOWN, placeholder="..."),
    )


def _each(each: Published) -> str:
    if each.per_accelerator is not None:
        return f"{each.per_accelerator:,.4g} an accelerator"
    return f"{each.per_core:,.4g} a core" if each.per_core is not None else ""


def _csv(found: Sequence[Published]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(published.rows(found))
    return text.getvalue()
