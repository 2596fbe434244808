"""The whole tree: its round, and its results, judged side by side on all cores."""

from __future__ import annotations

import gc
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from multiprocessing import forkserver, get_context
from pathlib import Path

import msgspec

from engineroom import processes, rounds
from engineroom.errors import EngineError, RequestError
from engineroom.paths import display
from engineroom.rounds import Round
from engineroom.steps.submission.layout import DETAIL_LOG, DIVISIONS, PERFORMANCE_RUN, Place, Tree
from engineroom.steps.submission.validate import loadgen, result, rulebook, sight
from engineroom.steps.submission.validate.case import BASE, Subject
from engineroom.steps.submission.validate.findings import Finding, Level, few
from engineroom.steps.submission.validate.result import Outcome
from engineroom.steps.submission.validate.survey import Survey

FEW = 24  # results that are judged faster than other processes start
AT_ONCE = 8  # results that are sent to another process together
ASKED_FOR_ROUND = 40  # logs that are asked for their seeds


class Report(msgspec.Struct, frozen=True):
    """What was found in a tree, sorted by file.

    `scores` tells by benchmark how many results have their accuracy recomputed, or why it was only read.
    """

    root: str
    round: str
    submitters: tuple[str, ...]
    results: int
    findings: list[Finding]
    scores: dict[str, dict[str, int]] = {}

    def of(self, level: Level) -> list[Finding]:
        """Return the findings of a level."""
        return [each for each in self.findings if each.level is level]


Progress = Callable[[int, int], None]


def validate(
    path: Path,
    round_name: str | None = None,
    *,
    submitter: str = "",
    workers: int | None = None,
    progress: Progress = lambda done, total: None,
) -> Report:
    """Return all that is wrong with a tree, or with the part that `path` names: a division, or a submitter's folder.

    Raises RequestError if there is no such folder or round, EngineError if a process that judges is killed.
    """
    root, (division, part) = _root_of(path)
    only = division, submitter or part
    findings: list[Finding] = []
    workers = workers or len(os.sched_getaffinity(0))
    with _pool(root, only, workers) as pool:
        name = round_name or _detect(root, findings)
        rules = rounds.read(name)
        if pool:
            for _ in range(workers):
                pool.submit(judge, root, name, ())  # reads the rules, while this process looks what there is
        survey = Survey(root, rules, only, findings)
        survey.make()
        outcomes = list(_judge(root, name, survey, pool, progress))
    findings = few(findings) + [each for outcome in outcomes for each in outcome.findings]
    findings += _duplicates(rules, outcomes)
    submitters = tuple(sorted({each.submitter for each in survey.subjects}))
    return Report(str(root), name, submitters, len(survey.subjects), sorted({*findings}), _scores(outcomes))


def _scores(outcomes: Iterable[Outcome]) -> dict[str, dict[str, int]]:
    counts = Counter((each.subject.model or each.subject.benchmark, each.score) for each in outcomes if each.score)
    told: dict[str, dict[str, int]] = {}
    for (benchmark, how), count in sorted(counts.items()):
        told.setdefault(benchmark, {})[how] = count
    return told


def _root_of(path: Path) -> tuple[Path, tuple[str, str]]:
    """Return the folder that holds the divisions, and which division and submitter are meant, "" for all."""
    if not path.is_dir():
        raise RequestError(
            "there is no such folder", where=display(path), mend="name the folder that holds closed, open or network"
        )
    path = path.resolve()
    if any((path / name).is_dir() for name in DIVISIONS):
        return path, ("", "")
    if path.name in DIVISIONS:
        return path.parent, (path.name, "")
    if path.parent.name in DIVISIONS:
        return path.parent.parent, (path.parent.name, path.name)
    return path, ("", "")


def _detect(root: Path, findings: list[Finding]) -> str:
    """Return the round whose seeds most of the first logs have; else the newest, which is said."""
    known = {tuple(rounds.read(name).seeds.all().values()): name for name in rounds.names()}
    found: Counter[str] = Counter()
    for file in _some_logs(root):
        log = loadgen.read(root, file)
        seeds = tuple(log.get(f"effective_{name}") for name in rounds.read(rounds.names()[-1]).seeds.all())
        if all(isinstance(seed, int) for seed in seeds) and seeds in known:
            found[known[seeds]] += 1
    if found:
        return found.most_common(1)[0][0]
    newest = rounds.names()[-1]
    findings.append(rulebook.ROUND.at(".", found="no log with the seeds of a round", expected=f"{newest} is taken"))
    return newest


def _some_logs(root: Path) -> Iterator[str]:
    logs = (log for folder in _results(root, ("", "")) if (log := _log_in(root, folder)))
    return islice(logs, ASKED_FOR_ROUND)


def _log_in(root: Path, folder: str) -> str:
    """Return the detail log of the performance run in the folder of a result, "" if there is none."""
    for name in PERFORMANCE_RUN.parts:
        folder = f"{folder}/{name}"
        if not sight.is_folder(root, folder):
            return ""
    log = f"{folder}/{DETAIL_LOG}"
    return log if sight.size_of(root, log) else ""


def _results(root: Path, only: tuple[str, str]) -> Iterator[str]:
    """Yield folders in which results may lie, of a division and a submitter, "" for all."""
    for division in (only[0],) if only[0] else DIVISIONS:
        for submitter in sight.folders(root, division, [])[0] if sight.is_folder(root, division) else ():
            if only[1] in ("", submitter):
                yield from _places(root, f"{division}/{submitter}/results", 3)


def _places(root: Path, folder: str, depth: int) -> Iterator[str]:
    if not depth:
        yield folder
    elif sight.is_folder(root, folder):
        for name in sight.folders(root, folder, [])[0]:
            yield from _places(root, f"{folder}/{name}", depth - 1)


def _judge(root: Path, round_name: str, survey: Survey, pool: Executor | None, progress: Progress) -> Iterator[Outcome]:
    subjects, sweeps = survey.subjects, survey.sweeps
    total, done = len(subjects), 0
    batches = [subjects[at : at + AT_ONCE] for at in range(0, total, AT_ONCE)]
    if pool is None:
        yield _swept(root, round_name, sweeps)
        for batch in batches:
            yield from judge(root, round_name, batch)
            done += len(batch)
            progress(done, total)
        return
    running = [pool.submit(judge, root, round_name, batch) for batch in batches]
    running += [pool.submit(_sweep_all, root, round_name, [folder]) for folder in sweeps]
    for finished in as_completed(running):
        outcomes = finished.result()
        yield from outcomes
        done += sum(bool(each.subject.system) for each in outcomes)
        progress(done, total)


@contextmanager
def _pool(root: Path, only: tuple[str, str], workers: int) -> Iterator[ProcessPoolExecutor | None]:
    """Yield processes that judge, None for a tree that is judged faster than they start.

    What they import is imported while the body begins. When it ends early, only what they have begun is still finished.
    """
    if workers < 2 or sum(1 for _ in islice(_results(root, only), FEW)) < FEW:
        yield None
        return
    context = get_context("forkserver")  # of a process without threads, which has imported everything once
    context.set_forkserver_preload(["__main__", __name__])
    forkserver.ensure_running()
    pool = ProcessPoolExecutor(workers, context, _begin)
    try:
        yield pool
    except BrokenProcessPool as error:
        raise EngineError(
            "a process that judged results was killed, perhaps for want of memory",
            mend="judge one submitter at a time: --submitter=NAME",
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _begin() -> None:
    """Make this process a worker."""
    processes.serve_parent()
    import numpy  # noqa: F401  (for logs with long lists; not in the process that forks: numpy starts threads)

    gc.freeze()  # what was imported is no garbage


def judge(root: Path, round_name: str, subjects: Sequence[Subject]) -> list[Outcome]:
    """Return what was found of some results. Other processes run this."""
    rules = rounds.read(round_name)
    return [result.check(root, rules, subject) for subject in subjects]


def _sweep_all(root: Path, round_name: str, folders: Sequence[str]) -> list[Outcome]:
    return [_swept(root, round_name, folders)]


def _swept(root: Path, round_name: str, folders: Sequence[str]) -> Outcome:
    """Look at names, links and sizes alone."""
    limit = rounds.read(round_name).limits.file_bytes
    found = [each for folder in folders for each in sight.look(root, folder, most_bytes=limit).findings]
    return Outcome(Subject("", "", "", "", "", "", ""), found)


def _duplicates(rules: Round, outcomes: Iterable[Outcome]) -> Iterator[Finding]:
    """No run stands for two systems or two benchmarks; for two scenarios only where one follows from the other."""
    for kind in ("performance", "accuracy"):
        first: dict[str, Outcome] = {}
        for outcome in sorted(outcomes, key=lambda each: msgspec.structs.astuple(each.subject)):
            identity = getattr(outcome, kind)
            if not identity:
                continue
            other = first.setdefault(identity, outcome)
            if other is not outcome and _group(other.subject) != _group(outcome.subject):
                where = _where(rules, outcome.subject, kind)
                yield rulebook.DUPLICATE.at(
                    where, found="the run of " + _where(rules, other.subject, kind), expected="a run of its own"
                )


def _group(subject: Subject) -> tuple[str, ...]:
    return subject.system, BASE.sub("", subject.benchmark)


def _where(rules: Round, subject: Subject, kind: str) -> str:
    tree = Tree(rules.layout, subject.division, subject.submitter)
    place = Place(subject.system, subject.benchmark, subject.scenario)
    return str((tree.performance(place) if kind == "performance" else tree.accuracy(place)) / DETAIL_LOG)
