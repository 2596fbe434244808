"""Builds a submitter's tree beside the former one, and puts it in its place in whole."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from engineroom import rounds, terminal, versions
from engineroom.benchmarks import Benchmark
from engineroom.errors import EngineroomError, Mistakes, RequestError
from engineroom.paths import SUBMISSION, ensure_folder, locked, not_writable, sync_file, sync_folder, write_text
from engineroom.runs import RECIPE
from engineroom.steps.submission import documents, pack, privacy, scrub
from engineroom.steps.submission.choose import Chosen
from engineroom.steps.submission.entry import NOTICE, TITLE, Entry
from engineroom.steps.submission.layout import (
    ACCURACY,
    ACCURACY_LOG,
    DETAIL_LOG,
    README,
    SUMMARY_LOG,
    USER_CONF,
    Place,
    Tree,
    model_mapping,
)
from engineroom.steps.submission.rehearsal import MARK
from engineroom.terms import Scenario

PARTIAL, FORMER, RECORD = ".partial", ".former", ".staged.json"
SHOWN = 20
SAME_SYSTEM = (
    "host_processor_model_name",
    "host_processors_per_node",
    "host_processor_core_count",
    "host_memory_capacity",
    "accelerator_model_name",
    "accelerators_per_node",
    "number_of_nodes",
)


@dataclass(frozen=True)
class Item:
    """One benchmark on one system. `system` is the id in the tree, `description` the text of its file."""

    system: str
    benchmark: Benchmark
    chosen: Mapping[Scenario, Chosen]
    description: str

    def place(self, scenario: Scenario) -> Place:
        """Return where a scenario's result goes."""
        engine = self.chosen[scenario].performance.config.engine
        return Place(self.system, self.benchmark.name, scenario, engine)


@dataclass(frozen=True)
class Staged:
    """What was staged, what was replaced in it by placeholders, and where the archive of the former tree is now."""

    folder: Path
    places: tuple[Place, ...]
    replaced: tuple[scrub.Finding, ...]
    former_archive: Path | None


def tree_of(entry: Entry) -> Tree:
    """Return where the files of an entry lie."""
    return Tree(rounds.read(entry.round).layout, entry.division, entry.submitter)


def stage(entry: Entry, items: Sequence[Item], private: privacy.Private) -> Staged:
    """Stage items into the entry's tree: what other benchmarks and systems have there stays.

    Raises Mistakes for what must not be published and may not be replaced, RequestError if there is no room. The former
    tree is untouched then.
    """
    tree = tree_of(entry)
    with held(entry), _beside(entry) as root:
        before = _recorded(entry)
        _take_over(entry, root)
        for item in items:
            _drop_former(root, tree, item)
        for item in items:
            _write_item(root, tree, entry, item)
        _write_mapping(root, tree, entry, items)
        _write_common(root, tree, entry)
        scrubber = _scrubber(entry, tree.systems(root), private, before)
        found = scrub.scrub(root / tree.folder, root / tree.code, scrubber)
        refuse([each for each in found if not each.placeholder])
        _explain(root / tree.folder, found)
        there = {str(place) for place in tree.places(root)}
        kept = {place: told for place, told in before.runs.items() if place in there}
        _write_record(root / RECORD, Record({**kept, **_runs_of(items)}, scrubber.placeholders))
        aside = pack.set_aside(entry.archive)
    places = tuple(item.place(scenario) for item in items for scenario in item.chosen)
    return Staged(entry.folder, places, tuple(found), aside)


def _explain(folder: Path, found: Sequence[scrub.Finding]) -> None:
    """Say in each README.md what was replaced in it, and what to put there: its commands are typed by others."""
    for name in dict.fromkeys(each.path for each in found if Path(each.path).name == README):
        words = {each.placeholder: each.kind for each in found if each.path == name}
        lines = [f"- `{word}`: {documents.PLACEHOLDERS[kind]}" for word, kind in words.items()]
        path = folder / name
        _put(path, "\n".join([path.read_text(encoding="utf-8").rstrip(), "", documents.REPLACED, "", *lines, ""]))


def refuse(left: Sequence[scrub.Finding]) -> None:
    """Raise Mistakes for what must not be published and was not replaced."""
    if not left:
        return
    told = [RequestError(f"holds a {each.kind}: {each.told}", where=each.where) for each in left]
    more = f", and {len(told) - SHOWN} more" if len(told) > SHOWN else ""
    mend = (
        "logs, verdicts and code are never changed here: run the test again without it, or, if it may be published, "
        "say so: --public=WORD,WORD"
    )
    raise Mistakes([*told[:SHOWN], RequestError(f"this must not be published{more}", mend=mend)])


def scrubber_of(entry: Entry) -> scrub.Scrubber:
    """Return what looks through a staged tree again."""
    return _scrubber(entry, tree_of(entry).systems(entry.root), privacy.of_this_machine(), _recorded(entry))


def _scrubber(entry: Entry, systems: Sequence[str], private: privacy.Private, before: Record) -> scrub.Scrubber:
    return scrub.Scrubber(private, _public(entry, systems), dict(before.placeholders))


def _public(entry: Entry, systems: Sequence[str]) -> frozenset[str]:
    """Return what may be published: what the entry itself says, and the systems' names; in lower case."""
    words = [*entry.public, entry.submitter, *re.split(r"[\W_]+", entry.submitter)]
    return frozenset(word.lower() for word in (*words, *systems) if word)


# The record


class Record(msgspec.Struct, frozen=True):
    """What is kept beside the tree: which run each result is, and what each placeholder stands for."""

    runs: dict[str, dict[str, str]] = {}
    placeholders: dict[str, str] = {}


def _recorded(entry: Entry) -> Record:
    try:
        return msgspec.json.decode(_record(entry.title).read_bytes(), type=Record)
    except (OSError, msgspec.DecodeError):
        return Record()


def _record(title: str) -> Path:
    return SUBMISSION / f"{title}{RECORD}"


def _write_record(path: Path, record: Record) -> None:
    write_text(path, msgspec.json.format(msgspec.json.encode(record), indent=1).decode() + "\n")
    path.chmod(0o600)  # it says what the placeholders stand for


def _runs_of(items: Sequence[Item]) -> dict[str, dict[str, str]]:
    return {
        str(item.place(scenario)): {
            "performance": chosen.performance.name,
            "accuracy": chosen.accuracy.name,
            **{test: run.name for test, run in chosen.audits.items()},
        }
        for item in items
        for scenario, chosen in item.chosen.items()
    }


# Beside the former tree


@contextmanager
def held(entry: Entry) -> Iterator[None]:
    """Hold the lock on all that is staged, the entry's tree being whole: what a kill has left half-way is mended."""
    with locked(SUBMISSION, _waits):
        _settle(entry.title, entry.folder)
        yield


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Let `path` be read: if it is of what is staged, hold the lock, every tree being whole; else do nothing."""
    if not SUBMISSION.is_dir() or not path.resolve().is_relative_to(SUBMISSION.resolve()):
        yield
        return
    with locked(SUBMISSION, _waits):
        for left in sorted(SUBMISSION.iterdir()):
            if left.suffix in (PARTIAL, FORMER) and (found := TITLE.fullmatch(left.stem)):
                _settle(left.stem, SUBMISSION.joinpath(*found.groups()))
        yield


def _waits() -> None:
    terminal.say("another process works on what is staged; waiting for it")


@contextmanager
def _beside(entry: Entry) -> Iterator[Path]:
    """Yield a folder for a new tree and its record; on success both take the former ones' places, else are removed."""
    root = _partial(entry.title)
    built = root / tree_of(entry).folder
    try:
        root.mkdir()
        yield root
        _sync(built)
        ensure_folder(entry.folder.parent)
        if entry.folder.exists():
            entry.folder.rename(_former(entry.title))
        built.rename(entry.folder)
        sync_folder(entry.folder.parent)
    except EngineroomError:
        raise
    except OSError as error:
        raise not_writable(entry.folder, error) from error
    finally:
        _settle(entry.title, entry.folder)


def _sync(folder: Path) -> None:
    """Let what was written into a folder last, before it takes its place: its files, and the folders that name them."""
    for parent, _, names in os.walk(folder):
        for name in names:
            sync_file(Path(parent, name))
        sync_folder(Path(parent))


def _partial(title: str) -> Path:
    return SUBMISSION / f"{title}{PARTIAL}"


def _former(title: str) -> Path:
    return SUBMISSION / f"{title}{FORMER}"


def _settle(title: str, folder: Path) -> None:
    """End a staging where it was broken off: a new tree in its place gets its record, else the former one is back.

    `title` and `folder` are the entry's.
    """
    root, former = _partial(title), _former(title)
    record, built = root / RECORD, root / folder.parent.name / folder.name
    if record.is_file() and not built.exists() and folder.exists():
        record.replace(_record(title))
    elif former.exists() and not folder.exists():
        former.rename(folder)
    shutil.rmtree(former, ignore_errors=True)
    record.unlink(missing_ok=True)  # before its tree: alone it would be taken for that of a finished staging
    shutil.rmtree(root, ignore_errors=True)


def _take_over(entry: Entry, root: Path) -> None:
    """Begin with what is staged already. Its files are shared: nothing writes into one, only in its place."""
    target = root / tree_of(entry).folder
    if entry.folder.is_dir():
        documents.copy_tree(entry.folder, target, _share)
    else:
        target.mkdir(parents=True)


def _share(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EXDEV, errno.EMLINK, errno.ENOTSUP):
            raise
        shutil.copy2(source, target)


# What is written


def _drop_former(root: Path, tree: Tree, item: Item) -> None:
    for folder in tree.of_benchmark(item.system, item.benchmark.name):
        shutil.rmtree(root / folder, ignore_errors=True)


def _write_item(root: Path, tree: Tree, entry: Entry, item: Item) -> None:
    _put(root / tree.system(item.system), _description(root, tree, item))
    for scenario, chosen in item.chosen.items():
        place = item.place(scenario)
        _write_result(root, tree, entry, item, place, chosen)
        _put(root / tree.code_of(place) / README, documents.sources_readme(item.benchmark.name))
    runs = [chosen.performance for chosen in item.chosen.values()]
    name = f"{item.system}-{item.benchmark.name}-{tree.calibration.name}"
    account = documents.calibration(item.benchmark, runs, f"{item.benchmark.name} on {item.system}")
    _put(root / tree.calibration.with_name(name), account)
    revision = runs[0].revision
    sources = root / tree.code / documents.sources_name(revision)
    if not versions.is_known(revision):  # what lies here may be another code than that of the last time
        shutil.rmtree(sources, ignore_errors=True)
    if not sources.exists():
        documents.write_sources(revision, sources)
    for overlay in dict.fromkeys(each for run in runs for each in run.overlays):
        folder = root / tree.code / documents.overlay_name(overlay)
        if not folder.exists():
            documents.write_overlay(overlay, folder)


def _write_mapping(root: Path, tree: Tree, entry: Entry, items: Sequence[Item]) -> None:
    """Write which benchmark each model of another name stands for, of all that is in the tree."""
    path, rules = root / tree.model_mapping, rounds.read(entry.round)
    checker_names = {name: checker for checker, name in rules.mappable().items()}
    others = [item.benchmark for item in items if not item.benchmark.mlperf]
    now = {benchmark.name: checker_names[benchmark.task] for benchmark in others if benchmark.task}
    there = {place.benchmark for place in tree.places(root)}
    mapped = {name: model for name, model in {**model_mapping(path), **now}.items() if name in there}
    if mapped:
        _put(path, json.dumps(mapped, indent=2) + "\n")
    else:
        path.unlink(missing_ok=True)


def _description(root: Path, tree: Tree, item: Item) -> str:
    """Return the text of the system's file: where other results have the system, it names their frameworks, too.

    Raises RequestError for a name that those have for another machine, or for this one in another category.
    """
    path = root / tree.system(item.system)
    others = [place for place in tree.places(root) if place.system == item.system]
    if not others or not path.is_file():
        return item.description
    before, now = json.loads(path.read_text(encoding="utf-8")), json.loads(item.description)
    if (told := before.get("system_type")) != now["system_type"]:
        raise RequestError(
            f"{item.system} has results of the category {told} there, now it is {now['system_type']}",
            where=str(tree.system(item.system)),
            mend="stage all of its benchmarks at once, in one category",
        )
    if differ := [name for name in SAME_SYSTEM if before.get(name) != now.get(name)]:
        name = differ[0]
        raise RequestError(
            f"two systems bear the name {item.system}: {name} is {before.get(name)!r} there, {now.get(name)!r} now",
            where=str(tree.system(item.system)),
            mend='give one of them a name of its own: make add_system RUN_ARGS="--id=NAME"',
        )
    frameworks = [*str(before.get("framework") or "").split(", "), *now["framework"].split(", ")]
    now["framework"] = ", ".join(dict.fromkeys(filter(None, frameworks)))
    return msgspec.json.format(msgspec.json.encode(now), indent=2).decode() + "\n"


def _write_result(root: Path, tree: Tree, entry: Entry, item: Item, place: Place, chosen: Chosen) -> None:
    measured, scored = chosen.performance, chosen.accuracy
    for name in (DETAIL_LOG, SUMMARY_LOG):
        _copy(measured.folder / name, root / tree.performance(place) / name)
    for name in (ACCURACY, ACCURACY_LOG, DETAIL_LOG, SUMMARY_LOG):
        _copy(scored.folder / name, root / tree.accuracy(place) / name)
    for test, run in chosen.audits.items():
        folder = run.folder / test
        for path in sorted(each for each in folder.rglob("*") if each.is_file()):
            _copy(path, root / tree.audit(place, test) / path.relative_to(folder))
    _copy(measured.folder / RECIPE / USER_CONF, root / tree.measurements(place) / USER_CONF)
    _put(root / tree.measurements_file(place), documents.measurements(item.benchmark, measured.config, entry))
    _put(root / tree.measurements(place) / README, documents.readme(place, chosen, item.benchmark, entry))


def _write_common(root: Path, tree: Tree, entry: Entry) -> None:
    """Write what follows from all that is in the tree, and drop what nothing in it needs any more."""
    accounts = (root / tree.calibration.parent).glob(f"*-{tree.calibration.name}")
    _put(root / tree.calibration, documents.calibration_index([path.name for path in accounts]))
    if entry.rehearsal:
        _put(root / tree.folder / MARK, f"# Rehearsal\n\n{NOTICE}\n")
    told = "".join(path.read_text(encoding="utf-8") for path in (root / tree.folder).glob(f"*/*/*/*/{README}"))
    for prefix in (documents.SOURCES_PREFIX, documents.OVERLAY_PREFIX):
        for path in (root / tree.code).glob(f"{prefix}*"):
            if f"`{path.name}`" not in told:
                shutil.rmtree(path)


def _put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)  # the former tree may share it
    path.write_text(text, encoding="utf-8")


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
