"""Settings come from layers, each value with its origin, and all mistakes of all layers are told at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from engineroom.config import Resolved, fields, resolve
from engineroom.config.layers import Kind
from engineroom.config.rules import Context
from engineroom.detection import Cpu, Machine
from engineroom.errors import Mistakes, RequestError
from engineroom.paths import CONFIGS
from engineroom.registry import find
from engineroom.terms import Scenario, TestMode

Resolve = Callable[..., Resolved]


@pytest.fixture(scope="module")
def configs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of settings that holds no file yet."""
    return tmp_path_factory.mktemp("configs")


@pytest.fixture
def settings(configs: Path, machine: Machine) -> Resolve:
    """Return a function that writes the files of the two layers and resolves one run of benchmark `b`."""

    def write(
        default: str | bytes = "",
        own: str | bytes = "",
        scenario: Scenario = Scenario.OFFLINE,
        **overrides: str,
    ) -> Resolved:
        for folder, content in (("default", default), (machine.system, own)):
            path = configs / folder / "b.yaml"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        context = Context("b", scenario, machine)
        return resolve(context, TestMode.PERFORMANCE_ONLY, overrides, configs=[configs])

    return write


def _mistakes(settings: Resolve, configs: Path, **layers: Any) -> list[str]:
    with pytest.raises(Mistakes) as caught:
        settings(**layers)
    return [str(mistake).replace(f"{configs}/", "") for mistake in caught.value.mistakes]


def test_a_later_layer_wins_and_each_value_knows_its_origin(settings: Resolve, configs: Path) -> None:
    found = settings(
        default="common:\n  batch_size: 2\n  instances: 3\n  queue_delay_us: 5\nOffline:\n  batch_size: 4\n",
        own="common:\n  batch_size: 8\n  instances: 5\n",
        instances="7",
    )
    config, origins = (
        found.config,
        {name: origin.text.replace(f"{configs}/", "") for name, origin in found.origins.items()},
    )
    assert (config.queue_delay_us, origins["queue_delay_us"]) == (5, "default/b.yaml:4")
    assert (config.batch_size, origins["batch_size"]) == (8, "test_system/b.yaml:2")
    assert (config.instances, origins["instances"]) == (7, "--instances")
    assert (config.threads_per_instance, origins["threads_per_instance"]) == (
        1,
        "rule threads_by_cores: 4 usable cores, 7 instances",
    )
    assert (config.watchdog_s, origins["watchdog_s"]) == (30.0, "default")
    assert (config.scenario, origins["scenario"]) == (Scenario.OFFLINE, "the request")
    assert set(origins) == set(fields.names())


def test_every_layer_in_its_order(tmp_path: Path, machine: Machine) -> None:
    """Each layer says batch_size; taking the strongest away lets the next one through."""
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    files = [
        tree / folder / name
        for tree in (ours, theirs)
        for folder, name in (("default", "b.yaml"), ("test_system", "b.yaml"), ("test_system", "b.tuned.yaml"))
    ]
    for number, path in enumerate(files, 2):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"common:\n  batch_size: {number}\n")
    context = Context("b", Scenario.OFFLINE, machine, benchmark_settings={"common": {"batch_size": 1}})
    flags, environment = {"batch_size": "9"}, {"batch_size": "8"}
    found = resolve(context, TestMode.PERFORMANCE_ONLY, flags, environment=environment, configs=[ours, theirs])
    assert [setting.value for setting in found.said["batch_size"]] == list(range(1, 10))
    assert (found.origins["batch_size"].text, found.origins["batch_size"].kind) == ("--batch_size", Kind.FLAG)
    found = resolve(context, TestMode.PERFORMANCE_ONLY, {}, environment=environment, configs=[ours, theirs])
    assert (found.config.batch_size, found.origins["batch_size"].text) == (8, "ENGINEROOM_BATCH_SIZE")
    for number, path in reversed(list(enumerate(files, 2))):
        found = resolve(context, TestMode.PERFORMANCE_ONLY, {}, configs=[ours, theirs])
        assert (found.config.batch_size, found.origins["batch_size"].text) == (number, f"{path}:2")
        path.unlink()
    found = resolve(context, TestMode.PERFORMANCE_ONLY, {}, configs=[ours, theirs])
    assert (found.config.batch_size, found.origins["batch_size"].text) == (1, "benchmark b")


def test_an_empty_list_overrides(settings: Resolve) -> None:
    text = "common:\n  cpus: [0, 2]\n"
    assert settings(text).config.cpus == (0, 2)
    assert settings(text, "common:\n  cpus: []\n").config.cpus == ()
    assert settings(text, cpus="").config.cpus == ()


def test_mistakes_of_a_benchmarks_own_settings_are_told(machine: Machine, tmp_path: Path) -> None:
    own = {"common": {"gpu_batch_size": 1}, "Offline": {"batch_size": 0}}
    context = Context("b", Scenario.OFFLINE, machine, benchmark_settings=own)
    with pytest.raises(Mistakes) as caught:
        resolve(context, TestMode.PERFORMANCE_ONLY, {}, configs=[tmp_path])
    assert str(caught.value).splitlines() == [
        "benchmark b: gpu_batch_size: unknown field",
        "  that is batch_size here",
        "benchmark b: batch_size is 0, must be a whole number >= 1 (samples)",
    ]


def test_a_setting_outside_of_any_section_is_told_where_it_belongs(settings: Resolve, configs: Path) -> None:
    assert _mistakes(settings, configs, default="batch_size: 4\n") == [
        "default/b.yaml:1: unknown section batch_size\n"
        "  settings stand in a section: common, SingleStream, MultiStream, Server, Offline"
    ]


def test_sections_of_other_scenarios_do_not_count(settings: Resolve) -> None:
    text = "Server:\n  batch_size: 9\nOffline:\n  batch_size: 4\n"
    assert settings(text, scenario=Scenario.OFFLINE).config.batch_size == 4
    assert settings(text, scenario=Scenario.SERVER).config.batch_size == 9
    assert settings(text, scenario=Scenario.SINGLE_STREAM).config.batch_size == 1


def test_a_name_of_another_harness_is_known(settings: Resolve, configs: Path) -> None:
    names = ("deque_timeout_usec", "workspace_size", "target_qps", "performance_sample_count_override")
    text = "common:\n" + "".join(f"  {name}: 1\n" for name in names)
    assert [mistake.partition("\n  ")[2] for mistake in _mistakes(settings, configs, default=text)] == [
        "that is queue_delay_us here",
        "that is workspace_bytes here",
        "that is offline_expected_qps or server_target_qps here",
        "that is performance_sample_count here",
    ]


def test_zero_false_and_none_override(settings: Resolve) -> None:
    text = "common:\n  queue_delay_us: 7\n  pin_workers: true\n  min_duration: 9\n  threads_per_instance: 3\n"
    found = settings(
        text, queue_delay_us="0", pin_workers="false", min_duration="none", threads_per_instance="0"
    ).config
    assert (found.queue_delay_us, found.pin_workers, found.min_duration, found.threads_per_instance) == (
        0,
        False,
        None,
        0,
    )
    own = "common:\n  queue_delay_us: 0\n  pin_workers: false\n  min_duration: null\n  threads_per_instance: 0\n"
    found = settings(text, own).config
    assert (found.queue_delay_us, found.pin_workers, found.min_duration, found.threads_per_instance) == (
        0,
        False,
        None,
        0,
    )


def test_a_limit_of_zero_takes_a_files_limit_away(settings: Resolve) -> None:
    text = "common: {min_duration: 9, max_duration: 10, max_query_count: 5}"
    assert settings(text).config.max_duration == 10
    found = settings(text, max_duration="0", max_query_count="0").config
    assert (found.max_duration, found.max_query_count) == (None, None)


def test_a_files_auto_leaves_the_choice_to_the_rule(settings: Resolve) -> None:
    assert settings("common: {engine: onnxruntime}").config.engine == "onnxruntime"
    found = settings("common: {engine: onnxruntime}", engine="auto")
    assert (found.config.engine, found.origins["engine"].text) == (
        "openvino",
        "rule engine_by_machine: no NVIDIA GPU is visible",
    )


def test_every_mistake_of_every_layer_is_told_at_once(settings: Resolve, configs: Path) -> None:
    assert _mistakes(
        settings,
        configs,
        default=(
            "common:\n  gpu_batch_sise: 4\n  batch_size: 0\n  engine: openvin\n"
            "Ofline:\n  batch_size: 4\n"
            "Server:\n  batch_size: 1.5\n  queue_delay_us: .nan\n"
            "MultiStream: 3\n"
            "Offline:\n  instances: 2\n  instances: 3\n  system: mine\n  server_target_qps: .nan\n"
        ),
        own=b"common: \xff",
        probe_s="0",
    ) == [
        "default/b.yaml:2: common.gpu_batch_sise: unknown field\n  did you mean batch_size?",
        "default/b.yaml:3: common.batch_size is 0, must be a whole number >= 1 (samples)",
        "default/b.yaml:4: common.engine is 'openvin'; did you mean openvino?",
        "default/b.yaml:5: unknown section Ofline\n  did you mean Offline?",
        "default/b.yaml:8: Server.batch_size is 1.5, must be a whole number (samples)",
        "default/b.yaml:9: Server.queue_delay_us is not a number",
        "default/b.yaml:10: section MultiStream must hold `field: value` lines",
        "default/b.yaml:13: instances stands here a second time\n  it stands first in line 12",
        "default/b.yaml:14: Offline.system: unknown field\n  make explain lists the settings",
        "default/b.yaml:15: Offline.server_target_qps is not a number",
        "test_system/b.yaml:1: is not UTF-8 text",
        "--probe_s: probe_s is '0', must be a number > 0.0 (s)",
    ]


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ("batch_size: [1, 2]", "common.batch_size is [1, 2], must be a whole number (samples)"),
        ("batch_size: {a: 1}", "common.batch_size is {'a': 1}, must be a whole number (samples)"),
        ("batch_size:", "common.batch_size is none, must be a whole number (samples)"),
        ("batch_size: 010", "common.batch_size is '010', must be a whole number (samples)"),
        ("batch_size: 1e30", "common.batch_size is 1e+30, must be a whole number (samples)"),
        ("min_duration: 10:00", "common.min_duration is '10:00', must be a whole number or none (ms)"),
        ("pin_workers: yes", "common.pin_workers is 'yes', must be true or false"),
        ("precision: 8", "common.precision is 8, must be a word"),
        ("'': 8", "common.: unknown field"),
        ('"a\\nb": 8', "common.'a\\nb': unknown field"),
        (f"calibrator: {'x' * 100_000}", "common.calibrator is 'xxx"),
        (f"batch_size: {'9' * 100}", "common.batch_size is 999"),
    ],
)
def test_a_wrong_value_is_told_as_it_was_written(settings: Resolve, configs: Path, section: str, said: str) -> None:
    (mistake,) = _mistakes(settings, configs, default=f"common:\n  {section}\n")
    assert mistake.startswith(f"default/b.yaml:2: {said}")
    assert len(mistake) < 1000


def test_a_settings_file_that_cannot_be_read_is_never_passed_over(tmp_path: Path, machine: Machine) -> None:
    path = tmp_path / "default" / "b.yaml"
    path.parent.mkdir()
    context = Context("b", Scenario.OFFLINE, machine)

    def message() -> str:
        with pytest.raises(RequestError) as caught:
            resolve(context, TestMode.PERFORMANCE_ONLY, {}, configs=[tmp_path])
        return str(caught.value)

    path.symlink_to(path)
    assert message() == f"{path}: cannot be read: Too many levels of symbolic links"
    path.unlink()
    path.symlink_to(tmp_path / "gone.yaml")
    assert message() == f"{path}: cannot be read: No such file or directory"
    path.unlink()
    path.mkdir()
    assert message() == f"{path}: is a folder"


def test_no_files_are_no_mistake(tmp_path: Path, machine: Machine) -> None:
    found = resolve(Context("b", Scenario.OFFLINE, machine), TestMode.ACCURACY_ONLY, {}, configs=[tmp_path])
    assert found.config.test_mode is TestMode.ACCURACY_ONLY


def test_replaced_values_have_the_new_origin(settings: Resolve) -> None:
    found = settings("common: {batch_size: 3}")
    changed = found.replace("rule probe", batch_size=5)
    assert (changed.config.batch_size, changed.origins["batch_size"].text) == (5, "rule probe")
    assert (found.config.batch_size, changed.origins["instances"]) == (3, found.origins["instances"])


@pytest.mark.parametrize("scenario", Scenario)
@pytest.mark.parametrize("name", find("benchmarks"))
def test_our_own_settings_resolve(name: str, scenario: Scenario, machine: Machine) -> None:
    found = resolve(
        Context(name, scenario, machine, quick_start=True), TestMode.PERFORMANCE_ONLY, {}, configs=[CONFIGS]
    )
    assert found.config.benchmark == name


def _outcome(settings: Resolve, configs: Path, content: str | bytes) -> None:
    """Resolve a file of any content: the outcome is settings, or mistakes that each name a line of it."""
    try:
        found = settings(own=content)
    except Mistakes as error:
        assert error.mistakes
        for mistake in error.mistakes:
            assert str(mistake.where).startswith(f"{configs}/test_system/b.yaml")
            assert all(line.isprintable() for line in str(mistake).splitlines())
    else:
        assert msgspec.convert(msgspec.to_builtins(found.config), type(found.config)) == found.config


names = st.sampled_from(fields.names()) | st.text(max_size=10)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
sections = st.sampled_from(["common", *(item.value for item in Scenario)]) | st.text(max_size=10)
files = st.dictionaries(sections, st.dictionaries(names, values, max_size=6) | values, max_size=4)


@limits(max_examples=60)
@given(files, st.booleans())
def test_any_settings_resolve_or_are_mistakes_with_their_lines(
    settings_: Any, configs: Path, content: Any, flow: bool
) -> None:
    _outcome(settings_, configs, yaml.dump(content, Dumper=yaml.CSafeDumper, default_flow_style=flow))


@given(
    st.binary(max_size=80)
    | st.text(alphabet="common:Offline batch_size 0129-[]{}&*!|>'\"#\n\t.,?", max_size=80).map(str.encode)
)
def test_any_text_resolves_or_is_a_mistake_with_its_line(settings_: Any, configs: Path, content: bytes) -> None:
    _outcome(settings_, configs, content)


@pytest.fixture(scope="module", name="settings_")
def settings_for_properties(configs: Path) -> Resolve:
    """`settings` for many examples in one test: only the system's own file changes."""
    machine = Machine(Cpu("CPU", cores=4, usable_cores=4), 1 << 30, system="test_system")

    def write(own: str | bytes) -> Resolved:
        path = configs / "test_system" / "b.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(own.encode() if isinstance(own, str) else own)
        return resolve(Context("b", Scenario.OFFLINE, machine), TestMode.PERFORMANCE_ONLY, {}, configs=[configs])

    return write
