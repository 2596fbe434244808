"""A run's folder: a name of its own, every value with its origin, and a result only when it is finished."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import examples
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engineroom import runs
from engineroom.config import Origin, Resolved, RunConfig
from engineroom.errors import RequestError

CONFIG = examples.config(system="AMD_EPYC-2c", batch_size=4)
RESULT = examples.result()


def _resolved(**changes: Any) -> Resolved:
    config = msgspec.structs.replace(CONFIG, **changes)
    return Resolved(config, {name: Origin(f"--{name}") for name in config.__struct_fields__})


def test_a_folder_tells_what_run_it_is_and_is_new_each_time(tmp_path: Path) -> None:
    folders = {runs.open_folder(CONFIG, runs=tmp_path / "runs") for _ in range(20)}
    assert len(folders) == 20
    for folder in folders:
        stamp, _, name = folder.name.partition("-")
        assert len(stamp) == len("20260101T000000.000Z")
        assert name == "AMD_EPYC-2c-digits-Offline-PerformanceOnly.partial"
        assert (folder / "recipe").is_dir()


def test_only_a_finished_run_has_a_result_and_a_final_name(tmp_path: Path) -> None:
    partial = runs.open_folder(CONFIG, runs=tmp_path)
    final = runs.finish(partial, RESULT)
    assert [path.name for path in tmp_path.iterdir()] == [final.name]
    assert not final.name.endswith(".partial")
    assert runs.read_result(final) is not None
    written = json.loads((final / "result.json").read_text())
    assert (written["run"], written["exit_code"]) == (str(final), 0)


def test_a_run_that_was_killed_before_it_had_its_final_name_is_not_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    partial = runs.open_folder(CONFIG, runs=tmp_path)

    def killed(path: Path, target: Path) -> Path:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "rename", killed)
        runs.finish(partial, RESULT)
    assert (partial / "result.json").is_file() and runs.read_result(partial) is None


def test_every_value_stands_with_its_origin(tmp_path: Path) -> None:
    resolved = _resolved()
    origins = {**resolved.origins, "batch_size": Origin("rule of\nthumb: # 1\rx")}
    runs.write_config(tmp_path, Resolved(resolved.config, origins))
    lines = (tmp_path / "run_config.yaml").read_text().splitlines()
    assert len(lines) == len(RunConfig.__struct_fields__)
    assert "batch_size: 4  # rule of thumb: # 1 x" in lines
    assert 'benchmark: "digits"  # --benchmark' in lines
    assert runs.read_config(tmp_path).config == CONFIG


rates = st.none() | st.floats(min_value=1e-300, max_value=1e9, exclude_min=True)


@settings(max_examples=40)  # each is synced to the disk
@given(rates, rates, st.floats(min_value=1e-12, max_value=600), st.none() | st.integers(0, 86_400_000), st.booleans())
def test_settings_are_read_back_as_written(
    tmp_path_factory: pytest.TempPathFactory,
    offline: float | None,
    server: float | None,
    probe_s: float,
    duration: int | None,
    pinned: bool,
) -> None:
    resolved = _resolved(
        offline_expected_qps=offline,
        server_target_qps=server,
        probe_s=probe_s,
        min_duration=duration,
        pin_workers=pinned,
    )
    folder = tmp_path_factory.getbasetemp() / "read_back"
    runs.write_config(folder, resolved)
    assert runs.read_config(folder).config == resolved.config


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("", "cannot be read: No such file"),
        ("benchmark: x\n", "does not fit this version of Engineroom: .*missing required field"),
        ("new_field: 1\n", "does not fit this version of Engineroom: .*unknown field"),
        ("batch_size: [\n", "is not YAML"),
    ],
)
def test_settings_that_do_not_fit_are_refused(tmp_path: Path, change: str, said: str) -> None:
    if change:
        (tmp_path / "run_config.yaml").write_text(change)
    with pytest.raises(RequestError, match=rf"run_config\.yaml.*: {said}"):
        runs.read_config(tmp_path)


def test_a_closed_build_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "build").write_text("")
    with pytest.raises(RequestError, match="is in the way"):
        runs.open_folder(CONFIG, runs=tmp_path / "build" / "runs")
