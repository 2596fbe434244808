"""Finished runs as the harness leaves them, without running anything: logs in LoadGen's format, small and made up."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engineroom import rounds, runs
from engineroom.actions import staging, submission
from engineroom.config import Origin, Resolved, RunConfig
from engineroom.detection.machine import Cpu, Disk, Machine, Nic
from engineroom.paths import overlay_version
from engineroom.runs import AccuracyResult, AuditResult, PerformanceResult, Result, Submittable
from engineroom.steps.submission import choose, entry, privacy, stage
from engineroom.terms import METRICS, Precision, Scenario, TestMode

ROUND = "v6.1"
REVISION = "unknown"  # of the code; git cannot give it, so that nothing depends on a repository
MS = 1e6
LINE = ':::MLLOG {{"key": {key}, "value": {value}, "time_ms": 0.1, "namespace": "mlperf::logging", "event_type": "POINT_IN_TIME", "metadata": {{"is_error": false, "is_warning": false, "file": "results.cc", "line_no": 1, "pid": 1, "tid": 1}}}}\n'  # noqa: E501
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
FIGURES = {  # LoadGen's own, in ns and samples/s
    Scenario.SINGLE_STREAM: {
        "early_stopping_latency_ss": 5_000_000,
        "early_stopping_latency_ms": 6_000_000,
        "result_qps_without_loadgen_overhead": 210.0,
    },
    Scenario.MULTI_STREAM: {"early_stopping_latency_ms": 40_000_000, "result_mean_query_latency_ns": 32_000_000},
    Scenario.OFFLINE: {"result_samples_per_second": 250.0},
}


def detail(values: Mapping[str, Any]) -> str:
    """Return a detail log of LoadGen's."""
    return "".join(LINE.format(key=json.dumps(key), value=json.dumps(value)) for key, value in values.items())


def answers(count: int = 400) -> str:
    """Return an accuracy log that is long enough to be cut."""
    lines = (f'{{ "seq_id" : {i}, "qsl_idx" : {i}, "data" : "{i:016X}", "token_count" : 0 }}' for i in range(count))
    return "[\n" + ",\n".join(lines) + "\n]\n"


@dataclass
class Runs:
    """The folder that stands for build/runs, and how a run is put there."""

    folder: Path
    machine: Machine = MACHINE

    def add(
        self,
        scenario: Scenario = Scenario.OFFLINE,
        mode: TestMode = TestMode.PERFORMANCE_ONLY,
        *,
        log: Mapping[str, Any] | None = None,
        machine: Machine = MACHINE,
        revision: str = REVISION,
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
        values = {**self._log(config, valid=valid), **(log or {})}
        files = {
            "recipe/user.conf": f"{config.benchmark}.{scenario}.min_duration = 600000\n",
            "env.json": json.dumps(
                {
                    "revision": revision,
                    "machine": msgspec.to_builtins(machine),
                    "overlays": [{"path": str(path), "version": overlay_version(path)} for path in overlays],
                }
            ),
            "mlperf_log_detail.txt": detail(values),
            "mlperf_log_summary.txt": "Result is : VALID\n",
        }
        if mode is TestMode.ACCURACY_ONLY or audit:
            files |= {
                "mlperf_log_accuracy.json": answers(),
                "accuracy.txt": "accuracy=76.456%, good=38228, total=50000\n",
            }
        for name, content in {**files, **(text or {})}.items():
            (partial / name).parent.mkdir(parents=True, exist_ok=True)
            (partial / name).write_text(content, encoding="utf-8")
        if audit:
            _write_audit(partial / audit.test, partial, audit.test)
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

    def audited(self, scenario: Scenario, **more: Any) -> None:
        """Write a performance run, its accuracy run and its audits."""
        performance, accuracy = self.pair(scenario, **more)
        for test, beside in (("TEST01", str(accuracy)), ("TEST04", "")):
            audit = AuditResult(
                test=test,
                round=ROUND,
                reference=str(performance),
                accuracy_run=beside,
                passed=True,
                reference_score=1.0,
                score=1.0,
                highest=2.0,
            )
            self.add(scenario, audit=audit, **more)

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

    @staticmethod
    def _log(config: RunConfig, *, valid: bool) -> dict[str, Any]:
        seeds = {f"effective_{name}": value for name, value in rounds.read(ROUND).seeds.all().items()}
        common = {
            "loadgen_version": "6.0.17 @ b66003e1",
            "sut_name": "engineroom",
            "effective_scenario": config.scenario.value,
            "effective_test_mode": config.test_mode.value,
            "effective_min_duration_ms": 600_000,
            "effective_min_query_count": 24_576,
            "effective_samples_per_query": 24_576 if config.scenario is Scenario.OFFLINE else 1,
            "effective_performance_sample_count": 1024,
            "qsl_reported_total_count": 50_000,
            "effective_accuracy_sample_count": 50_000,
            **seeds,
        }
        if config.test_mode is TestMode.ACCURACY_ONLY:
            return {**common, "power_end": "x"}
        figures = FIGURES.get(config.scenario, {})
        judged = {"result_validity": "VALID" if valid else "INVALID", "early_stopping_met": True, "num_errors": 0}
        means = {"result_mean_latency_ns": 4_800_000, "result_99.00_percentile_latency_ns": 9_000_000}
        return {**common, **means, **figures, **judged}


def _score() -> AccuracyResult:
    return AccuracyResult(
        metric="top-1", unit="%", value=76.456, target=75.69, reference=76.456, good=38228, total=50000, met=True
    )


def _write_audit(folder: Path, run: Path, test: str) -> None:
    (folder / "performance" / "run_1").mkdir(parents=True)
    for name in ("mlperf_log_detail.txt", "mlperf_log_summary.txt"):
        (folder / "performance" / "run_1" / name).write_bytes((run / name).read_bytes())
    (folder / "verify_performance.txt").write_text("TEST PASS\n")
    if test == "TEST01":
        (folder / "accuracy").mkdir()
        (folder / "accuracy" / "mlperf_log_accuracy.json").write_text(answers())
        (folder / "accuracy" / "accuracy.txt").write_text("accuracy=76.456%, good=38228, total=50000\n")
        (folder / "verify_accuracy.txt").write_text("TEST PASS\n")


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runs:
    """Return an empty folder for runs; everything that stages reads it, and writes below the test's own folder."""
    found = Runs(tmp_path / "runs")
    for module in (entry, stage, submission):
        monkeypatch.setattr(module, "SUBMISSION", tmp_path / "submission")

    def read(names: list[str], system: str | None = None) -> choose.Found:
        return choose.read_runs(names, system, found.folder)

    for module in (staging, submission):
        monkeypatch.setattr(module, "read_runs", read)
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


@pytest.fixture
def small_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stage one file instead of the whole code."""
    from engineroom.steps.submission import documents

    monkeypatch.setattr(documents, "SOURCES", ("tasks.py", "Makefile"))
