"""What a request asks for, benchmark by benchmark, with everything that the steps share."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec

from engineroom import registry, run_args, shell, systems, terminal
from engineroom.artifacts import FORCED, UNKNOWN, Artifact, Switches, key_of
from engineroom.benchmarks import CALIBRATION_LISTS, Benchmark, Part, variant_of
from engineroom.calibrators import Settings
from engineroom.config import Resolved, RunConfig, fields, layers, plausibility, resolve
from engineroom.config.fields import OF_BENCHMARK
from engineroom.config.layers import COMMON
from engineroom.config.rules import Context
from engineroom.config.values import ranges
from engineroom.datasets import Dataset
from engineroom.detection import Machine
from engineroom.engines import Engine
from engineroom.errors import Mistakes, RequestError, plain
from engineroom.paths import display, sha256_file
from engineroom.run_args import Request
from engineroom.steps import answers, build, calibrate, estimate, fetch, preprocess, recipes
from engineroom.steps.fetch import Making
from engineroom.steps.sizing import FIELDS
from engineroom.terms import ExecutionProvider, Precision, Scenario, TestMode


class Kind(StrEnum):
    """What a benchmark needs before it can run."""

    MODEL = "model"
    DATA = "data"
    SAMPLES = "samples"
    CALIBRATION = "calibration"
    ENGINE = "engine"
    ANSWERS = "answers"


@dataclass(frozen=True)
class Need:
    """One thing that was needed, and how it was come by. A file that is only checked has no artifact.

    `fetch_bytes` is what a file adds to the disk that is still to be fetched: 0 where its size is not known, and with
    `fetch_about` no more than nearly so. `to_make` says why a file, which is no artifact, has to be made here, and
    `make_bytes` about how large it becomes.
    """

    kind: Kind
    what: str
    artifact: Artifact | None = None
    part: Part | None = None
    fetch_bytes: int | None = None
    fetch_about: bool = False
    to_make: str | None = None
    make_bytes: int = 0
    benchmark: Benchmark | None = None  # on whose data set it is, for samples


@dataclass(frozen=True)
class Work:
    """One benchmark that a request asks for, with everything its steps share. Values are found when first needed.

    Where the request is for a plan, artifacts that are not there yet are decided upon and not made. `needs` holds all
    that was asked for so far, in that order: a plan asks as a run does, and then reads it.
    """

    benchmark: Benchmark
    request: Request
    machine: Machine
    which: Mapping[str, Any] = field(default_factory=lambda: {name: fields.defaults()[name] for name in OF_BENCHMARK})
    needs: dict[Path, Need] = field(default_factory=dict)
    _warned: set[str] = field(default_factory=set)

    @property
    def system(self) -> str:
        """The id of the system whose settings count: the machine's own, unless another one was asked for."""
        return self.request.system or self.machine.system

    @property
    def scenarios(self) -> tuple[Scenario, ...]:
        """The scenarios asked for, by default all that it has. Raises RequestError for one it does not have."""
        wanted = self.request.scenarios or self.benchmark.scenarios
        if absent := [scenario for scenario in wanted if scenario not in self.benchmark.scenarios]:
            raise RequestError(
                f"{self.benchmark.name} has no scenario {', '.join(absent)}",
                where="--scenarios",
                mend=f"it has {', '.join(self.benchmark.scenarios)}",
            )
        return wanted

    @property
    def makes(self) -> Switches:
        """Whether steps may make things, whether they must, and whether they only say what they would make."""
        return {"may_make": not self.request.no_build, "force": self.request.force, "plan": self.request.plan}

    @cached_property
    def model_sha256(self) -> str:
        """The float model's checksum, checked."""
        path = self.benchmark.model_file()[0]
        if path in self._made_here(Kind.MODEL, fetch.model_makings(self.benchmark)):
            return UNKNOWN
        sha256 = fetch.check_model(self.benchmark, force=self.request.force, remember=not self.request.plan)
        words = " ".join([*self.benchmark.variant_words[:1], "model"] if self.benchmark.made_model else ["model"])
        self.needs[path] = Need(Kind.MODEL, f"{self.benchmark.name}, {words}")
        return sha256

    @cached_property
    def data(self) -> dict[Path, str]:
        """The raw data files with their checksums, checked."""
        if self._made_here(Kind.DATA, fetch.data_makings(Dataset(self.benchmark.dataset))):
            return dict.fromkeys(self.benchmark.data_files(), UNKNOWN)
        files = fetch.check_data(self.benchmark, force=self.request.force, remember=not self.request.plan)
        self.needs.update(dict.fromkeys(list(files)[:1], Need(Kind.DATA, f"{self.benchmark.name}, data")))
        return files

    def _made_here(self, kind: Kind, makings: Iterable[Making]) -> list[Path]:
        """Make what is made here and not fetched; where only a plan is asked for, return what is still to be made."""
        planned = []
        for making in makings:
            if fetch.is_made(making, remember=not self.request.plan, force=self.request.force):
                continue
            if self.request.no_build:
                raise RequestError(
                    f"{making.what}: has to be made", where=display(making.path), mend="leave out --no_build"
                )
            if self.request.plan:
                why = "first time"
                if making.path.exists():
                    why = FORCED if self.request.force else "its sources have changed"
                self.needs[making.path] = Need(kind, making.what, to_make=why, make_bytes=making.bytes)
                planned.append(making.path)
            else:
                fetch.make(making, force=self.request.force)
                terminal.say(f"{making.what}: made {display(making.path)}")
        return planned

    @cached_property
    def samples_key(self) -> str:
        """The key of the evaluation samples, whether they have been made or not."""
        return key_of(preprocess.inputs_of(self.benchmark, Part.EVALUATION, self.data))

    @cached_property
    def samples(self) -> Artifact:
        """The preprocessed evaluation samples."""
        return self.part(Part.EVALUATION)

    def part(self, part: Part) -> Artifact:
        """The preprocessed samples of one part."""
        cores = self.machine.cpu.usable_cores
        made = preprocess.preprocess(self.benchmark, part, self.data, cores=cores, **self.makes)
        return self._told(
            Need(Kind.SAMPLES, f"{self.benchmark.name}, {part} samples", made, part, benchmark=self.benchmark), made
        )

    @property
    def lacks_calibration_data(self) -> bool:
        """Whether calibration samples are those of another data set, which is not here."""
        other = self.benchmark.for_calibration()
        return other is not self.benchmark and not fetch.has_files(other)

    def calibration_samples(self) -> Artifact:
        """The preprocessed samples that calibration may see."""
        other = self.benchmark.for_calibration()
        work = self if other is self.benchmark else replace(self, benchmark=other)
        part = CALIBRATION_LISTS[self.which["calibration_list"]]
        if part not in Dataset(other.dataset).manifest.parts:
            number = self.which["calibration_list"]
            raise RequestError(f"{other.dataset} has no list {number} of calibration samples", where="calibration_list")
        return work.part(part)

    def calibration(self, config: RunConfig) -> Artifact:
        """The quantized model."""
        if not self.benchmark.is_calibrated:
            raise RequestError(
                f"{self.benchmark.name} has no float ONNX model that could be calibrated", where="--benchmarks"
            )
        samples = self.calibration_samples()
        settings = Settings(config.observer, config.observer_percentile, config.float_layers)
        made = calibrate.calibrate(
            self.benchmark, config.calibrator, self.model_sha256, samples, settings, **self.makes
        )
        what = f"{self.benchmark.name}, quantized model by {config.calibrator}, {config.observer}"
        return self._told(Need(Kind.CALIBRATION, what, made), made)

    @cached_property
    def asked_sha256(self) -> str:
        """The checksum of the model that tells the right answers: the twin's, where there is one."""
        model_sha256, asked = self.model_sha256, answers.asked_of(self.benchmark)
        if asked == self.benchmark.model_file()[0]:
            return model_sha256
        return UNKNOWN if asked in self.needs and self.needs[asked].to_make else sha256_file(asked)

    def expected(self, config: RunConfig) -> Artifact | None:
        """The answers of the float model, where labels mean nothing."""
        if not self.benchmark.judged_by_float:
            return None
        made = self._answers(config, self.samples, self.makes)
        return self._told(Need(Kind.ANSWERS, f"{self.benchmark.name}, answers of the float model", made), made)

    def expected_key(self, config: RunConfig) -> str:
        """The key of those answers, whether they have been made or not; "" where the labels are what is right."""
        if not self.benchmark.judged_by_float:
            return ""
        samples = preprocess.preprocess(self.benchmark, Part.EVALUATION, self.data, plan=True)
        return self._answers(config, samples, {"plan": True}).key

    def _answers(self, config: RunConfig, samples: Artifact, makes: Switches) -> Artifact:
        alone = {"threads_per_instance": self.machine.cpu.usable_cores, "execution_provider": ExecutionProvider.CPU}
        threads = msgspec.structs.replace(config, **alone, torch_compile=False)
        return answers.answers(self.benchmark, threads, self.asked_sha256, samples, **makes)

    def resolve(self, scenario: Scenario, test_mode: TestMode) -> Resolved:
        """The settings of one run. Raises Mistakes for wrong ones, RequestError for a precision it does not have."""
        resolved = resolve(
            self.context(scenario), test_mode, self.request.overrides, environment=self.request.environment
        )
        for warning in (*resolved.warnings, *self._fallen_back(resolved)):
            self._warn(warning)
        if test_mode is TestMode.FIND_PEAK_PERFORMANCE and scenario is not Scenario.SERVER:
            raise RequestError(
                f"LoadGen has no FindPeakPerformance for {scenario}", where="--test_mode", mend="add --scenarios=Server"
            )
        resolved = self._of_benchmark(resolved)
        self._check(resolved)
        return resolved

    def _of_benchmark(self, resolved: Resolved) -> Resolved:
        """Settle what follows from the benchmark. Raises RequestError if it would be another one in this scenario."""
        config = resolved.config
        for name in OF_BENCHMARK:
            if (value := getattr(config, name)) != self.which[name]:
                raise RequestError(
                    f"{name} is {value} in {config.scenario}, but {self.which[name]} for the benchmark",
                    where=resolved.origins[name].text,
                    mend=f"set it for all scenarios, in the section {COMMON}",
                )
        if self.benchmark.own_model:
            whole = msgspec.structs.replace(config, model_path=str(self.benchmark.own_model))
            resolved = replace(resolved, config=whole)
        if config.dataset == "auto":
            kind = "the drawn one" if self.benchmark.dataset == self.benchmark.drawn_dataset else "its own"
            resolved = resolved.replace(f"rule dataset: {kind}", dataset=self.benchmark.dataset)
        usual = self.benchmark.performance_sample_count
        if config.performance_sample_count is None and usual:
            count = min(usual, self.benchmark.sample_count(Part.EVALUATION))
            return resolved.replace("rule performance_sample_count: MLPerf's, or all", performance_sample_count=count)
        return resolved

    def _fallen_back(self, resolved: Resolved) -> Iterator[str]:
        if self.machine.gpus and resolved.origins["engine"].text.startswith("rule "):
            yield (
                f"this machine has {self.machine.gpus[0].name}, but tensorrt is not in this version of Engineroom: "
                "the quick start runs on the CPU (--engine=openvino says so without this warning)"
            )

    def context(self, scenario: Scenario) -> Context:
        """What the rules may look at."""
        return Context(
            self.benchmark.name,
            scenario,
            replace(self.machine, system=self.system),
            quick_start=self.benchmark.quick_start,
            sample_bytes=self.benchmark.sample_bytes,
            model_bytes=self.benchmark.model_bytes,
            benchmark_settings=self.benchmark.own_settings,
        )

    def _check(self, resolved: Resolved) -> None:
        """Refuse settings that the benchmark, the engine or the machine cannot serve."""
        config, origins = resolved.config, resolved.origins
        plugin: Engine = registry.get("engines", config.engine, where=origins["engine"].text).load().ENGINE
        self._check_format(plugin)
        if config.precision is Precision.INT8 and self._is_calibrated(plugin) and not plugin.takes_qdq:
            raise RequestError(
                f"the engine {plugin.name} runs no model in int8 that was calibrated here",
                where=origins["precision"].text,
                mend="name another engine, or another precision",
            )
        if config.precision not in (Precision.AUTO, *self.benchmark.precisions):
            raise RequestError(
                f"{self.benchmark.name} has no precision {config.precision}",
                where=origins["precision"].text,
                mend=f"it has {', '.join(self.benchmark.precisions)}",
            )
        samples = self.benchmark.sample_count(Part.EVALUATION)
        if (config.performance_sample_count or 0) > samples:
            raise RequestError(
                f"performance_sample_count is {config.performance_sample_count}, "
                f"but {self.benchmark.name} has {samples} samples",
                where=origins["performance_sample_count"].text,
                mend=f"give at most {samples}",
            )
        if closed := [number for number in config.cpus if number not in self.machine.cpu.usable]:
            raise RequestError(
                f"this process may not use CPU {plain(ranges(closed))}",
                where=origins["cpus"].text,
                mend=f"it may use {ranges(self.machine.cpu.usable)}",
            )
        threads = config.instances * max(1, config.threads_per_instance)
        usable = len(config.cpus or self.machine.cpu.usable)
        if config.pin_workers and threads > usable:
            raise RequestError(
                f"{threads} threads cannot be pinned to the {usable} CPUs that this run may use",
                where=origins["pin_workers"].text,
                mend="lower instances or threads_per_instance",
            )

    def engine(self, config: RunConfig) -> Artifact:
        """The engine of one scenario in a precision that is not `auto`."""
        plugin = build.engine_of(config, self.machine)
        model, sha256, calibration_key = self.benchmark.model_file()[0], self.model_sha256, "none"
        if config.precision is Precision.INT8 and self._is_calibrated(plugin):
            calibration = self.calibration(config)
            model = calibration.file(calibrate.MODEL)
            sha256, calibration_key = calibration.sha256(calibrate.MODEL), calibration.key
        inputs = build.inputs_of(
            plugin, config, self.machine, sha256, calibration_key, recipes.digest(build.RECIPE, config.system)
        )
        values = build.values_of(plugin, self.benchmark, config, model, sha256)
        made = build.build(config, inputs, lambda: recipes.render(build.RECIPE, config.system, values), **self.makes)
        what = f"{config.benchmark} {config.scenario}, {config.engine} engine in {config.precision}"
        return self._told(Need(Kind.ENGINE, what, made), made)

    def check_installed(self, config: RunConfig) -> None:
        """Raise RequestError if a package is missing that the engine needs."""
        registry.get("engines", config.engine).load().ENGINE.check_installed()

    def _is_calibrated(self, plugin: Engine) -> bool:
        """Tell whether int8 means that the model has to be calibrated for this engine."""
        return plugin.measures_model and not self.benchmark.came_quantized

    def _check_format(self, plugin: Engine) -> None:
        """Refuse an engine that cannot read the model, and name those that can."""
        model = self.benchmark.model_file()[0]
        if not plugin.measures_model or model.suffix in plugin.formats:
            return
        engines: dict[str, Engine] = {name: each.load().ENGINE for name, each in registry.find("engines").items()}
        able = [name for name, each in engines.items() if each.measures_model and model.suffix in each.formats]
        raise RequestError(
            f"the engine {plugin.name} does not take {model.suffix} models, only {', '.join(plugin.formats)}",
            where=display(model),
            mend=f"add --engine={' or --engine='.join(able)}" if able else None,
        )

    def best_precision(
        self, resolved: Resolved, supposed_missed: Collection[Precision] = ()
    ) -> tuple[Resolved, Artifact]:
        """Settle `auto`: the first of the benchmark's precisions that is not known to miss its accuracy target.

        Returns the settings with the precision, and its engine. `supposed_missed` is for a plan: what would follow if
        these missed it?
        """
        settled, engine = self._best_precision(resolved, supposed_missed)
        expected = FIELDS[settled.config.scenario]
        if getattr(settled.config, expected) is not None:  # only then are earlier runs worth reading
            before = estimate.earlier(settled.config, engine.inputs)
            if measured := next((run for run in before if run.rate), None):
                texts = {name: origin.text for name, origin in settled.origins.items()}
                where = display(Path(measured.folder))
                self._warn(plausibility.beside_measured(settled.config, texts, measured.rate or 0, where))
        return settled, engine

    def _warn(self, warning: str | None) -> None:
        """Say a warning once."""
        if warning and warning not in self._warned:
            self._warned.add(warning)
            terminal.warn(warning)

    def _best_precision(self, resolved: Resolved, supposed_missed: Collection[Precision]) -> tuple[Resolved, Artifact]:
        if resolved.config.precision is not Precision.AUTO:
            return resolved, self.engine(resolved.config)
        plugin = registry.get("engines", resolved.config.engine, where="engine").load().ENGINE
        known = plugin.precisions_on(self.machine, resolved.config)
        candidates = [precision for precision in self.benchmark.precisions if precision in known]
        if self._is_calibrated(plugin) and Precision.INT8 in candidates and (why := self._not_calibrated(plugin)):
            candidates.remove(Precision.INT8)
            self._warn(why)
        if not plugin.measures_model:
            del candidates[1:]  # it misses the target in every precision, and says nothing about any
        for precision in candidates:
            if precision in supposed_missed and precision is not candidates[-1]:
                continue
            chosen = resolved.replace("rule best_precision: not known to miss its target", precision=precision)
            engine = self.engine(chosen.config)
            expected = self.expected_key(chosen.config)
            held = build.known_accuracy(engine, self.samples_key, expected, self.benchmark.accuracy_target)
            if held is not False:
                return chosen, engine
            if precision is candidates[-1]:
                return resolved.replace("rule best_precision: all miss the target", precision=precision), engine
        raise RequestError(
            f"{self.benchmark.name} and the engine {plugin.name} have no precision in common",
            where="precision",
            mend=f"{plugin.name} has {', '.join(known)}; name another engine with --engine",
        )

    def _not_calibrated(self, plugin: Engine) -> str | None:
        """Say why `auto` cannot mean int8 here, where the model would have to be calibrated for it."""
        if not plugin.takes_qdq:
            return f"{self.benchmark.name}: {plugin.name} takes no model that was calibrated here, so int8 is left out"
        if self.lacks_calibration_data:
            other = self.benchmark.for_calibration().dataset
            return f"{self.benchmark.name}: calibration needs the data set {other}, not here, so int8 is left out"
        return None

    def _told(self, need: Need, artifact: Artifact) -> Artifact:
        """Say once why something was made; with --explain also why it was reused. A plan is told as a whole."""
        if artifact.folder not in self.needs:
            self.needs[artifact.folder] = need
            if not self.request.plan and (self.request.explain or not artifact.reused):
                terminal.say(f"{need.what}: {artifact.state} {display(artifact.folder)} ({artifact.why})")
        return artifact


def works(
    argv: Sequence[str], *, explain: bool = False, extras: Mapping[str, str] | None = None
) -> tuple[Request, list[Work]]:
    """Return the request and its benchmarks; by default every one whose model and data are here.

    `explain` is for tasks whose whole outcome is what they made or reused. `extras` are flags that only this task has.
    Raises Help if the flags are asked for.
    """
    if run_args.asks_help(argv):
        raise run_args.Help({**(extras or {}), **run_args.flags()})
    request = run_args.parse(argv, os.environ, extras)
    request = replace(request, explain=request.explain or explain)
    shell.verbose = request.verbose
    for note in request.notes:
        terminal.say(note)
    machine = systems.detect()
    if request.system:
        request = replace(request, system=systems.named(machine, request.system).system)
    refused: list[RequestError] = []
    asked = [_work(name, request, machine, refused) for name in request.benchmarks or registry.find("benchmarks")]
    if not (chosen := [work for work in asked if work and (request.benchmarks or fetch.has_files(work.benchmark))]):
        if refused:
            raise Mistakes(refused)
        raise RequestError(
            "no benchmark has its model and data here",
            mend='name one: make download_model download_data RUN_ARGS="--benchmarks=NAME"',
        )
    return request, chosen


def _work(name: str, request: Request, machine: Machine, refused: list[RequestError]) -> Work | None:
    """Return the work on a benchmark, with the data set and the model that the settings name.

    Raises RequestError if it has no such. If it was not asked for by its name, that goes to `refused` instead.
    """
    benchmark: Benchmark = registry.get("benchmarks", name).load().BENCHMARK
    system = replace(machine, system=request.system or machine.system)
    context = Context(name, benchmark.scenarios[0], system, benchmark_settings=benchmark.settings)
    which = layers.which(context, request.overrides, request.environment)
    try:
        variant = variant_of(
            benchmark, dataset=which["dataset"], weights=which["weights"], model_path=which["model_path"]
        )
    except RequestError as error:
        if request.benchmarks:
            raise
        refused.append(error)
        return None
    return Work(variant, request, machine, which)
