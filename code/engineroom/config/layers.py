"""Merges the layers of settings; every value keeps its origin.

    benchmark defaults < configs/default/<benchmark>.yaml < configs/<system>/<benchmark>.yaml < RUN_ARGS < rules

Rules fill only what no layer has set. A file has a section `common:` and one per scenario.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engineroom.config import fields
from engineroom.config.fields import RunConfig
from engineroom.config.rules import RULES, Context
from engineroom.errors import Mistakes, RequestError, did_you_mean, plain
from engineroom.paths import CONFIGS, display
from engineroom.terms import Scenario, TestMode
from engineroom.yaml_file import Entry, entries

COMMON = "common"
# What a file cannot set: they say which run this is, and come from the request.
IDENTITY = ("benchmark", "system", "scenario", "test_mode")


@dataclass(frozen=True)
class Origin:
    """Where a value comes from: "configs/default/digits.yaml:7", "--batch_size", "default" or "rule <name>: <why>"."""

    text: str


@dataclass(frozen=True)
class Resolved:
    """A run's settings and the origin of each."""

    config: RunConfig
    origins: Mapping[str, Origin]

    def replace(self, origin: str, **changes: Any) -> Resolved:
        """Return a copy with some values changed, each with `origin`."""
        import msgspec

        return Resolved(
            msgspec.structs.replace(self.config, **changes),
            {**self.origins, **dict.fromkeys(changes, Origin(origin))},
        )


def resolve(
    context: Context, test_mode: TestMode, overrides: Mapping[str, str], *, configs: Path = CONFIGS
) -> Resolved:
    """Return the settings of one run.

    `overrides` holds the text of each flag given. Raises Mistakes with every mistake of every layer.
    """
    values: dict[str, Any] = dict(fields.defaults())
    origins = dict.fromkeys(values, Origin("default"))
    mistakes: list[RequestError] = []
    for name, value, where in _from_files(context, configs, mistakes):
        values[name], origins[name] = value, Origin(where)
    for name, text in overrides.items():
        try:
            values[name], origins[name] = fields.convert(name, text, from_text=True), Origin(f"--{name}")
        except ValueError as error:
            mistakes.append(RequestError(f"{name} {error}", where=f"--{name}"))
    if mistakes:
        raise Mistakes(mistakes)
    identity = {"benchmark": context.benchmark, "system": context.machine.system, "scenario": context.scenario}
    for name, value in {**identity, "test_mode": test_mode}.items():
        values[name], origins[name] = value, Origin("the request")
    for name, rule in RULES.items():
        if name not in values or values[name] == "auto":
            values[name], why = rule(context, values)
            origins[name] = Origin(f"rule {rule.__name__}: {why}")
    _check_pairs(values, origins)
    return Resolved(RunConfig(**values), origins)


def _check_pairs(values: Mapping[str, Any], origins: Mapping[str, Origin]) -> None:
    """Refuse a least value above its most value, naming where both come from."""
    mistakes = [
        RequestError(
            f"{least} is {values[least]}, more than {most} {values[most]}",
            where=f"{origins[least].text}, {origins[most].text}",
            mend="change one of the two",
        )
        for least, most in (("min_duration", "max_duration"), ("min_query_count", "max_query_count"))
        if values[least] is not None and values[most] is not None and values[least] > values[most]
    ]
    if mistakes:
        raise Mistakes(mistakes)


def _from_files(context: Context, configs: Path, mistakes: list[RequestError]) -> Iterator[tuple[str, Any, str]]:
    """Yield (field, value, file:line) of the sections that this run uses, a weaker layer first."""
    for folder in ("default", context.machine.system):
        path = configs / folder / f"{context.benchmark}.yaml"
        if not _is_here(path):
            continue
        try:
            sections = _read(path, mistakes)
        except RequestError as error:
            mistakes.append(error)
            continue
        for section in (COMMON, context.scenario.value):
            yield from sections.get(section, [])


def _is_here(path: Path) -> bool:
    """Tell whether there is anything at `path`: a broken link or a closed folder is not as good as no file."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        pass  # reading it will say why
    return True


def _read(path: Path, mistakes: list[RequestError]) -> dict[str, list[tuple[str, Any, str]]]:
    """Return each section's (field, value, file:line), and note what is wrong anywhere, used by this run or not."""
    known = [COMMON, *(scenario.value for scenario in Scenario)]
    sections: dict[str, list[tuple[str, Any, str]]] = {}
    for section in entries(path, mistakes):
        where = f"{display(path)}:{section.line}"
        if section.key not in known:
            what = f"unknown section {plain(section.key)}"
            mistakes.append(RequestError(what, where=where, mend=did_you_mean(section.key, known)))
        elif not section.is_mapping:
            mistakes.append(RequestError(f"section {section.key} must hold `field: value` lines", where=where))
        else:
            sections[section.key] = list(_values(section, path, mistakes))
    return sections


def _values(section: Entry, path: Path, mistakes: list[RequestError]) -> Iterator[tuple[str, Any, str]]:
    known = [name for name in fields.names() if name not in IDENTITY]
    for entry in section.children():
        where, name = f"{display(path)}:{entry.line}", f"{section.key}.{plain(entry.key)}"
        if entry.key not in known:
            mend = did_you_mean(entry.key, known)
            mistakes.append(RequestError(f"{name}: unknown field", where=where, mend=mend))
            continue
        try:
            yield entry.key, fields.convert(entry.key, entry.value(), from_text=False), where
        except ValueError as error:
            mistakes.append(RequestError(f"{name} {error}", where=where))
        except RequestError as error:
            mistakes.append(error)
