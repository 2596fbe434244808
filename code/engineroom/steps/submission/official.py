"""Runs MLCommons' own submission checker, from somebody's checkout of mlcommons/inference, as an outside judge."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from engineroom.errors import RequestError, did_you_mean
from engineroom.paths import display

TOOLS = Path("tools", "submission")
# As a package since v5.1's checkouts, as one file before.
WAYS = {
    Path("submission_checker", "main.py"): ("-m", "submission_checker.main"),
    Path("submission_checker.py"): ("submission_checker.py",),
}
VERDICT = re.compile(r"SUMMARY: .*|Results=\d+, NoResults=\d+.*")
CHOICES = re.compile(r"argument --version: invalid choice: .*\(choose from (.*)\)")
TIMEOUT_S = 1800
# It says so of every check that does not apply, at every place.
SKIPPED = re.compile(r"(Execution of check \w+ skipped) for .*")
SAID = re.compile(r"\b(ERROR|WARNING)(?::main:|\] ?)(.*)")


@dataclass(frozen=True)
class Verdict:
    """What the checker said: whether it accepts the tree, its errors and its warnings in order, and its last words."""

    accepted: bool
    errors: tuple[str, ...]
    warnings: tuple[str, ...]
    summary: tuple[str, ...]


@dataclass(frozen=True)
class Checker:
    """MLCommons' checker in somebody's checkout: the folder that it is started in, and what Python is told to run."""

    tools: Path
    command: tuple[str, ...]

    def check(self, root: Path, round_name: str, submitter: str, csv: Path) -> Verdict:
        """Run the checker on the tree in `root`. Raises RequestError if it does not know the round, or does not end."""
        about = [f"--input={root}", f"--version={round_name}", f"--submitter={submitter}", f"--csv={csv}"]
        try:
            done = subprocess.run(
                [sys.executable, *self.command, *about],
                cwd=self.tools,
                capture_output=True,
                text=True,
                timeout=TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            mend = "let it judge one submitter at a time, or leave --official away"
            raise RequestError(f"took more than {TIMEOUT_S} s", where=display(self.tools), mend=mend) from None
        log = done.stdout + done.stderr
        if found := CHOICES.search(log):
            known = [name.strip("' ") for name in found[1].split(",")]
            mend = did_you_mean(round_name, known)
            raise RequestError(f"does not know {round_name}", where=display(self.tools), mend=mend)
        errors, warnings = _said(log, "ERROR"), _without_places(_said(log, "WARNING"))
        if "Traceback (most recent call last)" in log:
            errors = (*errors, f"it stopped with a traceback: {log.strip().splitlines()[-1]}")
        return Verdict(done.returncode == 0, errors, warnings, tuple(VERDICT.findall(log)))


def find(checkout: Path) -> Checker:
    """Return the checker in a checkout. Raises RequestError if there is none."""
    tools = checkout / TOOLS
    for file, command in WAYS.items():
        if (tools / file).is_file():
            return Checker(tools, command)
    raise RequestError(
        f"has no {TOOLS}/{next(iter(WAYS))}",
        where=display(checkout),
        mend="name a checkout of https://github.com/mlcommons/inference: --official=PATH",
    )


def _said(log: str, level: str) -> tuple[str, ...]:
    """Return what the checker logged at a level, each once."""
    return tuple(dict.fromkeys(text.strip() for told, text in SAID.findall(log) if told == level))


def _without_places(warnings: Sequence[str]) -> tuple[str, ...]:
    """Return the warnings with one line, and last, for each check that was skipped: else they hide the others."""
    skipped = Counter(found[1] for each in warnings if (found := SKIPPED.fullmatch(each)))
    others = [each for each in warnings if not SKIPPED.fullmatch(each)]
    return (*others, *(f"{what}, {count:,} times" for what, count in skipped.items()))
