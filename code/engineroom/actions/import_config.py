"""Imports settings that were written for other harnesses."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from engineroom import registry, run_args, terminal
from engineroom.errors import ExitCode, Mistakes, RequestError
from engineroom.paths import CONFIGS, display, typed
from engineroom.steps.nvidia_config import carry, settings

FLAGS = {
    "path=PATH": "NVIDIA's folder of configs, or one file of it; the flag's name may be left out",
    "output=DIR": "folder to write to, for example an overlay's configs; default: configs",
    "force": "overwrite files that are there",
    "dry_run": "say what would be written; write nothing",
    "json": "print JSON instead of tables",
}
VALUED = [f"--{flag.partition('=')[0]}" for flag in FLAGS if "=" in flag]
EXPECTED = (
    "expected below it: <benchmark>/<Scenario>/__init__.py (rounds v2.0 to v5.0) or "
    "<System>/<Scenario>/<benchmark>.py (v5.1 to v6.0)"
)
PLACES_SHOWN = 3  # of many
PROBLEMS_SHOWN = 10
GROUP_IN_FULL = 6  # a reason with no more places than these shows all of them


def import_nvidia_config(argv: Sequence[str]) -> int:
    """Write NVIDIA's configuration files as configs/<system>/<benchmark>.yaml; list what cannot be carried over."""
    asked = run_args.options(_with_path(argv), FLAGS)
    path, output = _folder(asked, "path"), _folder(asked, "output", CONFIGS)
    if not path.exists():
        raise RequestError("there is no such folder or file", where=str(path))
    found = settings.find(path)
    if not found.settings:
        raise _nothing(path, found)
    imported = carry.carry_over(found, path)
    done = carry.write(imported.configs, str(path), output, force="force" in asked, dry_run="dry_run" in asked)
    report = _report_json if "json" in asked else _report
    report(imported, done, output)
    return _code(imported, done)


def _with_path(argv: Sequence[str]) -> list[str]:
    """Return the words with --path= before the one that is neither a flag nor a flag's value."""
    words, value_follows = [], False
    for word in argv:
        words.append(word if word.startswith("--") or value_follows else f"--path={word}")
        value_follows = word in VALUED
    return words


def _folder(asked: dict[str, str | None], name: str, default: Path | None = None) -> Path:
    if name not in asked and default:
        return default
    if not (text := asked.get(name)):
        mend = 'make import_nvidia_config RUN_ARGS="inference_results_v4.1/closed/NVIDIA/configs"'
        raise RequestError("no folder is named", where=f"{run_args.WHERE}: --{name}", mend=mend)
    return typed(text)


def _nothing(path: Path, found: settings.Found) -> RequestError:
    """Say what was expected, and what is wrong with what was found."""
    left = carry.carry_over(found, path).left
    problems = [RequestError(f"{each.what} {each.reason}", where=each.where) for each in left[:PROBLEMS_SHOWN]]
    return Mistakes([*problems, RequestError("holds no settings of NVIDIA's", where=str(path), mend=EXPECTED)])


def _report(imported: carry.Import, done: carry.Written, output: Path) -> None:
    names: dict[tuple[str, str], int] = {}
    for config in imported.configs:
        for carried in (each for section in config.sections.values() for each in section.values()):
            pair = (carried.name, carried.field)
            names[pair] = names.get(pair, 0) + 1
    rows = [(name, ours, f"{count:,}") for (name, ours), count in sorted(names.items(), key=lambda item: -item[1])]
    terminal.table("Carried over", ("NVIDIA's name", "Here", "Values"), rows, right=["Values"])
    print()
    terminal.table("Not carried over", ("Reason", "What", "Places"), list(_left_rows(imported)), right=["Places"])
    print()
    values = sum(config.values for config in imported.configs)
    files = f"{_count(len(imported.configs), 'file')} of settings with {_count(values, 'value')}"
    terminal.note(f"{_count(imported.files, 'file')} read, {files}, {_count(len(imported.left), 'place')} not carried.")
    terminal.note("--json lists each of them with file:line.")
    written = "would be written" if done.dry_run else "written"
    for what, paths in ((written, done.written), ("unchanged", done.unchanged), ("there before and kept", done.kept)):
        if paths:
            terminal.note(f"{_count(len(paths), 'file')} {what} in {display(output)}: {_some(list(map(str, paths)))}")
    terminal.note("A run takes the files of the system whose id is the folder's name: this machine's, or --system=ID.")
    if waiting := _waiting(imported):
        terminal.note(f"Not in this version of Engineroom, so their files wait: {', '.join(waiting)}.")
    remarks: dict[str, list[str]] = {}
    for config in imported.configs:
        for scenario, remark in config.remarks.items():
            remarks.setdefault(remark, []).append(f"{config.path} {scenario}")
    for remark, places in remarks.items():
        terminal.note(f"{remark}: {_some(places)}.")


def _left_rows(imported: carry.Import) -> list[tuple[str, str, str]]:
    rows = []
    for reason, group in carry.by_reason(imported.left).items():
        count = sum(map(len, group.values()))
        if len(group) == 1 or count <= GROUP_IN_FULL:
            words = "; ".join(f"{what}: {_some(places)}" for what, places in group.items())
        else:
            words = ", ".join(f"{what} {len(places):,}" for what, places in group.items())
        rows.append((reason, words, f"{count:,}"))
    return rows


def _some(words: Sequence[str]) -> str:
    more = f" and {len(words) - PLACES_SHOWN:,} more" if len(words) > PLACES_SHOWN else ""
    return f"{', '.join(words[:PLACES_SHOWN])}{more}"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _waiting(imported: carry.Import) -> list[str]:
    return sorted({config.benchmark for config in imported.configs} - set(registry.find("benchmarks")))


def _report_json(imported: carry.Import, done: carry.Written, output: Path) -> None:
    plain = {
        "files_read": imported.files,
        "output": str(output),
        "dry_run": done.dry_run,
        "configs": imported.configs,
        "written": list(map(str, done.written)),
        "unchanged": list(map(str, done.unchanged)),
        "kept": list(map(str, done.kept)),
        "benchmarks_waiting": _waiting(imported),
        "not_carried": imported.left,
    }
    print(msgspec.json.format(msgspec.json.encode(plain), indent=1).decode())


def _code(imported: carry.Import, done: carry.Written) -> ExitCode:
    """Return 0 if all that could be carried over now stands in the folder, or would."""
    if not imported.configs:
        raise RequestError("none of these settings could be carried over", mend="the reasons stand above")
    if done.kept and not done.dry_run:
        raise RequestError(
            f"{_count(len(done.kept), 'file')} with other settings were there before and were kept",
            mend="--force overwrites them, --output=DIR writes elsewhere",
        )
    return ExitCode.GOOD
