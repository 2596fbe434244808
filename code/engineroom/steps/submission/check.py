"""Holds a staged tree against what a submission must have, by the rules of its round. No figure is judged here anew."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from engineroom import detail_log
from engineroom.errors import RequestError
from engineroom.rounds import Round
from engineroom.steps.submission.entry import REHEARSAL, Entry
from engineroom.steps.submission.layout import ACCURACY, DETAIL_LOG, Place, Tree
from engineroom.steps.submission.stage import MARK
from engineroom.steps.submission.truncate import recorded_hash


def problems(root: Path, tree: Tree, rules: Round, entry: Entry) -> list[RequestError]:
    """Return what is wrong with a submitter's tree in `root`. A rehearsal need not be long enough, nor valid."""
    found = [*_names(root, tree, rules), *_systems(root, tree, rules), *_documents(root, tree, entry)]
    places = tree.places(root)
    if not places:
        found.append(RequestError("holds no result", where=str(tree.folder)))
    found += _scenarios(places, root, tree, rules, entry)
    for place in places:
        found += _files(root, tree, rules, place)
        found += _audits(root, tree, rules, place)
        if not entry.rehearsal:
            found += _log(root, tree, rules, place)
    return found


def rehearsed(root: Path, tree: Tree) -> list[str]:
    """Return the signs that a tree, or a part of it, is a rehearsal's: such a one is never submitted."""
    folder = root / tree.folder
    signs = [str(MARK)] if (folder / MARK).exists() else []
    signs += [f"system {name}" for name in tree.systems(root) if name.endswith(f"-{REHEARSAL}")]
    for place in tree.places(root):
        path = root / tree.measurements_file(place)
        if path.is_file() and f'"{REHEARSAL}"' in path.read_text(encoding="utf-8", errors="replace"):
            signs.append(str(tree.measurements_file(place)))
    return signs


def _names(root: Path, tree: Tree, rules: Round) -> Iterator[RequestError]:
    """Files that MLCommons' repository_checks.sh refuses."""
    for path in sorted((root / tree.folder).rglob("*")):
        where = str(path.relative_to(root))
        if path.is_symlink():
            yield RequestError("is a link", where=where)
        elif path.name.startswith(".") or " " in path.name:
            yield RequestError("a name must not hold a space, or begin with a dot", where=where)
        elif path.is_file() and path.stat().st_size > rules.limits.file_bytes:
            yield RequestError(f"has more than {rules.limits.file_bytes:,} bytes", where=where)


def _systems(root: Path, tree: Tree, rules: Round) -> Iterator[RequestError]:
    wanted = rules.system_description
    for system in dict.fromkeys((*(place.system for place in tree.places(root)), *tree.systems(root))):
        where = str(tree.system(system))
        try:
            told = json.loads((root / tree.system(system)).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            yield RequestError(f"cannot be read: {error}", where=where)
            continue
        for name in (*wanted.not_empty, *wanted.may_be_empty):
            if name not in told or (name in wanted.not_empty and not told[name]):
                yield RequestError(f"{name} is missing", where=where)
        for name, allowed in wanted.allowed.items():
            if str(told.get(name, "")).lower() not in allowed:
                yield RequestError(f"{name} is {told.get(name)!r}, must be one of {', '.join(allowed)}", where=where)
        for name, value in (("submitter", tree.submitter), ("division", tree.division)):
            if str(told.get(name, "")).lower() != value.lower():
                yield RequestError(f"{name} is {told.get(name)!r}, but its folder is {value}", where=where)


def _documents(root: Path, tree: Tree, entry: Entry) -> Iterator[RequestError]:
    wanted = [tree.code] if entry.division == "open" else [tree.code, tree.calibration]
    for path in wanted:
        if not (root / path).exists():
            yield RequestError("is missing", where=str(path))


def _scenarios(places: list[Place], root: Path, tree: Tree, rules: Round, entry: Entry) -> Iterator[RequestError]:
    for system, benchmark in dict.fromkeys((place.system, place.benchmark) for place in places):
        where = str(tree.of_benchmark(system, benchmark)[0])
        model = rules.benchmarks.models.get(benchmark)
        if model is None:
            yield RequestError(f"{rules.round} has no benchmark {benchmark}", where=where)
            continue
        scenarios = model.scenarios(entry.system_type)
        there = [place.scenario for place in places if (place.system, place.benchmark) == (system, benchmark)]
        for name in scenarios.missing(there):
            yield RequestError(f"{name} is missing: {rules.round} asks for it", where=where)
        for name in (each for each in there if each not in scenarios.all()):
            yield RequestError(f"{rules.round} has no {benchmark} {name} in {entry.system_type}", where=where)


def _files(root: Path, tree: Tree, rules: Round, place: Place) -> Iterator[RequestError]:
    results = [tree.results(place) / name for name in (*rules.layout.performance_files, *rules.layout.accuracy_files)]
    measured = [tree.measurements(place) / name for name in rules.layout.measurements_files]
    for path in (*results, *measured, tree.measurements_file(place)):
        if not (root / path).is_file():
            yield RequestError("is missing", where=str(path))
        elif not (root / path).stat().st_size:
            yield RequestError("is empty", where=str(path))
    for name in rules.limits.truncated:
        log = tree.results(place) / name / "mlperf_log_accuracy.json"
        if not (root / log).is_file():
            continue
        if (root / log).stat().st_size > rules.limits.accuracy_log_bytes:
            yield RequestError("is not cut short", where=str(log), mend="make truncate_results")
        elif recorded_hash(root / log) is None:
            where = str(log.with_name(ACCURACY))
            yield RequestError("does not tell the hash of the log", where=where, mend="make truncate_results")
    yield from _measurements(root, tree, rules, place)


def _measurements(root: Path, tree: Tree, rules: Round, place: Place) -> Iterator[RequestError]:
    where = str(tree.measurements_file(place))
    try:
        told = json.loads((root / where).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return  # told already, or no JSON, which is ours
    for name in (each for each in rules.measurements.not_empty if not told.get(each)):
        yield RequestError(f"{name} is missing", where=where)


def _audits(root: Path, tree: Tree, rules: Round, place: Place) -> Iterator[RequestError]:
    needed = rules.audits.needed(place.benchmark) if tree.division in rules.audits.divisions else ()
    for test in needed:
        folder = tree.audit(place, test)
        for name in rules.audits.tests[test].required_files:
            path = root / folder / name
            if not path.is_file():
                yield RequestError("is missing", where=str(folder / name))


def _log(root: Path, tree: Tree, rules: Round, place: Place) -> Iterator[RequestError]:
    where = tree.performance(place) / DETAIL_LOG
    try:
        log = detail_log.read(root / where)
    except RequestError as error:
        yield error
        return
    model = rules.benchmarks.models.get(place.benchmark)
    least = (model.min_duration_ms if model else None) or rules.duration.min_duration_ms
    if log.get("result_validity") != "VALID":
        yield RequestError("LoadGen calls it INVALID", where=str(where))
    if log["errors"]:
        yield RequestError(f"holds errors of LoadGen's: {log['errors'][0]}", where=str(where))
    if log.get("effective_min_duration_ms", 0) < least:
        yield RequestError(
            f"was to last at least {log.get('effective_min_duration_ms')} ms of {least}", where=str(where)
        )
    used = {name: log.get(f"effective_{name}") for name in rules.seeds.all()}
    if used != rules.seeds.all():
        yield RequestError(f"has not the seeds of {rules.round}", where=str(where))
