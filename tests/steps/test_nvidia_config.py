"""NVIDIA's own settings become ours as far as they mean the same, and none of their code is run."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from engineroom import registry
from engineroom.actions.import_config import import_nvidia_config
from engineroom.config import fields, layers, resolve
from engineroom.config.rules import Context
from engineroom.detection import Machine
from engineroom.errors import EngineroomError, ExitCode, RequestError
from engineroom.steps.nvidia_config import carry, settings
from engineroom.terms import Scenario, TestMode

SAMPLES = Path(__file__).parents[1] / "nvidia_configs"
# A folder with the configs of NVIDIA's real rounds: an additional test reads all of it.
REAL = os.environ.get("NVIDIA_CONFIGS")

Write = Callable[..., Path]


def imported(path: Path) -> carry.Import:
    return carry.carry_over(settings.find(path), path)


def values(path: Path) -> dict[str, dict[str, Any]]:
    """Return what would be written, as YAML reads it."""
    return {str(config.path): yaml.safe_load(carry.render(config, str(path))) for config in imported(path).configs}


def left(path: Path) -> dict[tuple[str, str], str]:
    return {(each.what, each.where): each.reason for each in imported(path).left}


def test_a_file_names_the_schema_where_there_is_one(tmp_path: Path) -> None:
    found = imported(SAMPLES / "v5.1")
    carry.write(found.configs, "", tmp_path, force=False, dry_run=False)
    (tmp_path / "schema.json").write_text("{}")
    done = carry.write(found.configs, "", tmp_path, force=True, dry_run=False)
    for path in done.written:
        first = (tmp_path / path).read_text().splitlines()[0]
        assert first == "# yaml-language-server: $schema=../schema.json"
    assert len(done.written) == len(found.configs)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Return a function that writes a file of settings, by default in the form of v5.1, and returns its folder."""

    def written(content: str | bytes, name: str = "Q1/Offline/resnet50.py") -> Path:
        path = tmp_path / "configs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return tmp_path / "configs"

    return written


def exports(lines: str, before: str = "") -> str:
    """Return a file of v5.1's form with these lines in its one dict."""
    return f"""import code.common.constants as C
import code.fields.models as m
import code.fields.loadgen as l
{before}
base = {{
{lines}
}}
EXPORTS = {{C.WorkloadSetting(C.HarnessType.Custom, C.AccuracyTarget(0.99), C.PowerSetting.MaxP): base}}
"""


# One form after the other.


def test_v2_0_classes_inherit_across_files_and_systems_described_in_place_bear_their_class_name() -> None:
    found = values(SAMPLES / "v2.0" / "configs")
    assert found == {
        "Q100_PCIe_16GBx1/resnet50.yaml": {
            "Offline": {
                "precision": "int8",
                "batch_size": 512,
                "gpu_copy_streams": 2,
                "use_graphs": False,
                "offline_expected_qps": 1234,
            }
        },
        "Q100_PCIe_16GBx4/resnet50.yaml": {
            "common": {"precision": "int8"},
            "Server": {
                "batch_size": 48,
                "queue_delay_us": 2100,
                "min_query_count": 270336,
                "server_target_qps": 3500,
            },
            "Offline": {"batch_size": 512, "gpu_copy_streams": 2, "use_graphs": False, "offline_expected_qps": 4900.5},
        },
        "Q100_SXMx2/resnet50.yaml": {
            "Offline": {
                "precision": "int8",
                "batch_size": 256,
                "gpu_copy_streams": 2,
                "use_graphs": False,
                "offline_expected_qps": 2600,
            }
        },
    }


def test_v3_1_a_module_imported_by_name_and_a_stub_of_zeros() -> None:
    found = values(SAMPLES / "v3.1" / "configs")
    assert found == {
        "OURS_Q200x2/3d-unet.yaml": {"SingleStream": {"precision": "int8", "performance_sample_count": 96}},
        "Q200x1/3d-unet.yaml": {
            "SingleStream": {"precision": "int8", "batch_size": 1, "single_stream_expected_latency_ns": 443_000_000}
        },
    }
    reasons = left(SAMPLES / "v3.1" / "configs")
    custom = "3d-unet/SingleStream/custom.py"
    assert reasons["gpu_batch_size", f"{custom}:8"] == "is an empty dict"
    assert reasons["single_stream_expected_latency_ns", f"{custom}:9"].startswith("is 0, must be")
    assert reasons["active_sms", f"{custom}:12"] == carry.NO_SUCH_SETTING
    assert reasons["class NOT_REGISTERED", f"{custom}:15"] == "is not registered"


def test_v4_1_sums_over_other_classes_and_a_system_with_the_higher_accuracy_only() -> None:
    folder = SAMPLES / "v4.1" / "configs"
    found = values(folder)
    assert found["Q300x8/bert.yaml"] == {"Server": {"precision": "fp16", "batch_size": 32, "server_target_qps": 5250}}
    assert found["Q400x1/bert.yaml"] == {"Server": {"precision": "fp16", "batch_size": 24}}
    assert found["Q300x1/stable-diffusion-xl.yaml"] == {
        "Offline": {"precision": "fp16", "min_duration": 1_200_000, "offline_expected_qps": 0.75}
    }
    remarks = {str(config.path): config.remarks for config in imported(folder).configs if config.remarks}
    assert remarks == {
        "Q400x1/bert.yaml": {"Server": "NVIDIA has only this variant of it (native harness, 99.9 %, MaxP)"}
    }
    reasons = left(folder)
    assert reasons["native harness, 99.9 %, MaxP", "bert/Server/__init__.py:26"] == carry.VARIANT
    assert "by part of the model" in reasons["gpu_batch_size", "stable-diffusion-xl/Offline/__init__.py:14"]


def test_v5_0_a_variant_with_a_name_of_its_own_stays_behind() -> None:
    folder = SAMPLES / "v5.0" / "configs"
    assert values(folder) == {
        "Q500x1/llama2-70b.yaml": {"Offline": {"precision": "fp8", "batch_size": 96, "offline_expected_qps": 3.5}}
    }
    assert left(folder)["native harness, 99 %, MaxP, PP2", "llama2-70b/Offline/__init__.py:21"] == carry.VARIANT


def test_v5_1_exports_by_system_and_a_scenario_that_is_not_here() -> None:
    folder = SAMPLES / "v5.1" / "configs"
    assert values(folder) == {
        "Q600-SXM-99GBx8/resnet50.yaml": {
            "Offline": {
                "precision": "int8",
                "batch_size": 1536,
                "gpu_copy_streams": 2,
                "offline_expected_qps": 60000,
            }
        }
    }
    reasons = left(folder)
    assert "Interactive" in reasons["llama2-70b", "Q600-SXM-99GBx8/Interactive/llama2-70b.py:5"]
    assert reasons["native harness, 99 %, MaxQ", "Q600-SXM-99GBx8/Offline/resnet50.py:25"] == carry.VARIANT
    # What has no setting here is named as that, whether or not its value could be worked out.
    assert reasons["tensor_path", "Q600-SXM-99GBx8/Offline/resnet50.py:16"] == carry.NO_SUCH_SETTING


def test_v6_0_atomic_exports_overrides_and_variables() -> None:
    folder = SAMPLES / "v6.0" / "configs"
    assert values(folder) == {
        "Q700-SXM-99GBx2/gpt-oss-120b.yaml": {"Server": {"min_duration": 600_000, "server_target_qps": 18}},
        "minimal/bert.yaml": {
            "SingleStream": {"precision": "int8", "batch_size": 1, "single_stream_expected_latency_ns": 2_500_000}
        },
    }
    reasons = left(folder)
    file = "Q700-SXM-99GBx2/Server/gpt-oss-120b.py"
    assert reasons["precision", f"{file}:12"] == "precision 'fp4' is not in this version"
    assert reasons["native harness, 99 %, MaxP, gen_config", f"{file}:34"] == carry.VARIANT
    assert "one kind of run" in reasons["ACCURACY_OVERRIDES", f"{file}:25"]
    assert "environment" in reasons["SOME_SWITCH", f"{file}:7"]
    assert reasons["native harness, 99.9 %, MaxP", "minimal/SingleStream/bert.py:16"] == carry.VARIANT


def test_one_file_finds_its_base_classes_beside_the_folder_that_is_named() -> None:
    file = SAMPLES / "v2.0" / "configs" / "resnet50" / "Server" / "__init__.py"
    config = imported(file).configs[0]
    assert config.sections["Server"]["precision"].value == "int8"
    assert config.sections["Server"]["precision"].where == "../__init__.py:11"
    assert config.sections["Server"]["batch_size"].where == "__init__.py:20"


def test_a_base_class_that_is_missing_is_told(write: Write) -> None:
    source = (SAMPLES / "v2.0" / "configs" / "resnet50" / "Server" / "__init__.py").read_text()
    folder = write(source, "resnet50/Server/__init__.py")
    why = left(folder)["class Q100_PCIe_16GBx4", "resnet50/Server/__init__.py:18"]
    assert why == "inherits from GPUBaseConfig, which is not in the files read: what that sets is missing"
    assert values(folder)["Q100_PCIe_16GBx4/resnet50.yaml"]["Server"]["batch_size"] == 48


def test_what_is_written_resolves_and_each_value_tells_where_it_was(
    tmp_path: Path, machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    assert import_nvidia_config([str(SAMPLES), f"--output={tmp_path}"]) == 0
    capsys.readouterr()
    lines = [line for path in tmp_path.rglob("*.yaml") for line in path.read_text().splitlines() if ": " in line]
    for name in (config.path for config in imported(SAMPLES).configs):
        for scenario in Scenario:
            context = Context(name.stem, scenario, replace(machine, system=name.parent.name))
            resolve(context, TestMode.PERFORMANCE_ONLY, {}, configs=[tmp_path])
    assert "  batch_size: 48 # gpu_batch_size, v2.0/configs/resnet50/Server/__init__.py:20" in lines


def test_names_of_the_same_meaning_are_fields_here() -> None:
    from engineroom import legacy

    assert set(legacy.FIELDS.values()) <= set(fields.names())


# What is worked out, and what is not.


@pytest.mark.parametrize(
    ("lines", "before", "expected"),
    [
        ("m.gpu_batch_size: 1 << 6,", "", 64),
        ("m.gpu_batch_size: {'resnet50': 7 // 2},", "", 3),
        ("m.gpu_batch_size: N,", "N = 3\nN *= 5", 15),
        ("m.gpu_batch_size: N['a'] - 1,", "N = {'a': 9}", 8),
        ("m.gpu_batch_size: round(2.6),", "", 3),
        ("**N,", "N = {m.gpu_batch_size: 5}", 5),
        ("**N,", "N = dict({m.gpu_batch_size: 5})\nN.update({m.gpu_batch_size: 6})", 6),
        ("**(N | {m.gpu_batch_size: 8}),", "N = {m.gpu_batch_size: 5}", 8),
        ("m.gpu_batch_size: 12.0,", "", 12),
        ("'gpu_batch_size': 4,", "", 4),
    ],
)
def test_a_value_that_follows_from_the_text_is_carried(write: Write, lines: str, before: str, expected: int) -> None:
    found = values(write(exports(lines, before)))
    assert found == {"Q1/resnet50.yaml": {"Offline": {"batch_size": expected}}}


@pytest.mark.parametrize(
    ("lines", "before", "reason"),
    [
        ("m.gpu_batch_size: size(),", "def size(): return 4", "without running it: size"),
        ("m.gpu_batch_size: N,", "if 1:\n    N = 4", "without running it: if 1:"),
        ("m.gpu_batch_size: 4 if True else 8,", "", "without running it: 4 if True else 8"),
        ("m.gpu_batch_size: 9 ** 9 ** 9,", "", "without running it"),
        ("m.gpu_batch_size: round(5, -10 ** 9),", "", "without running it"),
        ("m.gpu_batch_size: 1 << 10 ** 9,", "", "without running it"),
        ("m.gpu_batch_size: 1 / 0,", "", "without running it"),
        ("m.gpu_batch_size: unknown.thing,", "", "without running it: unknown.thing"),
        ("m.gpu_batch_size: [1, 2],", "", "is no single value"),
        ("m.gpu_batch_size: 'many',", "", "is 'many', must be a whole number"),
        ("m.gpu_batch_size: 1e400,", "", "must be a whole number"),
        ("m.gpu_batch_size: 2.5,", "", "is 2.5, must be a whole number"),
        ("m.gpu_batch_size: True,", "", "is true, must be a whole number"),
        ("l.test_mode: 'Offline',", "", carry.NO_SUCH_SETTING),
    ],
)
def test_a_value_that_does_not_is_listed_with_its_line(write: Write, lines: str, before: str, reason: str) -> None:
    folder = write(exports(lines, before))
    assert values(folder) == {}
    ((what, where), told), *_ = left(folder).items()
    assert what in ("gpu_batch_size", "test_mode")
    assert where == f"Q1/Offline/resnet50.py:{6 + before.count(chr(10))}"
    assert reason in told


@pytest.mark.parametrize("change", ["tune(base)", "base.pop(m.gpu_batch_size)", "for key in base: base[key] = 1"])
def test_a_table_that_something_may_have_changed_is_left_out(write: Write, change: str) -> None:
    folder = write(exports("m.gpu_batch_size: 4,") + change + "\n")
    assert values(folder) == {}
    assert "may change a table" in left(folder)["this line", "Q1/Offline/resnet50.py:9"]


def test_a_setting_that_stands_twice_is_told_unless_it_is_the_same(write: Write) -> None:
    text = (SAMPLES / "v5.0" / "configs" / "llama2-70b" / "Offline" / "__init__.py").read_text()
    write(text, "llama2-70b/Offline/__init__.py")
    folder = write(text, "llama2-70b/Offline/custom.py")
    assert not [why for why in left(folder).values() if "second time" in why]
    write(text.replace("qps = 3.5", "qps = 4.5"), "llama2-70b/Offline/custom.py")
    assert values(folder)["Q500x1/llama2-70b.yaml"]["Offline"]["offline_expected_qps"] == 3.5
    assert left(folder)["Q500x1 llama2-70b Offline", "llama2-70b/Offline/custom.py:14"] == carry.SECOND


# What is hostile or broken.


def test_nothing_is_run(write: Write, tmp_path: Path) -> None:
    mark = tmp_path / "pwned"
    run = f"__import__('os').system('touch {mark}')"
    folder = write(
        exports(
            f'm.gpu_batch_size: {run}, l.min_duration: f"{{{run}}}", **{run}, l.min_query_count: 4,',
            f'{run}\nimport os, engineroom\nos.system(\'touch {mark}\')\neval("{run}")\nexec("{run}")\n'
            f"class A(metaclass={run}):\n    {run}\n@({run})\ndef f(): pass\nx = [{run} for _ in '1']",
        )
    )
    imported(folder)
    write(exports("l.min_query_count: 4,", run), "Q2/Offline/resnet50.py")
    assert values(folder)["Q2/resnet50.yaml"] == {"Offline": {"min_query_count": 4}}
    assert not mark.exists()


def _twice(levels: int) -> str:
    return "a0 = (1, 1)\n" + "\n".join(f"a{n} = (a{n - 1}, a{n - 1})" for n in range(1, levels))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"EXPORTS = {\n", "is not Python"),
        (b"\x00\x01\x02", "is not Python"),
        (b"\xff\xfe\x00", "is not UTF-8"),
        (b"x = 1\n" * 200_000, "1,200,000 bytes"),
        (b"x = " + b"(" * 50_000, "is not Python"),
        (b"x = " + b"-" * 50_000 + b"1", "is n"),
        (b"x = " + b"1+" * 50_000 + b"1", "nested too deeply"),
        (b"x = a" + b".a" * 50_000, "nested too deeply"),
        (b"x = 9" + b"9" * 5_000, "is not Python"),
        (b"EXPORTS = 4", "cannot be worked out"),
        (b"EXPORTS = {1: 2}", "cannot be worked out"),
        (b"a = {}\n" + b"".join(b"a = {**a, %d: 1}\n" % n for n in range(10_000)), "copies more"),
        (exports("".join(f"'f{n}': 1," for n in range(2_000))).encode(), "sets more than 1,000 fields"),
        (b"", "registers and exports no settings"),
        (b"from . import *\nfrom .resnet50 import *\nimport resnet50", "registers and exports no settings"),
        (
            f"{_twice(60)}\nEXPORTS = {{a59: a59, C.WorkloadSetting(a59): {{a59: a59}}}}".encode(),
            "cannot be worked out",
        ),
    ],
)
def test_a_broken_or_hostile_file_is_listed_beside_a_good_one(write: Write, content: bytes, reason: str) -> None:
    folder = write(exports("m.gpu_batch_size: 4,"), "Q2/Offline/resnet50.py")
    write(content)
    begin = time.perf_counter()
    assert "Q2/resnet50.yaml" in values(folder)
    assert time.perf_counter() - begin < 5
    told = [why for (_, where), why in left(folder).items() if where.startswith("Q1/")]
    assert any(reason in why for why in told), told


@given(st.text(st.characters(codec="utf-8"), max_size=60), st.text(max_size=20))
def test_any_name_becomes_a_folder_name_that_leads_nowhere(name: str, benchmark: str) -> None:
    value = settings.Value(8, settings.Place(Path("/a/b.py"), 1))
    setting = settings.Setting(name, benchmark, "Offline", settings.Variant(), {"batch_size": value}, value.place)
    for config in carry.carry_over(settings.Found([setting]), Path("/a")).configs:
        assert len(config.path.parts) == 2
        assert not set(config.path.parts) & {"", ".", "..", "default"}
        assert config.path.parts[0].isascii()


def test_a_system_named_by_a_path_or_like_the_defaults_is_not_written(write: Write) -> None:
    text = (SAMPLES / "v5.0" / "configs" / "llama2-70b" / "Offline" / "__init__.py").read_text()
    folder = write(text.replace("KnownSystem.Q500x1", "KnownSystem.default"), "llama2-70b/Offline/__init__.py")
    write(exports("m.gpu_batch_size: 4,"), "default/Offline/resnet50.py")
    assert values(folder) == {}
    assert (
        left(folder)["default/resnet50", "default/Offline/resnet50.py:8"]
        == "cannot be the name of a file of settings here"
    )


def test_links_and_folders_that_cannot_be_read_neither_hang_nor_hide_the_rest(write: Write) -> None:
    folder = write(exports("m.gpu_batch_size: 4,"))
    (folder / "again").symlink_to(folder)
    (folder / "Q1" / "Offline" / "loop.py").symlink_to("loop.py")
    os.mkfifo(folder / "Q1" / "Offline" / "pipe.py")
    (folder / "Q1" / "Offline" / "notes.md").write_text("")
    (folder / "Q1" / "Offline" / "a\nb\x1b[2J.py").write_text("(")
    reasons = left(folder)
    assert values(folder) == {"Q1/resnet50.yaml": {"Offline": {"batch_size": 4}}}
    assert reasons["the folder", "again"] == "is a link, which is not followed"
    assert reasons["the file", "Q1/Offline/pipe.py"] == "is no regular file"
    assert reasons["the file", "Q1/Offline/loop.py"].startswith("cannot be read")
    assert reasons["the file", "Q1/Offline/notes.md"] == "is no Python file"
    assert all(where.isprintable() for _, where in reasons)


def test_an_import_leads_only_to_python_files_of_its_folder(write: Write) -> None:
    write("m_value = 3", "../outside.py")
    before = "from importlib import import_module\nN = import_module('configs./../outside').m_value"
    assert values(write(exports("m.gpu_batch_size: N,", before))) == {}
    before = "from configs.Q1.Offline.deep import *"
    write("from configs.Q1.Offline.deep import *", "Q1/Offline/deep.py")
    assert values(write(exports("m.gpu_batch_size: 2,", before)))["Q1/resnet50.yaml"]["Offline"]["batch_size"] == 2


# The command.


def test_a_file_that_is_there_is_kept_unless_forced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = [str(SAMPLES / "v5.0"), f"--output={tmp_path}"]
    path = tmp_path / "Q500x1" / "llama2-70b.yaml"
    path.parent.mkdir()
    path.write_text("mine\n")
    with pytest.raises(RequestError, match=r"1 file with other settings .* kept\n.*--force"):
        import_nvidia_config(argv)
    assert path.read_text() == "mine\n"
    assert import_nvidia_config([*argv, "--force", "--dry_run"]) == ExitCode.GOOD
    assert path.read_text() == "mine\n"
    assert import_nvidia_config([*argv, "--force"]) == ExitCode.GOOD
    assert "batch_size: 96" in path.read_text()
    assert import_nvidia_config(argv) == ExitCode.GOOD
    assert "1 file unchanged" in capsys.readouterr().out
    assert [each.name for each in tmp_path.rglob("*") if each.is_file()] == ["llama2-70b.yaml"]


def test_the_path_may_stand_anywhere_or_have_a_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = str(SAMPLES / "v5.0")
    for argv in (
        [source, "--dry_run", "--output", str(tmp_path)],
        ["--dry_run", source, f"--output={tmp_path}"],
        ["--output", str(tmp_path), f"--path={source}", "--dry_run"],
    ):
        assert import_nvidia_config(argv) == ExitCode.GOOD
        assert "1 file would be written" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_json_lists_each_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import_nvidia_config([str(SAMPLES), f"--output={tmp_path}", "--json"])
    told = json.loads(capsys.readouterr().out)
    assert told["files_read"] == 11
    assert len(told["written"]) == len(told["configs"]) == 13
    where = {each["what"]: each["where"] for each in told["not_carried"]}
    assert where["SOME_SWITCH"] == "v6.0/configs/Q700-SXM-99GBx2/Server/gpt-oss-120b.py:7"
    assert set(told["benchmarks_waiting"]).isdisjoint(registry.find("benchmarks"))


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], "no folder is named"),
        (["--path="], "no folder is named"),
        (["a", "b"], "given twice"),
        (["/no/such/folder"], "no such folder or file"),
        (["--pth=x"], "did you mean --path"),
        ([str(SAMPLES.parent / "spoofs")], "<benchmark>/<Scenario>/__init__.py"),
    ],
)
def test_what_cannot_be_served_is_refused_with_what_was_expected(argv: list[str], words: str) -> None:
    with pytest.raises(EngineroomError) as caught:
        import_nvidia_config(argv)
    assert words in str(caught.value)
    assert caught.value.code == ExitCode.REQUEST


def test_a_folder_with_nothing_to_carry_is_no_success(write: Write, tmp_path: Path) -> None:
    folder = write(exports("m.input_dtype: 'int8',"))
    with pytest.raises(RequestError, match="none of these settings"):
        import_nvidia_config([str(folder), f"--output={tmp_path / 'out'}"])
    write(b"(")
    with pytest.raises(RequestError, match=r"Q1/Offline/resnet50.py:1: the file is not Python"):
        import_nvidia_config([str(folder)])


@pytest.mark.skipif(not REAL, reason="NVIDIA_CONFIGS names no folder with the configs of real rounds")
def test_real_rounds_are_read_and_what_is_written_has_no_mistake(tmp_path: Path) -> None:
    found = imported(Path(str(REAL)))
    assert found.configs
    carry.write(found.configs, "", tmp_path, force=False, dry_run=False)
    mistakes: list[RequestError] = []
    for config in found.configs:
        assert layers.read(tmp_path / config.path, mistakes).keys() == config.sections.keys()
    assert mistakes == []
