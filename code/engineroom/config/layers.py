"""Merges the layers of settings; every value keeps its origin.

    benchmark's own < for each tree: configs/default/<benchmark>.yaml < configs/<system>/<benchmark>.yaml
    < configs/<system>/<benchmark>.tuned.yaml < environment < flags < rules

The trees are the checkout's configs/ and then those of the overlays (ENGINEROOM_PATH). Rules fill only what no layer
has set, or has set to none. A file has a section `common:` and one per scenario.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from engineroom import legacy
from engineroom.config import fields, plausibility
from engineroom.config.fields import RunConfig
from engineroom.config.rules import RULES, Context
from engineroom.config.values import convert
from engineroom.errors import Mistakes, RequestError, did_you_mean, plain
from engineroom.paths import CONFIGS, display, layers
from engineroom.terms import Scenario, TestMode
from engineroom.yaml_file import Entry, entries

COMMON = "common"
DEFAULT = "default"  # the folder of settings that hold for every system
TUNED = ".tuned.yaml"  # how the name of a file ends that tuning wrote
SECTIONS = (COMMON, *(scenario.value for scenario in Scenario))
VARIABLE = "ENGINEROOM_"  # how an environment variable that sets a field begins


class Kind(StrEnum):
    """What set a value."""

    DEFAULT = "default"
    BENCHMARK = "benchmark"
    FILE = "file"
    ENVIRONMENT = "environment"
    FLAG = "flag"
    REQUEST = "request"
    RULE = "rule"


@dataclass(frozen=True)
class Origin:
    """Where a value comes from: "configs/default/digits.yaml:7", "--batch_size", "default" or "rule <name>: <why>"."""

    text: str
    kind: Kind = Kind.RULE


@dataclass(frozen=True)
class Setting:
    """One layer's word on a field."""

    value: Any
    origin: Origin


@dataclass(frozen=True)
class Resolved:
    """A run's settings and the origin of each.

    `said` holds, for each field, what every layer said, the weakest first; the last one counts. `warnings` name values
    that are allowed, but hardly meant.
    """

    config: RunConfig
    origins: Mapping[str, Origin]
    said: Mapping[str, Sequence[Setting]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def replace(self, origin: str, **changes: Any) -> Resolved:
        """Return a copy with some values changed by the rule `origin`."""
        import msgspec

        settings = {name: Setting(value, Origin(origin)) for name, value in changes.items()}
        return Resolved(
            msgspec.structs.replace(self.config, **changes),
            {**self.origins, **{name: setting.origin for name, setting in settings.items()}},
            {**self.said, **{name: [*self.said.get(name, ()), setting] for name, setting in settings.items()}},
            self.warnings,
        )


def resolve(
    context: Context,
    test_mode: TestMode,
    overrides: Mapping[str, str],
    *,
    environment: Mapping[str, str] | None = None,
    configs: Sequence[Path] | None = None,
) -> Resolved:
    """Return the settings of one run.

    `overrides` holds the text of each flag given, `environment` that of each field's variable, `configs` the trees, the
    weakest first. Raises Mistakes with every mistake of every layer.
    """
    trees = layers(CONFIGS) if configs is None else tuple(configs)
    said = _said(context, overrides, environment or {}, trees)
    identity = {"benchmark": context.benchmark, "system": context.machine.system, "scenario": context.scenario}
    for name, value in {**identity, "test_mode": test_mode}.items():
        said[name].append(Setting(value, Origin("the request", Kind.REQUEST)))
    values = {name: settings[-1].value for name, settings in said.items() if settings}
    for name, rule in RULES.items():
        if values.get(name) in (None, "auto"):
            values[name], why = rule(context, values)
            said[name].append(Setting(values[name], Origin(f"rule {rule.__name__}: {why}")))
    origins = {name: settings[-1].origin for name, settings in said.items()}
    _check_pairs(values, origins)
    texts = {name: origin.text for name, origin in origins.items()}
    config = RunConfig(**values)
    return Resolved(
        config, origins, said, tuple(plausibility.remarks(config, texts, context, lambda: told(context, trees)))
    )


def which(context: Context, overrides: Mapping[str, str], environment: Mapping[str, str]) -> dict[str, Any]:
    """Return the fields OF_BENCHMARK, which say what data and model a benchmark is, before anything else is derived.

    Raises Mistakes with every mistake of every layer.
    """
    said = _said(context, overrides, environment, layers(CONFIGS))
    return {name: said[name][-1].value for name in fields.OF_BENCHMARK}


def _said(
    context: Context, overrides: Mapping[str, str], environment: Mapping[str, str], trees: Sequence[Path]
) -> dict[str, list[Setting]]:
    """Return what every layer says of each field, the weakest first."""
    said: dict[str, list[Setting]] = {name: [] for name in fields.names()}
    for name, value in fields.defaults().items():
        said[name].append(Setting(value, Origin("default", Kind.DEFAULT)))
    mistakes: list[RequestError] = []
    for name, setting in (
        *_of_benchmark(context, mistakes),
        *_of_files(context, trees, mistakes),
        *_of_texts(environment, Kind.ENVIRONMENT, mistakes),
        *_of_texts(overrides, Kind.FLAG, mistakes),
    ):
        said[name].append(setting)
    if mistakes:
        raise Mistakes(mistakes)
    return said


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


def _of_benchmark(context: Context, mistakes: list[RequestError]) -> Iterator[tuple[str, Setting]]:
    where = f"benchmark {context.benchmark}"
    for section in (COMMON, context.scenario.value):
        for name, value in context.benchmark_settings.get(section, {}).items():
            if name not in fields.settable():
                mistakes.append(RequestError(f"{plain(name)}: unknown field", where=where, mend=nearest(name)))
                continue
            try:
                yield name, Setting(convert(name, value, from_text=False), Origin(where, Kind.BENCHMARK))
            except ValueError as error:
                mistakes.append(RequestError(f"{name} {error}", where=where))


def _of_texts(texts: Mapping[str, str], kind: Kind, mistakes: list[RequestError]) -> Iterator[tuple[str, Setting]]:
    for name, text in texts.items():
        where = f"--{name}" if kind is Kind.FLAG else f"{VARIABLE}{name.upper()}"
        try:
            yield name, Setting(convert(name, text, from_text=True), Origin(where, kind))
        except ValueError as error:
            mistakes.append(RequestError(f"{name} {error}", where=where))


def files(benchmark: str, system: str, trees: Sequence[Path]) -> list[Path]:
    """Return the settings files of a benchmark on a system that are there, the weakest first."""
    named = [
        path
        for tree in trees
        for path in (
            tree / DEFAULT / f"{benchmark}.yaml",
            tree / system / f"{benchmark}.yaml",
            tree / system / f"{benchmark}{TUNED}",
        )
    ]
    return [path for path in named if _is_here(path)]


def unread(trees: Sequence[Path], benchmarks: Sequence[str]) -> dict[str, list[Path]]:
    """Return, by reason, the files in the trees that no run of these benchmarks reads."""
    found: dict[str, list[Path]] = {}
    for path in (path for tree in trees for pattern in ("*.y*ml", "*/*.y*ml") for path in sorted(tree.glob(pattern))):
        if why := _why_unread(path, path.parent in trees, benchmarks):
            found.setdefault(why, []).append(path)
    return found


def _why_unread(path: Path, is_loose: bool, benchmarks: Sequence[str]) -> str:
    if is_loose:
        return f"settings stand in a folder, {DEFAULT} or a system's"
    if path.suffix != ".yaml":
        return "names of settings files end in .yaml"
    if path.name.endswith(TUNED) and path.parent.name == DEFAULT:
        return "tuned settings are a system's"
    benchmark = path.name.removesuffix(TUNED).removesuffix(".yaml")
    if benchmark in benchmarks:
        return ""
    mend = did_you_mean(benchmark, benchmarks, otherwise="it waits for one")
    return f"there is no benchmark {plain(benchmark)}; {mend}"


def _of_files(context: Context, trees: Sequence[Path], mistakes: list[RequestError]) -> Iterator[tuple[str, Setting]]:
    """Yield the settings of the sections that this run uses, a weaker layer first."""
    for path in files(context.benchmark, context.machine.system, trees):
        try:
            sections = read(path, mistakes)
        except RequestError as error:
            mistakes.append(error)
            continue
        for section in (COMMON, context.scenario.value):
            yield from sections.get(section, {}).items()


def told(context: Context, trees: Sequence[Path]) -> list[plausibility.Told]:
    """Return what settings files say of this benchmark on this system and its family. Mistakes are passed over."""
    found = []
    stem = plausibility.family(context.machine.system)[0]
    for tree in trees:
        names = (f"*/{context.benchmark}{ending}" for ending in (".yaml", TUNED))
        for path in sorted(path for name in names for path in tree.glob(name)):
            if plausibility.family(path.parent.name)[0] != stem:
                continue
            try:
                sections = read(path, [])
            except RequestError:
                continue
            found += [
                plausibility.Told(path.parent.name, name, setting.value, setting.origin.text)
                for settings in sections.values()
                for name, setting in settings.items()
            ]
    return found


def _is_here(path: Path) -> bool:
    """Tell whether there is anything at `path`: a broken link or a closed folder is not as good as no file."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        pass  # reading it will say why
    return True


def read(path: Path, mistakes: list[RequestError]) -> dict[str, dict[str, Setting]]:
    """Return each section's settings, and note what is wrong anywhere, used by this run or not, line by line."""
    sections: dict[str, dict[str, Setting]] = {}
    found: list[RequestError] = []
    for section in entries(path, found):
        where = f"{display(path)}:{section.line}"
        if section.key not in SECTIONS:
            what = f"unknown section {plain(section.key)}"
            if section.key in fields.settable():
                mend = f"settings stand in a section: {', '.join(SECTIONS)}"
            else:
                mend = did_you_mean(section.key, SECTIONS)
            found.append(RequestError(what, where=where, mend=mend))
        elif not section.is_mapping:
            found.append(RequestError(f"section {section.key} must hold `field: value` lines", where=where))
        else:
            sections[section.key] = dict(_values(section, path, found))
    mistakes.extend(sorted(found, key=lambda mistake: int(str(mistake.where).rpartition(":")[2])))
    return sections


def _values(section: Entry, path: Path, mistakes: list[RequestError]) -> Iterator[tuple[str, Setting]]:
    known = fields.settable()
    for entry in section.children():
        where, name = f"{display(path)}:{entry.line}", f"{section.key}.{plain(entry.key)}"
        if entry.key not in known:
            mistakes.append(RequestError(f"{name}: unknown field", where=where, mend=nearest(entry.key)))
            continue
        try:
            value = convert(entry.key, entry.value(), from_text=False)
            yield entry.key, Setting(value, Origin(where, Kind.FILE))
        except ValueError as error:
            mistakes.append(RequestError(f"{name} {error}", where=where))
        except RequestError as error:
            mistakes.append(error)


def nearest(name: str) -> str:
    """Say which field is meant by an unknown name: by NVIDIA's or LoadGen's name for it, or the nearest one."""
    ours = legacy.FIELDS.get(name)
    if ours in fields.settable():
        return f"that is {ours} here"
    refused, words = legacy.FLAGS.get(name, {}).get("*", ((), ""))
    if refused is None:
        return words
    if by_loadgen := fields.by_loadgen(name):
        return f"that is {' or '.join(by_loadgen)} here"
    return did_you_mean(name, fields.settable(), otherwise="make explain lists the settings")
