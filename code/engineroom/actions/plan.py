"""--plan: says what a request would make, reuse and run, what that takes, and whether it fits. Nothing is done.

A plan asks `Work` for the same things in the same order as a run does, so that the two cannot disagree.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from engineroom import run_args, terminal
from engineroom.actions import rulebook
from engineroom.actions.work import Kind, Need, Work
from engineroom.artifacts import Artifact, State
from engineroom.benchmarks import CALIBRATION_LISTS, Benchmark, Part
from engineroom.config import RunConfig
from engineroom.datasets import Dataset
from engineroom.errors import ExitCode, RequestError
from engineroom.paths import ROOT, RUNS, display
from engineroom.run_args import Request
from engineroom.steps import answers, audit, build, estimate, native, sizing
from engineroom.steps.estimate import Amount, Cost, Workload
from engineroom.terms import SCORED, Precision, Scenario, TestMode

REUSE, MAKE, PERHAPS, RUN = "reuse", "make", "perhaps", "run"
YES, NO = "yes", "no"  # besides PERHAPS
UNKNOWN = "unknown"
STATES = {State.REUSED: REUSE, State.TO_MAKE: MAKE, State.OPEN: PERHAPS}
VERDICTS = {YES: "", PERHAPS: "May not fit: ", NO: "Does not fit: "}
COLUMNS = ("Step", "State", "Time", "Disk", "Memory")
RIGHT = ("Time", "Disk", "Memory")
WHOLE = ("State", "Time", "Disk", "Memory")
TITLES = {TestMode.PERFORMANCE_ONLY: "performance", TestMode.ACCURACY_ONLY: "accuracy"}


class Test(msgspec.Struct, frozen=True, kw_only=True):
    """A LoadGen test of the plan."""

    __test__ = False  # pytest would otherwise take the name for a test class

    benchmark: str
    scenario: Scenario
    test_mode: TestMode
    engine: str
    precision: Precision
    batch_size: int
    instances: int


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One step. `state` is reuse, make, perhaps (what it follows from is not known yet), run, or a Way.

    `why` is what the run itself would say. `folder` is where it writes. `only_if` is not empty for steps that follow
    only from a miss of the accuracy target: the totals leave them out.
    """

    what: str
    state: str
    why: str
    folder: str
    cost: Cost = Cost()
    test: Test | None = None
    only_if: str = ""


class Room(msgspec.Struct, frozen=True, kw_only=True):
    """Memory, or a file system: what is needed of it and what is free. `fits` is yes, perhaps or no."""

    where: str
    needed: Amount
    free_bytes: int
    fits: str


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What would be done, what it takes altogether, whether there is room, and why it could not be submitted."""

    steps: list[Step]
    total: Cost
    rooms: list[Room]
    rules: list[str]


def making(request: Request, asked: Sequence[Work]) -> int:
    """Show what has been decided upon: for tasks whose whole outcome is what they make or reuse."""
    return _Draft(request, asked).show()


@dataclass(frozen=True)
class Audited:
    """An audit of one benchmark in one scenario. `work` asks for the performance test by whose settings it runs."""

    work: Work
    scenario: Scenario
    test: str


def running(request: Request, asked: Sequence[Work], audits: Sequence[Audited] = (), there: Sequence[Step] = ()) -> int:
    """Show what run_harness would do, and then the audits; `there` are tests that need not be run again."""
    return _drafted(request, asked, audits, there).show()


def of_run(request: Request, asked: Sequence[Work], audits: Sequence[Audited] = ()) -> Plan:
    """Return what run_harness would do, and then the audits."""
    return _drafted(request, asked, audits).plan()


def _drafted(
    request: Request, asked: Sequence[Work], audits: Sequence[Audited] = (), there: Sequence[Step] = ()
) -> _Draft:
    works = [*asked, *(each.work for each in audits)]
    for work in works:  # a run finds out what the answers should be before it compiles and builds
        _ask_for_answers(work)
    draft = _Draft(request, works)
    draft.native()
    draft.steps += there
    for work in asked:
        for scenario in work.scenarios:
            draft.scenario(work, scenario)
    for each in audits:
        draft.audit(each)
    draft.rules = rulebook.remarks(asked)
    return draft


def seconds_in_words(plan: Plan) -> str:
    """Return how long a plan takes altogether: "3.0 to 4.5 h"."""
    return _seconds(plan.total.seconds)


def times(request: Request, mode: TestMode) -> int:
    """Return how often a test is to run: an accuracy test once. Raises RequestError if --repeat is no number."""
    repeat = run_args.whole_number(request, "repeat", 1)
    return repeat if mode is TestMode.PERFORMANCE_ONLY else 1


def _ask_for_answers(work: Work) -> None:
    for scenario in work.scenarios:
        for mode in SCORED.intersection(work.request.test_modes):
            work.expected(work.resolve(scenario, mode).config)


class _Draft:
    """The steps so far. What the works have been asked for is taken over in the order in which they were asked."""

    def __init__(self, request: Request, asked: Sequence[Work]) -> None:
        self.request, self.machine = request, asked[0].machine
        self.steps: list[Step] = []
        self.rules: list[str] = []
        self._taken: set[Path] = set()
        for work in asked:
            self._take(work)

    def native(self) -> None:
        """Add the native harness."""
        built = native.build_harness(may_build=not self.request.no_build, plan=True)
        cost = estimate.compiling(
            seconds_before=native.seconds_before(), whole=built.whole, cores=self.machine.cpu.usable_cores
        )
        self.steps.append(
            Step(
                what=native.TITLES[native.MODULE],
                state=REUSE if built.reused else MAKE,
                why=built.why,
                folder=display(built.path),
                cost=Cost() if built.reused else cost,
            )
        )

    def scenario(self, work: Work, scenario: Scenario) -> None:
        """Add the tests of one scenario with what they need, and those that would follow a miss of the target."""
        chosen, engine = self._tests(work, scenario)
        asked, missed = work.resolve(scenario, TestMode.ACCURACY_ONLY), [chosen.precision]
        if asked.config.precision is not Precision.AUTO or not SCORED.intersection(work.request.test_modes):
            return
        target = work.benchmark.accuracy_target
        while not build.known_accuracy(engine, work.samples_key, work.expected_key(chosen), target):
            if work.best_precision(asked, missed)[0].config.precision in missed:
                return
            only_if = f"{work.benchmark.name} {scenario} misses its accuracy target in {' and '.join(missed)}"
            chosen, engine = self._tests(work, scenario, missed, only_if)
            missed.append(chosen.precision)

    def audit(self, about: Audited) -> None:
        """Add an audit: as long as a performance test, and done again if it fails, as often as it may be."""
        work, tries = about.work, audit.TRIES[about.test]
        resolved, engine = work.best_precision(work.resolve(about.scenario, TestMode.PERFORMANCE_ONLY))
        self._take(work)
        step = _test(work, resolved.config, engine, "", 1)
        what = f"{work.benchmark.name} {about.scenario} {about.test}, 1 to {tries} times"
        self.steps.append(msgspec.structs.replace(step, what=what, cost=step.cost.tries(1, tries)))

    def _tests(
        self, work: Work, scenario: Scenario, missed: Sequence[Precision] = (), only_if: str = ""
    ) -> tuple[RunConfig, Artifact]:
        for mode in work.request.test_modes:
            resolved, engine = work.best_precision(work.resolve(scenario, mode), missed)
            self._take(work, only_if)
            self.steps.append(_test(work, resolved.config, engine, only_if, times(work.request, mode)))
        return resolved.config, engine

    def _take(self, work: Work, only_if: str = "") -> None:
        for path, need in work.needs.items():
            if path not in self._taken:
                self._taken.add(path)
                self.steps.append(_making(work, need, path, only_if))

    def show(self) -> int:
        """Print the plan. Raises RequestError if it is sure that it does not fit."""
        plan = self.plan()
        if self.request.json:
            print(msgspec.json.format(msgspec.json.encode(plan), indent=1).decode())
        else:
            _print(plan, explain=self.request.explain)
        if short := [_room(room) for room in plan.rooms if room.fits == NO]:
            raise RequestError(f"this does not fit here: {'; '.join(short)}", mend="make room, or ask for less at once")
        return ExitCode.GOOD

    def plan(self) -> Plan:
        """Return the steps so far, what they take altogether, and whether there is room for it."""
        steps = [step for step in self.steps if not step.only_if]
        disk_bytes = estimate.total(step.cost.disk_bytes for step in steps)
        memory = [step.cost.memory_bytes for step in steps]
        total = Cost(
            seconds=estimate.total(step.cost.seconds for step in steps),
            disk_bytes=disk_bytes,
            memory_bytes=estimate.highest(memory),
        )
        limit = self.machine.memory_bytes + self.machine.swap_bytes
        free = estimate.free_memory_bytes(self.machine.memory_bytes)
        surely = max((amount.sure for amount in memory), default=0)
        rooms = [_fitted("memory", total.memory_bytes, free, no=surely > limit), *_disks(steps)]
        return Plan(steps=self.steps, total=total, rooms=rooms, rules=self.rules)


def _disks(steps: Iterable[Step]) -> list[Room]:
    """Return the file systems that the steps write to. A folder of build/ can be a link to another one."""
    on: dict[int, list[Step]] = {}
    free: dict[int, int] = {}
    for step in (step for step in steps if step.cost.disk_bytes != estimate.NOTHING):
        device, free[device] = estimate.disk(ROOT / step.folder)
        on.setdefault(device, []).append(step)
    return [_disk(writing, free[device]) for device, writing in on.items()]


def _disk(steps: Sequence[Step], free: int) -> Room:
    amounts = [step.cost.disk_bytes for step in steps]
    folder = Path(os.path.commonpath([step.folder for step in steps]))
    where = f"disk of {Path(*folder.parts[:2])}"
    return _fitted(where, estimate.total(amounts), free, no=sum(amount.sure for amount in amounts) > free)


def _fitted(where: str, needed: Amount, free: int, *, no: bool) -> Room:
    fits = NO if no else PERHAPS if needed.most is None or needed.most > free else YES
    return Room(where=where, needed=needed, free_bytes=free, fits=fits)


# Steps


def _making(work: Work, need: Need, path: Path, only_if: str) -> Step:
    if todo := need.todo:
        return Step(what=need.what, state=todo.way, why=todo.why, folder=display(path.parent), cost=todo.cost)
    if need.artifact is None:
        return Step(what=need.what, state=REUSE, why="its SHA-256 is right", folder=display(path), only_if=only_if)
    state = STATES[need.artifact.state]
    cost = Cost() if state == REUSE else _cost(work, need, need.artifact)
    if state == PERHAPS:
        cost = Cost(
            seconds=_at_most(cost.seconds),
            disk_bytes=_at_most(cost.disk_bytes),
            memory_bytes=_at_most(cost.memory_bytes),
        )
    return Step(
        what=need.what,
        state=state,
        why=need.artifact.why,
        folder=display(path if state == REUSE else path.parent),
        cost=cost,
        only_if=only_if,
    )


def _at_most(amount: Amount) -> Amount:
    return Amount(0, amount.most, amount.source)


def _cost(work: Work, need: Need, artifact: Artifact) -> Cost:
    """Return what it takes to make an artifact: as it was the last time, else by sizes."""
    shelf = artifact.folder.parent
    other_scenarios = sorted(shelf.parent.parent.glob(f"*/{shelf.name}")) if need.kind is Kind.ENGINE else []
    return estimate.as_recorded(_by_sizes(work, need), [shelf, *other_scenarios], artifact.inputs)


def _by_sizes(work: Work, need: Need) -> Cost:
    benchmark = need.benchmark or work.benchmark
    if need.part:
        return _preprocessing(benchmark, need.part, work.machine.cpu.usable_cores)
    if need.kind is Kind.CALIBRATION:
        samples = benchmark.for_calibration().sample_count(CALIBRATION_LISTS[work.which["calibration_list"]])
        return estimate.calibrating(model_bytes=benchmark.model_bytes, samples=samples)
    if need.kind is Kind.ANSWERS:
        samples = benchmark.sample_count(Part.EVALUATION)
        return estimate.asking(model_bytes=answers.asked_bytes(benchmark), samples=samples)
    return estimate.building(model_bytes=benchmark.model_bytes)


def _preprocessing(benchmark: Benchmark, part: Part, cores: int) -> Cost:
    """Samples are files of their own, images, or lie together in the raw files."""
    images = benchmark.sample_count(part) if Dataset(benchmark.dataset).manifest.folder else 0
    raw = [] if images else [path.stat().st_size for path in benchmark.data_files() if path.is_file()]
    return estimate.preprocessing(
        images=images, data_bytes=sum(raw), array_bytes=_array_bytes(benchmark, part), cores=cores
    )


def _array_bytes(benchmark: Benchmark, part: Part) -> int:
    return benchmark.sample_count(part) * sum(spec.bytes for spec in benchmark.inputs)


def _test(work: Work, config: RunConfig, engine: Artifact, only_if: str, count: int) -> Step:
    benchmark = work.benchmark
    before = estimate.earlier(config, engine.inputs)
    known = estimate.rates(before)
    load = Workload(
        config,
        samples=benchmark.sample_count(Part.EVALUATION),
        response_bytes=sum(spec.bytes for spec in benchmark.outputs),
        array_bytes=_array_bytes(benchmark, Part.EVALUATION),
        engine_bytes=sum(fact["bytes"] for fact in engine.files.values()) or benchmark.model_bytes,
        min_duration_s=sizing.min_duration_s(config),
        expected_rate=sizing.expected_rate(config),
        queries_bytes=sizing.queries_bytes(config, known, work.machine.memory_bytes),
    )
    cost = estimate.testing(load, before).times(count)
    instances = f"{config.instances} instance{'s' if config.instances > 1 else ''}"
    return Step(
        what=f"{config.benchmark} {config.scenario} {TITLES.get(config.test_mode, config.test_mode)}"
        + (f", {count} times" if count > 1 else ""),
        state=RUN,
        why=f"{config.engine} {config.precision}, batch {config.batch_size}, {instances}",
        folder=display(RUNS),
        cost=cost,
        test=msgspec.convert(config, Test, from_attributes=True),
        only_if=only_if,
    )


# For people


def _print(plan: Plan, *, explain: bool) -> None:
    steps = [step for step in plan.steps if not step.only_if]
    rows = [_row(_words(step, explain), step.state, step.cost) for step in steps]
    terminal.table("Plan", COLUMNS, [*rows, _row("Total", "", plan.total)], right=RIGHT, whole=WHOLE)
    for only_if in dict.fromkeys(step.only_if for step in plan.steps if step.only_if):
        following = [step for step in plan.steps if step.only_if == only_if]
        what = ", ".join(f"{step.what} ({step.state})" for step in following)
        seconds = estimate.total(step.cost.seconds for step in following)
        terminal.note(f"If {only_if}, this follows, not counted above: {what}; {_seconds(seconds)}.")
    used = {step.cost.seconds.source for step in plan.steps}
    for source, meaning in estimate.MEANINGS.items():
        if source in used:
            terminal.note(f"{source}: {meaning}.")
    for remark in plan.rules:
        terminal.note(f"{remark}.")
    for room in plan.rooms:
        terminal.note(f"{VERDICTS[room.fits]}{_room(room)}.")


def _room(room: Room) -> str:
    needed = {"-": "nothing", UNKNOWN: "an unknown amount"}.get(told := _bytes(room.needed), told)
    return f"{room.where}: {needed} needed, {terminal.size(room.free_bytes)} free"


def _words(step: Step, explain: bool) -> str:
    """Say what and why; why something is reused is told, as everywhere, only with --explain."""
    return step.what if step.state == REUSE and not explain else f"{step.what}:\n{step.why}"


def _row(what: str, state: str, cost: Cost) -> list[str]:
    seconds = f"{_seconds(cost.seconds)}\n{cost.seconds.source}".rstrip()
    return [what, state, seconds, _bytes(cost.disk_bytes), _bytes(cost.memory_bytes)]


def _seconds(amount: Amount) -> str:
    return _span(amount, _duration)


def _bytes(amount: Amount) -> str:
    return _span(amount, terminal.size)


def _span(amount: Amount, shown: Callable[[float], str]) -> str:
    """Return an amount in words: "-", "4.2 s", "about 1.0 s", "3.0 to 4.5 s", "at least 3.0 s", "unknown"."""
    if amount.most is None:
        return f"at least {shown(amount.least)}" if amount.least else UNKNOWN
    if not amount.most:
        return "-"
    least, most = shown(amount.least), shown(amount.most)
    if least == most:
        return f"about {most}" if amount.source == estimate.ROUGH else most
    if not amount.least:
        return f"at most {most}"
    number, _, unit = least.partition(" ")
    return f"{number if most.endswith(f' {unit}') else least} to {most}"


def _duration(seconds: float) -> str:
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.{0 if seconds >= 10 * size else 1}f} {unit}"
    return f"{seconds:.{0 if seconds >= 10 else 1}f} s"
