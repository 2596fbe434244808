"""Finds the settings in NVIDIA's files, in the forms that rounds v2.0 to v6.0 gave them.

v2.0 to v5.0 (some submitters longer): configs/<benchmark>/<Scenario>/*.py, classes that inherit from one another, each
registered for a harness, an accuracy target and a power setting. From v5.1 on: configs/<System>/<Scenario>/
<benchmark>.py, dicts of fields by workload setting in EXPORTS, or ATOMIC_EXPORTS of v6.0.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from engineroom.errors import RequestError
from engineroom.steps.nvidia_config.source import (
    Call,
    Class,
    Content,
    Function,
    Module,
    Place,
    Reader,
    Symbol,
    Table,
    Unreadable,
    Unresolved,
    Value,
)

SCENARIOS = ("Offline", "Server", "SingleStream", "MultiStream", "Interactive")
ENTRIES_MAX = 500_000  # a whole repository of results has fewer files
FIELDS_MAX = 1_000  # of one setting; NVIDIA's have at most some 60
IDENTITY = ("benchmark", "scenario", "system")
ROOTS = ("BenchmarkConfiguration", "object")  # what a class ends in, and which sets nothing

NATIVE = ("Custom", "LWIS")
_SUFFIX = re.compile(r"(_(High_?Accuracy|Max[PQ]|Triton|Hetero))+$", re.IGNORECASE)


@dataclass(frozen=True)
class Variant:
    """Which of NVIDIA's variants a setting is for."""

    harness: str = "Custom"
    accuracy: str = "99"
    power: str = "MaxP"
    extra: tuple[str, ...] = ()

    @property
    def is_default(self) -> bool:
        """Whether it is the native harness at full power, at the lower accuracy target."""
        return self.is_native and self.accuracy == "99"

    @property
    def is_native(self) -> bool:
        """Whether it is the native harness at full power."""
        return self.harness in NATIVE and self.power == "MaxP" and not self.extra

    def __str__(self) -> str:
        harness = "native harness" if self.harness in NATIVE else self.harness
        return ", ".join((harness, f"{self.accuracy} %", self.power, *self.extra))


@dataclass(frozen=True)
class Setting:
    """All fields that one variant of a benchmark has in a scenario on a system."""

    system: str
    benchmark: str
    scenario: str
    variant: Variant
    values: dict[str, Value]
    place: Place


@dataclass(frozen=True)
class Skipped:
    """What cannot be read as settings, and why."""

    what: str
    why: str
    place: Place


@dataclass
class Found:
    """What a folder holds. `files` counts the files that were read."""

    settings: list[Setting] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    files: int = 0


def find(path: Path) -> Found:
    """Return the settings in a folder and below it, or in one file. Raises RequestError for a folder without end."""
    found, reader = Found(), Reader()
    for file in _files(path.resolve(), found):
        found.files += 1
        try:
            _add(reader.read(file), found)
        except Unreadable as problem:
            found.skipped.append(Skipped("the file", str(problem), Place(file, problem.line)))
    return found


def _files(path: Path, found: Found) -> Iterator[Path]:
    """Yield the Python files that lie in a scenario's folder, in a fixed order."""
    if not path.is_dir():
        yield path
        return
    entries = 0

    def closed(error: OSError) -> None:
        place = Place(Path(error.filename or path), 0)
        found.skipped.append(Skipped("the folder", f"cannot be read: {error.strerror}", place))

    for name, folders, files in os.walk(path, onerror=closed):  # which follows no links: none can lead in a circle
        folder = Path(name)
        folders[:] = sorted(each for each in folders if not each.startswith(".") and each != "__pycache__")
        entries += len(folders) + len(files)
        if entries > ENTRIES_MAX:
            raise RequestError(f"holds more than {ENTRIES_MAX:,} files", where=str(path), mend="name NVIDIA's configs")
        for link in (folder / each for each in folders if (folder / each).is_symlink()):
            found.skipped.append(Skipped("the folder", "is a link, which is not followed", Place(link, 0)))
        for file in (folder / each for each in sorted(files) if folder.name in SCENARIOS):
            if file.suffix == ".py":
                yield file
            elif file.suffix != ".pyc" and not file.name.startswith("."):
                found.skipped.append(Skipped("the file", "is no Python file", Place(file, 0)))


def _add(module: Module, found: Found) -> None:
    before = len(found.settings), len(found.skipped)
    for made in module.classes:
        _add_class(module.path, made, found)
    _add_tables(module, found)
    for name, place in module.environment:
        found.skipped.append(Skipped(name, "is a variable of the environment, and no setting", place))
    if (len(found.settings), len(found.skipped)) == before:
        found.skipped.append(Skipped("the file", "registers and exports no settings", Place(module.path, 0)))


def _add_class(path: Path, made: Class, found: Found) -> None:
    """Add a class once for each workload setting that it is registered for."""
    registered = [call for call in made.decorators if isinstance(call, Call) and call.name == "register"]
    if not registered and "system" in made.names:
        found.skipped.append(Skipped(f"class {made.name}", "is not registered", made.place))
    if not registered:
        return
    ancestry, end = made.ancestry()
    if not (isinstance(end, Symbol) and end.last in ROOTS):
        base = end.last if isinstance(end, Symbol) else "a class"
        why = f"inherits from {base}, which is not in the files read: what that sets is missing"
        found.skipped.append(Skipped(f"class {made.name}", why, made.place))
    origin = next((each for each in ancestry if "system" in each.names), None)
    if origin is None:
        found.skipped.append(Skipped(f"class {made.name}", "names no system", made.place))
        return
    system = origin.names["system"].content
    # Some of v2.0's systems are described in place: those bear the name of their class, without that of a variant.
    name = system.last if isinstance(system, Symbol) and "KnownSystem" in system.name else _SUFFIX.sub("", origin.name)
    if sum(len(each.names) for each in ancestry) > FIELDS_MAX:
        found.skipped.append(Skipped(f"class {made.name}", f"sets more than {FIELDS_MAX:,} fields", made.place))
        return
    values = {word: value for each in reversed(ancestry) for word, value in each.names.items()}
    for call in registered:
        setting = Setting(name, path.parent.parent.name, path.parent.name, _variant(call), _fields(values), made.place)
        found.settings.append(setting)


def _add_tables(module: Module, found: Found) -> None:
    """Add what EXPORTS names, and what ATOMIC_EXPORTS names beyond it."""
    added: set[tuple[Variant, int]] = set()
    for name in ("EXPORTS", "ATOMIC_EXPORTS"):
        for variant, table, place in _tables(module.names.get(name), name, found):
            if (variant, id(table)) not in added:
                added.add((variant, id(table)))
                _add_table(module.path, variant, table, place, found)
    for name in ("ACCURACY_OVERRIDES", "COMPLIANCE_OVERRIDES"):
        if name in module.names:
            why = "holds for one kind of run only, which a file of settings cannot say"
            found.skipped.append(Skipped(name, why, module.names[name].place))


def _tables(exported: Value | None, name: str, found: Found) -> Iterator[tuple[Variant, Table, Place]]:
    """Yield each table of fields with its variant. In v6.0 a variant may have several, by names of their own."""
    if exported is None:
        return
    exports = exported.content
    if not isinstance(exports, Table) or exports.doubt:
        place = exports.doubt if isinstance(exports, Table) and exports.doubt else exported.place
        found.skipped.append(Skipped(name, "cannot be worked out without running it", place))
        return
    for key, value in exports.entries.items():
        variant, table = _variant(key), value.content
        if not isinstance(table, Table):
            found.skipped.append(Skipped(str(variant), "cannot be worked out without running it", value.place))
        elif named := _named(table):
            for word, (inner, place) in named.items():
                yield variant if word == "default" else replace(variant, extra=(word,)), inner, place
        else:
            yield variant, table, value.place


def _named(table: Table) -> dict[str, tuple[Table, Place]]:
    """Return the tables that a table holds by name, or nothing if it is itself one of fields."""
    named = {
        word: (value.content, value.place)
        for word, value in table.entries.items()
        if isinstance(word, str) and isinstance(value.content, Table)
    }
    return named if len(named) == len(table.entries) and not table.doubt else {}


def _add_table(path: Path, variant: Variant, table: Table, place: Place, found: Found) -> None:
    if table.doubt:
        why = "may change a table of settings in a way that only running it would show: the table is left out"
        found.skipped.append(Skipped("this line", why, table.doubt))
        return
    if len(table.entries) > FIELDS_MAX:
        found.skipped.append(Skipped(str(variant), f"sets more than {FIELDS_MAX:,} fields", place))
        return
    values = {_last(key): value for key, value in table.entries.items()}
    system, scenario = path.parent.parent.name, path.parent.name
    found.settings.append(Setting(system, path.stem, scenario, variant, _fields(values), place))


def _fields(values: dict[str, Value]) -> dict[str, Value]:
    """Return the values that are fields. A field that is None counts for NVIDIA as not set."""
    return {
        name: value
        for name, value in values.items()
        if not name.startswith("_")
        and name not in IDENTITY
        and value.content is not None
        and not isinstance(value.content, Function | Class | Module)
    }


def _variant(key: Content) -> Variant:
    """Return the variant that a workload setting names, by place or by keyword."""
    if not isinstance(key, Call):
        return Variant(extra=(_last(key),))
    named = {**dict(zip(("harness_type", "accuracy_target", "power_setting"), key.arguments, strict=False))}
    named.update(key.keywords)
    extra = tuple(_last(each) for each in key.arguments[3:])
    default = Variant()
    return Variant(
        _last(named.get("harness_type", default.harness)),
        _accuracy(named.get("accuracy_target", default.accuracy)),
        _last(named.get("power_setting", default.power)),
        extra,
    )


def _accuracy(target: Content) -> str:
    """Return the accuracy target in percent: AccuracyTarget.k_99_9 and AccuracyTarget(0.999) are "99.9"."""
    if isinstance(target, Call) and len(target.arguments) == 1 and isinstance(target.arguments[0], int | float):
        return f"{target.arguments[0] * 100:g}"
    return _last(target).removeprefix("k_").replace("_", ".")


def _last(content: Content) -> str:
    """Return what a name is called without where it comes from."""
    match content:
        case Symbol(last=name) | Call(name=name) | Unresolved(text=name) | str(name):
            return name
        case int() | float() | None:
            return str(content)
    return "?"
