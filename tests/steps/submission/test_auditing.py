"""What an audit is compared with: the run that is there if it is good and still what would be run, else a new one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import msgspec
import pytest
from desk import OFFLINE, SINGLE

from engineroom import runs, versions
from engineroom.actions import audits, execute
from engineroom.benchmarks.resnet50 import BENCHMARK as RESNET50
from engineroom.config import Origin, Resolved
from engineroom.errors import RequestError
from engineroom.paths import OVERLAYS
from engineroom.runs import AuditResult, Result
from engineroom.steps.audit import TEST04
from engineroom.terms import Scenario, TestMode

if TYPE_CHECKING:
    from conftest import Runs
    from engineroom.actions.work import Work


@dataclass
class Asked:
    """An audit that is asked for with the settings of the runs in `made`: nothing is run, what would be is told."""

    made: Runs
    measured: list[Scenario]
    compared: list[str]

    def audit(self, scenario: Scenario, *, rehearses: bool = False, **settings: Any) -> str:
        """Return the folder of the run that TEST04 is compared with."""
        config = self.made._config(scenario, TestMode.PERFORMANCE_ONLY, settings)
        resolved = Resolved(config, {name: Origin("x") for name in config.__struct_fields__})
        work = SimpleNamespace(
            benchmark=RESNET50,
            machine=self.made.machine,
            resolve=lambda scenario, mode: resolved,
            best_precision=lambda resolved: (resolved, None),
        )
        list(audits.of_scenario(audits.Task(cast("Work", work), scenario, [TEST04], rehearses=rehearses)))
        return self.compared[-1]


@pytest.fixture
def asked(made: Runs, monkeypatch: pytest.MonkeyPatch) -> Asked:
    found = Asked(made, [], [])
    made_from = {"model": "m" * 64, "calibration": "none"}
    monkeypatch.setattr(execute, "made_from", lambda work, config, engine: made_from)
    monkeypatch.setattr(versions, "git_revision", lambda: made.revision)

    def measure(work: Any, resolved: Resolved, engine: None) -> Result:
        found.measured.append(resolved.config.scenario)
        folder = made.add(resolved.config.scenario)
        return msgspec.structs.replace(_result(folder), run=str(folder))

    def measure_audit(work: Any, resolved: Resolved, engine: None, about: Any) -> Result:
        found.compared.append(about.reference)
        reference = _result(Path(about.reference))
        passed = bool(reference.performance and reference.performance.valid)
        told = AuditResult(
            test=about.test,
            round="v6.1",
            reference=about.reference,
            passed=passed,
            reference_score=1,
            score=1,
            highest=2,
        )
        return msgspec.structs.replace(reference, audit=told)

    monkeypatch.setattr(audits.run, "measure", measure)
    monkeypatch.setattr(execute, "measure_audit", measure_audit)
    return found


def _result(folder: Path) -> Result:
    result = runs.read_result(folder)
    assert result
    return result


def test_an_audit_is_compared_with_the_best_valid_run_that_is_there(made: Runs, asked: Asked) -> None:
    made.add(OFFLINE)
    best = made.add(OFFLINE, log={"result_samples_per_second": 300.0})
    made.add(OFFLINE, log={"result_samples_per_second": 999.0}, valid=False)
    assert (asked.audit(OFFLINE), asked.measured) == (str(best), [])


def test_a_run_of_another_length_is_none_to_compare_with_but_for_a_rehearsal(made: Runs, asked: Asked) -> None:
    there = made.add(OFFLINE)
    assert asked.audit(OFFLINE, rehearses=True, min_duration=1000) == str(there) and not asked.measured
    assert asked.audit(OFFLINE, min_duration=1000) != str(there) and asked.measured == [OFFLINE]


def test_a_rehearsal_takes_an_invalid_run_where_there_is_no_better_and_tries_but_once(made: Runs, asked: Asked) -> None:
    """As docs/submission.md says, any finished run will do. No other step takes it."""
    invalid = made.add(SINGLE, log={"early_stopping_latency_ss": 0}, valid=False)
    assert asked.audit(SINGLE, rehearses=True, min_duration=1000) == str(invalid)
    assert (asked.compared, asked.measured) == ([str(invalid)], [])
    valid = made.add(SINGLE)
    assert asked.audit(SINGLE, rehearses=True) == str(valid)


def test_beside_a_run_that_comes_out_invalid_only_a_rehearsal_has_audits(
    made: Runs, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(work: Any, resolved: Resolved, engine: None) -> Result:
        folder = made.add(resolved.config.scenario, valid=False)
        return msgspec.structs.replace(_result(folder), run=str(folder))

    monkeypatch.setattr(audits.run, "measure", measure)
    with pytest.raises(RequestError, match="is no VALID performance run"):
        asked.audit(OFFLINE)
    assert asked.audit(OFFLINE, rehearses=True).endswith("-Offline-PerformanceOnly")


def test_a_run_with_other_overlays_is_none_to_compare_with(
    made: Runs, asked: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, overlay = made.add(OFFLINE), tmp_path / "lab"
    (overlay / "engines").mkdir(parents=True)
    (overlay / "engines/mine.py").write_text("# 1\n")
    with_overlay = made.add(OFFLINE, overlays=(overlay,))
    assert asked.audit(OFFLINE) == str(plain)
    monkeypatch.setenv(OVERLAYS, str(overlay))
    assert asked.audit(OFFLINE) == str(with_overlay)
    assert asked.measured == []
    (overlay / "engines/mine.py").write_text("# 2\n")
    assert asked.audit(OFFLINE) not in (str(plain), str(with_overlay))
    assert asked.measured == [OFFLINE]
