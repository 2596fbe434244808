"""Finished runs as the harness leaves them, without running anything: made up, with logs that a validator believes."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engineroom import rounds, runs
from engineroom.actions import audits, missing, published, staging, submission, validator
from engineroom.bench import trees
from engineroom.config import Origin, Resolved, RunConfig
from engineroom.detection.machine import Cpu, Disk, Machine, Nic
from engineroom.paths import ROOT, overlay_version
from engineroom.runs import AccuracyResult, AuditResult, PerformanceResult, Result, Submittable
from engineroom.steps.submission import choose, documents, entry, privacy, stage
from engineroom.terms import METRICS, Precision, Scenario, TestMode

ROUND = "v6.1"
SCORE = "accuracy=76.456%, good=38228, total=50000\n"
SOURCES = ("tasks.py", "Makefile")  # instead of the whole code
MACHINE = Machine(
    Cpu("Test CPU", architecture="x86_64", cores=4, threads=8, usable=tuple(range(8)), usable_cores=4),
    8 << 30,
    8 << 30,
    system="bench",
    product="Test Machine",
    nics=(Nic("eth0", 1000),),
    disks=(Disk("sda", 10**12, "SSD"),),
    operating_system="Linux",
    kernel="6.0",
)
DESCRIBED = {
    "host_memory_configuration": "1x 8 GiB",
    "host_networking_topology": "none",
    "cooling": "air",
}


@dataclass
class Runs:
    """The folder that stands for build/runs, and how a run is put there."""

    folder: Path
    revision: str  # of the code, which git can give
    machine: Machine = MACHINE
    answers: int = 400  # in an accuracy log; to be believed it has one for each of the 50,000 images
    days: Iterator[int] = field(default_factory=lambda: cycle(range(1, 29)))  # no two runs are of one time

    def add(
        self,
        scenario: Scenario = Scenario.OFFLINE,
        mode: TestMode = TestMode.PERFORMANCE_ONLY,
        *,
        log: Mapping[str, Any] | None = None,
        machine: Machine = MACHINE,
        revision: str = "",
        divisions: tuple[str, ...] = ("closed", "open"),
        valid: bool = True,
        made_from: Mapping[str, str] | None = None,
        overlays: tuple[Path, ...] = (),
        audit: AuditResult | None = None,
        text: Mapping[str, str] | None = None,
        **settings: Any,
    ) -> Path:
        """Write a finished run. `log` changes LoadGen's values, `text` whole files, `settings` the run's own."""
        config = self._config(scenario, mode, settings)
        partial = runs.open_folder(config, audit=audit.test if audit else "", runs=self.folder)
        runs.write_config(partial, Resolved(config, {name: Origin("x") for name in config.__struct_fields__}))
        made = self._test(config, audit)
        judged = {} if valid or mode is TestMode.ACCURACY_ONLY else {"result_validity": "INVALID"}
        values = {**trees.values(made), **judged, **(log or {})}
        warnings = 1 if audit else 0
        files = {
            "recipe/user.conf": f"{config.benchmark}.{scenario}.min_duration = 600000\n",
            "env.json": json.dumps(
                {
                    "revision": revision or self.revision,
                    "machine": msgspec.to_builtins(machine),
                    "overlays": [{"path": str(path), "version": overlay_version(path)} for path in overlays],
                }
            ),
            "mlperf_log_detail.txt": trees.detail(values, warnings=warnings).decode(),
            "mlperf_log_summary.txt": trees.summary(values, warnings=warnings).decode(),
        }
        if mode is TestMode.ACCURACY_ONLY:
            files |= {"mlperf_log_accuracy.json": trees.whole_answers(self.answers).decode(), "accuracy.txt": SCORE}
        for name, content in {**files, **(text or {})}.items():
            (partial / name).parent.mkdir(parents=True, exist_ok=True)
            (partial / name).write_text(content, encoding="utf-8")
        if audit:
            _write_audit(partial / audit.test, replace(made, audit=None, faster=1.0), audit.test, self.answers)
        metric = METRICS[scenario]
        performance = PerformanceResult(
            metric=metric.name,
            unit=metric.unit,
            value=float(values.get(metric.key, 0)) * metric.scale,
            valid=valid,
            min_duration_s=600,
            samples=1,
        )
        result = Result(
            benchmark=config.benchmark,
            scenario=scenario,
            test_mode=mode,
            system=config.system,
            engine=config.engine,
            precision=config.precision,
            dataset=config.dataset,
            exit_code=0,
            started="now",
            seconds=1.0,
            performance=performance if mode is TestMode.PERFORMANCE_ONLY else None,
            accuracy=_score() if mode is TestMode.ACCURACY_ONLY else None,
            rules=Submittable(
                round=ROUND,
                divisions=divisions if valid else (),
                reasons=() if valid else ("LoadGen calls it INVALID",),
            ),
            audit=audit,
            made_from={"model": "m" * 64, "calibration": "none", **(made_from or {})},
            loadgen={
                key: value for key, value in values.items() if key.startswith(("result_", "early_", "effective_"))
            },
            checksums={str(path.relative_to(partial)): _sha256(path) for path in partial.rglob("*") if path.is_file()},
        )
        return runs.finish(partial, result)

    def pair(self, scenario: Scenario = Scenario.OFFLINE, **more: Any) -> tuple[Path, Path]:
        """Write a performance run and the accuracy run that belongs to it."""
        return self.add(scenario, **more), self.add(scenario, TestMode.ACCURACY_ONLY, **more)

    def audited(self, scenario: Scenario, audits: Mapping[str, Any] | None = None, **more: Any) -> None:
        """Write a performance run, its accuracy run and its audits; `audits` says in what those differ."""
        performance, accuracy = self.pair(scenario, **more)
        for test, beside in (("TEST01", str(accuracy)), ("TEST04", "")):
            self.audit(test, scenario, performance, beside, **{**more, **(audits or {})})

    def audit(
        self,
        test: str,
        scenario: Scenario,
        performance: Path,
        accuracy: Path | str = "",
        *,
        agrees: bool = True,
        **more: Any,
    ) -> Path:
        """Write an audit of these runs. One that does not agree found other answers."""
        verdict = AuditResult(
            test=test,
            round=ROUND,
            reference=str(performance),
            accuracy_run=str(accuracy),
            passed=agrees,
            answers_agree=agrees,
            reference_score=1.0,
            score=1.0,
            highest=2.0,
        )
        return self.add(scenario, audit=verdict, **more)

    @staticmethod
    def _config(scenario: Scenario, mode: TestMode, settings: Mapping[str, Any]) -> RunConfig:
        values: dict[str, Any] = {
            "benchmark": "resnet50",
            "system": "bench",
            "engine": "openvino",
            "precision": Precision.FP32,
            "dataset": "imagenet",
            "round": ROUND,
            "batch_size": 1,
            "instances": 1,
            "threads_per_instance": 1,
        }
        return RunConfig(scenario=scenario, test_mode=mode, **{**values, **settings})

    def _test(self, config: RunConfig, audit: AuditResult | None) -> trees.Run:
        rules, scenario = rounds.read(config.round), config.scenario.value
        test = trees.Run(rules, "resnet50", scenario, config.test_mode.value, day=next(self.days), sut="engineroom")
        return trees.audited(test, audit.test) if audit else test


def _score() -> AccuracyResult:
    return AccuracyResult(
        metric="top-1", unit="%", value=76.456, target=75.69, reference=76.456, good=38228, total=50000, met=True
    )


def _write_audit(folder: Path, run: trees.Run, test: str, answers: int) -> None:
    files = trees.audit(run, test, run)
    if test == "TEST01":  # before it is staged and cut
        files |= {
            "accuracy/mlperf_log_accuracy.json": trees.whole_answers(answers),
            "accuracy/accuracy.txt": SCORE.encode(),
        }
    trees.write(folder, files)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Return a repository with two of our files, and its revision: what git knows is staged as git has it."""
    folder = tmp_path_factory.mktemp("repository")
    for name in SOURCES:
        shutil.copy(ROOT / name, folder)
    git = ["git", "-C", str(folder), "-c", "user.name=Test", "-c", "user.email=test@example.com"]
    for words in (("init", "--quiet"), ("add", "."), ("commit", "--quiet", "--no-gpg-sign", "--message=Test")):
        subprocess.run([*git, *words], check=True)
    done = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    return folder, done.stdout.strip()


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repository: tuple[Path, str]) -> Runs:
    """Return an empty folder for runs; everything that stages reads it, and writes below the test's own folder."""
    folder, revision = repository
    found = Runs(tmp_path / "runs", revision)
    monkeypatch.setattr(documents, "SOURCES", SOURCES)
    monkeypatch.setattr(documents, "write_sources", partial(documents.write_sources, root=folder))
    for module in (entry, stage, submission, published, validator):
        monkeypatch.setattr(module, "SUBMISSION", tmp_path / "submission")

    def read(names: list[str], system: str | None = None) -> choose.Found:
        return choose.read_runs(names, system, found.folder)

    for module in (missing, staging, submission):
        monkeypatch.setattr(module, "read_runs", read)
    monkeypatch.setattr(audits, "RUNS", found.folder)
    monkeypatch.setattr(published, "PUBLISHED", tmp_path / "published")
    monkeypatch.setattr(submission, "detect", lambda: MACHINE)
    told = privacy.Private("jdoe", "/home/jdoe", ("crunch7",), "/home/jdoe/engineroom")
    monkeypatch.setattr(privacy, "of_this_machine", lambda: told)
    monkeypatch.setattr(staging.systems, "read_all", lambda: {"bench": _system(tmp_path, DESCRIBED)})
    return found


def _system(folder: Path, told: Mapping[str, str]) -> Any:
    from engineroom.systems.files import Asserted, System

    return System(
        "bench", folder / "bench.yaml", {}, {name: Asserted(text, "bench.yaml:1") for name, text in told.items()}
    )
