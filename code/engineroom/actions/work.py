"""What a request asks for, benchmark by benchmark, with everything that the steps share."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec

from engineroom import registry, run_args, terminal
from engineroom.actions.settle import calibrates, settle
from engineroom.artifacts import FORCED, UNKNOWN, Artifact, Switches, key_of
from engineroom.benchmarks import CALIBRATION_LISTS, Benchmark, Part
from engineroom.calibrators import Settings
from engineroom.config import Resolved, RunConfig, fields, plausibility
from engineroom.config.fields import OF_BENCHMARK
from engineroom.datasets import Dataset
from engineroom.detection import Machine
from engineroom.engines import Engine, gains_by_bf16
from engineroom.errors import RequestError
from engineroom.paths import display, sha256_file
from engineroom.run_args import Request
from engineroom.steps import answers, build, calibrate, estimate, fetch, native, preprocess, recipes
from engineroom.steps.estimate import Cost
from engineroom.steps.fetch import Making
from engineroom.terms import ExecutionProvider, Precision, Scenario, TestMode


class Kind(StrEnum):
    """What a benchmark needs before it can run."""

    MODEL = "model"
    DATA = "data"
    SAMPLES = "samples"
    CALIBRATION = "calibration"
    ENGINE = "engine"
    ANSWERS = "answers"


class Way(StrEnum):
    """How a file comes here that is no artifact; BY_HAND: only the user can bring it."""

    BY_HAND = "by hand"
    FETCH = "fetch"
    REGISTER = "register"
    MAKE = "make"


@dataclass(frozen=True)
class Todo:
    """What is still to be done for a file that is no artifact."""

    way: Way
    why: str
    cost: Cost


@dataclass(frozen=True)
class Need:
    """One thing that was needed, and how it was come by. A file that is here and right has neither artifact nor todo.

    Samples have their part, and the benchmark on whose data set they are: calibration's may be another's.
    """

    kind: Kind
    what: str
    artifact: Artifact | None = None
    part: Part | None = None
    benchmark: Benchmark | None = None
    todo: Todo | None = None


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
                todo = Todo(Way.MAKE, why, estimate.making(making.bytes))
                self.needs[making.path] = Need(kind, making.what, todo=todo)
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
            Need(Kind.SAMPLES, f"{self.benchmark.name}, {part} samples", made, part, self.benchmark), made
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
            raise RequestError(
                f"{other.dataset} has no list {number} of calibration samples",
                where="calibration_list",
                mend="its dataset.yaml may name the data set whose samples it uses: calibration_from: NAME",
            )
        return work.part(part)

    def check_calibrated(self) -> None:
        """Raise RequestError if there is nothing to calibrate."""
        if self.benchmark.is_calibrated:
            return
        why = "came quantized" if self.benchmark.came_quantized else "has no float ONNX model"
        raise RequestError(
            f"{self.benchmark.name} {why}: there is nothing to calibrate", where=f"{run_args.WHERE}: --benchmarks"
        )

    def calibration(self, config: RunConfig) -> Artifact:
        """The quantized model. Raises RequestError as `check_calibrated` does."""
        self.check_calibrated()
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
        return UNKNOWN if asked in self.needs and self.needs[asked].todo else sha256_file(asked)

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
        """The settings of one run, as `settle` finds them; what is hardly meant is said once."""
        resolved = settle(self.benchmark, self.which, self.request, self.machine, scenario, test_mode)
        for warning in resolved.warnings:
            self._warn(warning)
        return resolved

    def engine(self, config: RunConfig) -> Artifact:
        """The engine of one scenario in a precision that is not `auto`."""
        plugin = build.engine_of(config)
        native.check_has(config.engine)  # nothing is built for an engine that the harness has not
        model, sha256, calibration_key = self.benchmark.model_file()[0], self.model_sha256, "none"
        if config.precision is Precision.INT8 and calibrates(self.benchmark, plugin):
            calibration = self.calibration(config)
            model = calibration.file(calibrate.MODEL)
            sha256, calibration_key = calibration.sha256(calibrate.MODEL), calibration.key
        recipe_sha256 = recipes.digest(build.RECIPE, config.system)
        inputs = build.inputs_of(self.benchmark, config, self.machine, sha256, calibration_key, recipe_sha256)
        values = build.values_of(self.benchmark, config, model, sha256)
        made = build.build(config, inputs, lambda: recipes.render(build.RECIPE, config.system, values), **self.makes)
        what = f"{config.benchmark} {config.scenario}, {config.engine} engine in {config.precision}"
        explains = self.request.explain and not self.request.plan and made.folder not in self.needs
        self._told(Need(Kind.ENGINE, what, made), made)
        if explains and made.reused and (remark := plugin.remark_on(made.folder)):
            terminal.say(remark)
        return made

    def check_installed(self, config: RunConfig) -> None:
        """Raise RequestError if the engine needs with these settings what is missing, or another machine."""
        engine: Engine = registry.get("engines", config.engine).load().ENGINE
        engine.check_machine(self.machine, config)
        engine.check_settings(config)

    def best_precision(
        self, resolved: Resolved, supposed_missed: Collection[Precision] = ()
    ) -> tuple[Resolved, Artifact]:
        """Settle `auto`: the first of the benchmark's precisions that is not known to miss its accuracy target.

        Returns the settings with the precision, and its engine. `supposed_missed` is for a plan: what would follow if
        these missed it?
        """
        settled, engine = self._best_precision(resolved, supposed_missed)
        expected = fields.EXPECTED[settled.config.scenario]
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
        on_cpu = plugin.accelerator_with(msgspec.structs.asdict(resolved.config)) is None or not self.machine.gpus
        if on_cpu and Precision.BF16 in candidates and not gains_by_bf16(self.machine):
            candidates.remove(Precision.BF16)
        if (
            calibrates(self.benchmark, plugin)
            and Precision.INT8 in candidates
            and (why := self._not_calibrated(plugin))
        ):
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
        if not calibrates(self.benchmark, plugin):
            return None
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
