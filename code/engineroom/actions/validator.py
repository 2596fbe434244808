"""Judges a submission: what is staged here, or anybody's tree. All faults at once, each with its remedy."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import msgspec

from engineroom import rounds, run_args, terminal
from engineroom.config import fields
from engineroom.errors import ExitCode, RequestError
from engineroom.paths import SUBMISSION, display, typed
from engineroom.steps.submission import official, stage
from engineroom.steps.submission.validate import whole
from engineroom.steps.submission.validate.accuracy import RESCORED
from engineroom.steps.submission.validate.findings import Finding, Level
from engineroom.steps.submission.validate.rulebook import RULES, as_markdown

FLAGS = {
    "round=ROUND": "round of the tree; default: the one whose seeds its logs have",
    "submitter=NAME": "judge only this submitter's part",
    "official=PATH": "let MLCommons' checker judge, too, from this checkout of mlcommons/inference",
    "rules": "print every rule with its source, and judge nothing",
    "all": "show every finding, not the first few of each rule",
    "json": "print JSON instead of tables",
}
PATH = {"PATH": "folder that holds closed, open or network, or one submitter's folder in it; default: what is staged"}
SHOWN = 8  # findings of one rule


def check_submission(argv: Sequence[str]) -> int:
    """Judge a submission: every file against the round's rules and against every other file that says the same.

    Ends with 1 if there is an error; warnings do not count.
    """
    if run_args.asks_help(argv):
        raise run_args.Help({**PATH, **FLAGS})
    asked = run_args.options([word for word in argv if word.startswith("--")], FLAGS)
    if "rules" in asked:
        print(as_markdown())
        return ExitCode.GOOD
    path = _path([word for word in argv if not word.startswith("--")], asked.get("round"))
    if name := asked.get("round"):
        rounds.read(name)
    checkout = asked.get("official")
    judge = official.find(typed(checkout).absolute()) if checkout else None  # before the work, if it is not there
    with stage.reading(path):
        with terminal.progress(f"judging {display(path)}", 1) as update:
            count = terminal.counting(update)
            report = whole.validate(path, name, submitter=asked.get("submitter") or "", progress=count)
        verdicts = _official(judge, report) if judge else {}
    if "json" in asked:
        _print_json(report, verdicts)
    else:
        _show(report, most=None if "all" in asked else SHOWN)
        _side_by_side(report, verdicts)
    return ExitCode.INVALID if report.of(Level.ERROR) else ExitCode.GOOD


def _path(words: Sequence[str], round_name: str | None) -> Path:
    if len(words) > 1:
        raise RequestError(f"name one folder, not {len(words)}", where=run_args.WHERE)
    if words:
        return typed(words[0]).absolute()
    staged = SUBMISSION / (round_name or str(fields.defaults()["round"]))
    if not staged.is_dir():
        mend = 'name a folder: make check_submission RUN_ARGS="PATH"; make stage_results stages runs'
        raise RequestError("nothing is staged there", where=display(staged), mend=mend)
    return staged


def _show(report: whole.Report, most: int | None) -> None:
    """Print a table for each rule, errors first, with its source and its remedy."""
    for level in Level:
        by_rule = sorted(report.of(level), key=lambda each: each.rule)
        for rule, group in groupby(by_rule, key=lambda each: each.rule):
            _show_rule(rule, list(group), most)
    if report.findings:
        rules = display(rounds.FOLDER / f"{report.round}.yaml")
        terminal.note(f"sources: round is {rules}; docs/validator.md names the others")
    _show_scores(report)
    errors, warnings = len(report.of(Level.ERROR)), len(report.of(Level.WARNING))
    told = f"{_count(errors, 'error')} and {_count(warnings, 'warning')} in {_count(report.results, 'result')}"
    terminal.note(f"{told} of {display(Path(report.root))}, by the rules of {report.round}")


def _show_scores(report: whole.Report) -> None:
    """Say how far the accuracy was believed: one line for each way, with the benchmarks that it was gone for."""
    ways: dict[str, list[str]] = {}
    for benchmark, told in report.scores.items():
        for how, count in told.items():
            ways.setdefault(how, []).append(f"{benchmark} ({count:,})")
    for how, benchmarks in sorted(ways.items(), key=lambda each: each[0] != RESCORED):
        only = how if how == RESCORED else f"only read in accuracy.txt, as {how}"
        terminal.note(f"accuracy {only}: {', '.join(benchmarks)}", hanging=2)


def _count(number: int, name: str) -> str:
    return f"{number:,} {name}{'' if number == 1 else 's'}"


def _show_rule(rule: str, findings: Sequence[Finding], most: int | None) -> None:
    about = RULES[rule]
    shown = findings[:most]
    rows = [(each.where, each.found or "-", each.expected or "-") for each in shown]
    count = f" ({len(findings):,})" if len(findings) > 1 else ""
    terminal.table(f"{about.level} {rule}{count}: {about.checks}", ("Where", "Found", "Expected"), rows)
    if len(findings) > len(shown):
        terminal.note(f"  and {len(findings) - len(shown):,} more: --all shows them", hanging=2)
    for mend in dict.fromkeys(each.mend for each in shown):
        terminal.note(f"  to mend: {mend}", hanging=4)
    terminal.note(f"  source: {about.source}\n", hanging=4)
    print()


def _official(judge: official.Checker, report: whole.Report) -> dict[str, official.Verdict]:
    """Let MLCommons' checker judge each submitter. It writes files: elsewhere than in the tree."""
    root, verdicts = Path(report.root), dict[str, official.Verdict]()
    count = len(report.submitters)
    with (
        tempfile.TemporaryDirectory(prefix="engineroom-") as folder,
        terminal.progress("MLCommons' checker judges it", count) as update,
    ):
        for done, submitter in enumerate(report.submitters):
            update(done, f"{submitter}, {done + 1:,} of {count:,}")
            csv = Path(folder) / f"{done}.csv"
            verdicts[submitter] = judge.check(root, report.round, submitter, csv)
    return verdicts


def _side_by_side(report: whole.Report, verdicts: dict[str, official.Verdict]) -> None:
    """Show for each submitter what we say and what MLCommons' checker says."""
    if not verdicts:
        return
    rows = []
    for submitter, verdict in verdicts.items():
        own = [each for each in report.of(Level.ERROR) if _of(each, submitter)]
        warnings = [f"warning: {each}" for each in verdict.warnings[:3]]
        rows.append(
            (
                submitter,
                f"{_count(len(own), 'error')}" if own else "accepted",
                _words_of(verdict),
                "\n".join((*verdict.errors[:3], *warnings, *verdict.summary)),
            )
        )
    terminal.table("Side by side", ("Submitter", "Engineroom", "MLCommons' checker", "Its words"), rows)


def _words_of(verdict: official.Verdict) -> str:
    said = "accepted" if verdict.accepted else _count(len(verdict.errors), "error")
    return f"{said}, {_count(len(verdict.warnings), 'warning')}" if verdict.warnings else said


def _of(finding: Finding, submitter: str) -> bool:
    parts = finding.file.split("/")
    return len(parts) > 1 and parts[1] == submitter


def _print_json(report: whole.Report, verdicts: dict[str, official.Verdict]) -> None:
    told = {
        "root": os.fsencode(report.root).decode("utf-8", "backslashreplace"),
        "round": report.round,
        "results": report.results,
        "errors": len(report.of(Level.ERROR)),
        "warnings": len(report.of(Level.WARNING)),
        "accuracy": report.scores,
        "findings": [{**msgspec.to_builtins(each), "where": each.where} for each in report.findings],
    }
    if verdicts:
        told["official"] = {
            name: {
                "accepted": each.accepted,
                "errors": each.errors,
                "warnings": each.warnings,
                "summary": each.summary,
            }
            for name, each in verdicts.items()
        }
    print(msgspec.json.format(msgspec.json.encode(told), indent=1).decode())
