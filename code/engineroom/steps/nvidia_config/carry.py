"""Turns NVIDIA's settings into configs/<system>/<benchmark>.yaml, and says of every other one why it stays behind."""

from __future__ import annotations

import json
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from engineroom import legacy
from engineroom.config import fields
from engineroom.config.layers import COMMON, DEFAULT, SECTIONS
from engineroom.config.values import convert
from engineroom.errors import shown
from engineroom.paths import write_text
from engineroom.steps.nvidia_config.settings import Found, Setting
from engineroom.steps.nvidia_config.source import Call, Content, Place, Symbol, Table, Unresolved, Value
from engineroom.terms import Precision, Scenario

NO_SUCH_SETTING = "no such setting in this version"
SECOND = "stands a second time, with other values: the first one counts"
VARIANT = "a variant: only NVIDIA's default is carried over (native harness, 99 %, MaxP)"


@dataclass(frozen=True)
class Carried:
    """One value that is carried over: NVIDIA's `name` and file:line, and the field and value it becomes."""

    name: str
    where: str
    field: str
    value: Any


@dataclass(frozen=True)
class Left:
    """What is not carried over, with file:line and the reason."""

    what: str
    reason: str
    where: str


@dataclass
class Config:
    """One file to write: `sections` maps a scenario, or "common", to its values by field."""

    system: str
    benchmark: str
    sections: dict[str, dict[str, Carried]] = field(default_factory=dict)
    remarks: dict[str, str] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        """Where it belongs, below a folder of configs."""
        return Path(self.system, f"{self.benchmark}.yaml")

    @property
    def values(self) -> int:
        """How many values it holds."""
        return sum(map(len, self.sections.values()))


@dataclass(frozen=True)
class Import:
    """What a folder of NVIDIA's comes to here."""

    files: int
    configs: tuple[Config, ...]
    left: tuple[Left, ...]


def carry_over(found: Found, root: Path) -> Import:
    """Return the files to write and what is left behind. `root` is the folder that file:line count from."""
    root = root.resolve()
    left = {Left(_word(each.what), each.why, _where(each.place, root)): None for each in found.skipped}
    configs: dict[tuple[str, str], Config] = {}
    for setting in _chosen(found.settings, root, left):
        system, benchmark = _folder_name(setting.system), _folder_name(setting.benchmark)
        if system in ("", DEFAULT) or benchmark in ("", "__init__"):
            reason = "cannot be the name of a file of settings here"
            left[Left(_word(f"{setting.system}/{setting.benchmark}"), reason, _where(setting.place, root))] = None
            continue
        config = configs.setdefault((system, benchmark), Config(system, benchmark))
        if values := _carried(setting, root, left):
            config.sections[setting.scenario] = values
            if not setting.variant.is_default:
                config.remarks[setting.scenario] = f"NVIDIA has only this variant of it ({setting.variant})"
    for config in configs.values():
        _hoist(config)
    full = sorted((config for config in configs.values() if config.sections), key=lambda each: each.path)
    return Import(found.files, tuple(full), tuple(left))


def _chosen(settings: Iterable[Setting], root: Path, left: dict[Left, None]) -> Iterator[Setting]:
    """Yield one setting for each system, benchmark and scenario: the default, else the high accuracy's."""
    groups: defaultdict[tuple[str, str, str], list[Setting]] = defaultdict(list)
    for setting in settings:
        groups[setting.system, setting.benchmark, setting.scenario].append(setting)
    for group in groups.values():
        best = next((each for each in group if each.variant.is_default), None)
        best = best or next((each for each in group if each.variant.is_native), None)
        if best and best.scenario not in list(Scenario):
            reason = f"the scenario {best.scenario} is not in this version"
            left[Left(_word(best.benchmark), reason, _where(best.place, root))] = None
        elif best:
            yield best
        for other in (each for each in group if each is not best):
            what, reason = str(other.variant), VARIANT
            if best and other.variant == best.variant:
                if _contents(other) == _contents(best):
                    continue
                what, reason = f"{best.system} {best.benchmark} {best.scenario}", SECOND
            left[Left(_word(what), reason, _where(other.place, root))] = None


def _contents(setting: Setting) -> dict[str, Content]:
    """Return the values that can be compared: those of fields, without their lines."""
    simple = (int, float, str, bool, type(None), Symbol, Unresolved)
    return {name: value.content for name, value in setting.values.items() if isinstance(value.content, simple)}


def _carried(setting: Setting, root: Path, left: dict[Left, None]) -> dict[str, Carried]:
    """Return what becomes a value here, by field, and note the rest."""
    values: dict[str, Carried] = {}
    # NVIDIA's own names first: where a file has gpu_batch_size and batch_size, the former is the GPU's.
    for name in sorted(setting.values, key=lambda each: each not in legacy.FIELDS):
        value = setting.values[name]
        where = _where(value.place, root)
        try:
            carried = Carried(_word(name), where, *_converted(name, value))
            if first := values.get(carried.field):
                raise ValueError(f"{carried.field} is set by {first.name} already")
            values[carried.field] = carried
        except ValueError as reason:
            left[Left(_word(name), str(reason), where)] = None
    return values


def _converted(name: str, value: Value) -> tuple[str, Any]:
    """Return the field that a name of NVIDIA's is here, and its value. Raises ValueError with the reason if none."""
    refused, words = legacy.FLAGS.get(name, {}).get("*", ((), ""))
    if refused is None:
        raise ValueError(words)
    ours = legacy.FIELDS.get(name, name)
    if ours not in fields.settable():
        raise ValueError(NO_SUCH_SETTING)
    content = value.content
    if isinstance(content, Table):
        content = _only_part(content)
    if ours == "precision" and isinstance(content, Symbol | str):
        content = _precision(content.last if isinstance(content, Symbol) else content)
    match content:
        case Unresolved(text=text) | Symbol(name=text) | Call(name=text):
            raise ValueError(f"cannot be worked out without running it: {_word(text)}")
        case int() | float() | str():
            pass
        case _:
            raise ValueError("is no single value")
    if isinstance(content, float) and content.is_integer() and fields.is_whole(ours):
        content = int(content)
    return ours, convert(ours, content, from_text=False)


def _only_part(table: Table) -> Content:
    """Return the value of a dict by parts of the model if there is one part: {"bert": 64}."""
    if table.doubt or not table.entries:
        raise ValueError("is an empty dict" if not table.doubt else "cannot be worked out without running it")
    if len(table.entries) > 1:
        raise ValueError("differs by part of the model; here it is one value for all of it")
    return next(iter(table.entries.values())).content


def _precision(name: str) -> str:
    if name.lower() not in list(Precision):
        raise ValueError(f"precision {shown(name.lower())} is not in this version")
    return name.lower()


def _hoist(config: Config) -> None:
    """Move to `common` what every scenario has from one and the same line: a value of the benchmark's base class."""
    sections = list(config.sections.values())
    if len(sections) < 2:
        return
    shared = {
        name: carried for name, carried in sections[0].items() if all(each.get(name) == carried for each in sections)
    }
    if shared:
        for scenario, section in config.sections.items():
            config.sections[scenario] = {name: section[name] for name in section if name not in shared}
        config.sections[COMMON] = shared
        config.sections = {name: section for name, section in config.sections.items() if section}


def render(config: Config, source: str) -> str:
    """Return the file's text. Each value's comment names the setting there and its file:line, as `source` counts."""
    lines = [
        "# Settings of NVIDIA's, carried over by make import_nvidia_config. Each comment names the setting there and",
        f"# its file:line in {_word(source)}",
    ]
    for section in SECTIONS:
        if values := config.sections.get(section):
            remark = f" # {config.remarks[section]}" if section in config.remarks else ""
            lines += ["", f"{section}:{remark}"]
            order = [name for name in fields.names() if name in values]
            lines += [f"  {name}: {_scalar(values[name].value)} # {_origin(values[name])}" for name in order]
    return "\n".join(lines) + "\n"


def _origin(carried: Carried) -> str:
    return f"{carried.name}, {carried.where}"


def _scalar(value: Any) -> str:
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value)


@dataclass
class Written:
    """What became of the files, or would have become of them: paths below the folder of configs."""

    dry_run: bool
    written: list[Path] = field(default_factory=list)
    unchanged: list[Path] = field(default_factory=list)
    kept: list[Path] = field(default_factory=list)


def write(configs: Iterable[Config], source: str, output: Path, *, force: bool, dry_run: bool) -> Written:
    """Write the files below `output`; one that is there with another content is kept unless `force`.

    Where `output` has a schema, each file names it, for editors. Raises RequestError if a folder cannot be written.
    """
    done = Written(dry_run)
    head = "# yaml-language-server: $schema=../schema.json\n" if (output / "schema.json").is_file() else ""
    for config in configs:
        path, text = output / config.path, head + render(config, source)
        if os.path.lexists(path) and _content_of(path) == text:
            done.unchanged.append(config.path)
        elif os.path.lexists(path) and not force:
            done.kept.append(config.path)
        else:
            if not dry_run:
                write_text(path, text)
            done.written.append(config.path)
    return done


def _content_of(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8") if path.is_file() else None
    except (OSError, UnicodeDecodeError):
        return None


def by_reason(left: Iterable[Left]) -> dict[str, dict[str, list[str]]]:
    """Group what is left by reason, then by what it is, with the places of each; the most frequent come first."""
    groups: defaultdict[str, defaultdict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for each in left:
        groups[each.reason][each.what].append(each.where)

    def count(group: Mapping[str, list[str]]) -> int:
        return sum(map(len, group.values()))

    reasons = sorted(groups, key=lambda reason: -count(groups[reason]))
    return {
        reason: dict(sorted(groups[reason].items(), key=lambda item: (-len(item[1]), item[0]))) for reason in reasons
    }


def _where(place: Place, root: Path) -> str:
    path = place.path
    if path == root:
        shown = path.name
    elif path.is_relative_to(root):
        shown = str(path.relative_to(root))
    else:  # a base class beside the folder that was named
        shown = os.path.relpath(path, root if root.is_dir() else root.parent)
    return _word(f"{shown}:{place.line}" if place.line else shown)


def _word(text: str) -> str:
    """Return a text that stays on its line, in a comment of YAML too."""
    return text if text.isprintable() else ascii(text)


def _folder_name(name: str) -> str:
    """Return a name that is safe as a folder's: no separator, no leading dot."""
    return re.sub(r"[^A-Za-z0-9_.+-]+", "_", name).lstrip(".-")[:200]
