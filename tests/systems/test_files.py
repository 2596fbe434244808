"""Files of systems are read with all their mistakes at once; overlays add and replace; the schema says the same."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engineroom.errors import Mistakes
from engineroom.paths import OVERLAYS, ROOT, SYSTEMS
from engineroom.systems import description_fields, read_all, schema
from engineroom.systems.conditions import Match, Range
from engineroom.systems.files import SystemFile
from engineroom.yaml_file import load

# "SYSTEM_DESC_REQUIRED_FIELDS" of mlcommons/inference, v6.1.
MLPERF_FIELDS = {
    *("division", "submitter", "status", "system_name", "number_of_nodes", "host_processor_model_name"),
    *("host_processors_per_node", "host_processor_core_count", "host_memory_capacity"),
    *("host_storage_capacity", "host_storage_type", "accelerators_per_node", "accelerator_model_name"),
    *("accelerator_memory_capacity", "framework", "operating_system", "system_type", "other_software_stack"),
    *("host_processor_frequency", "host_processor_caches", "host_memory_configuration"),
    *("host_processor_interconnect", "host_networking", "host_networking_topology", "accelerator_frequency"),
    *("accelerator_host_interconnect", "accelerator_interconnect", "accelerator_interconnect_topology"),
    *("accelerator_memory_configuration", "accelerator_on-chip_memories", "cooling", "hw_notes", "sw_notes"),
    *("host_network_card_count", "system_type_detail"),
}


def test_the_fields_of_the_description_are_mlperfs() -> None:
    assert len(description_fields()) == len(MLPERF_FIELDS)
    assert set(description_fields()) == MLPERF_FIELDS


def test_a_file_is_read_with_the_lines_of_what_is_asserted(write: Any) -> None:
    text = 'match:\n  gpu: "NVIDIA H200"\n  gpu_count: 8\n\ndescription:\n  cooling: liquid\n  number_of_nodes: 1\n'
    folder = write(a=text, empty="", blank="match:\ndescription:\n")
    systems = read_all(folder)
    assert systems["a"].conditions == {"gpu": "NVIDIA H200", "gpu_count": Range(8, 8)}
    asserted = {name: (value.text, value.where) for name, value in systems["a"].description.items()}
    path = folder / "a.yaml"
    assert asserted == {"cooling": ("liquid", f"{path}:6"), "number_of_nodes": ("1", f"{path}:7")}
    assert not systems["empty"].conditions
    assert not systems["blank"].description


def test_a_note_of_several_lines_becomes_one(write: Any) -> None:
    systems = read_all(write(a="description:\n  hw_notes: |\n    two\n    lines\n"))
    assert systems["a"].description["hw_notes"].text == "two lines"


def test_all_mistakes_of_all_files_are_told_at_once(write: Any) -> None:
    folder = write(
        a='match:\n  gpu_cuont: 1\n  cores: "2"\n  gpu: 0\ndescription:\n  coolng: air\n  status: Available\n',
        b="match: 3\nmatched: 4\n",
        c="match: [",
        d="match:\n  cores: 2\n  cores: 4\ndescription:\n  number_of_nodes: one\n  hw_notes: 4\n  cooling:\n",
        default="",
    )
    folder.joinpath("e.yaml").mkdir()
    folder.joinpath("a b.yaml").touch()
    folder.joinpath("f.yaml").write_bytes(b"\xff")
    folder.joinpath("g.yaml").symlink_to("g.yaml")
    folder.joinpath(".#a.yaml").write_text("an editor's lock file: [")
    with pytest.raises(Mistakes) as caught:
        read_all(folder)
    said = [str(mistake).replace(f"{folder}/", "") for mistake in caught.value.mistakes]
    for part in (
        "a.yaml:2: match.gpu_cuont: unknown field\n  did you mean gpu_count?",
        "a.yaml:3: match.cores is '2', must be a whole number",
        "a.yaml:4: match.gpu is 0, must be a text",
        "a.yaml:6: description.coolng: unknown field\n  did you mean cooling?",
        "a.yaml:7: description.status is 'Available'; did you mean available?",
        "b.yaml:1: match must hold `name: value` lines",
        "b.yaml:2: unknown section matched\n  did you mean match?",
        "c.yaml:1: is not YAML",
        "d.yaml:3: cores stands here a second time",
        "d.yaml:5: description.number_of_nodes is 'one', must be a whole number",
        "d.yaml:6: description.hw_notes is 4, must be a text; put it in quotes",
        "d.yaml:7: description.cooling is empty, must be a text",
        "default.yaml: the name of a system cannot be default: configs/default/ is for every system",
        "a b.yaml: the name of a system is 'a b', must be letters, digits",
        "e.yaml: is a folder",
        "f.yaml:1: is not UTF-8 text",
        "g.yaml: cannot be read: ",
    ):
        assert sum(mistake.startswith(part) for mistake in said) == 1, part
    assert len(said) == 17


def test_an_overlay_adds_systems_and_replaces_whole_files(write: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    systems = write(a="match: {sockets: 1}\ndescription: {cooling: air}", b="match: {sockets: 2}")
    weak = write("weak/systems", a="match: {sockets: 3}", c="match: {sockets: 4}")
    strong = write("strong/systems", a="match: {sockets: 5}")
    monkeypatch.setenv(OVERLAYS, f"{strong.parent}:{weak.parent}")
    found = read_all(systems)
    assert {name: system.conditions["sockets"] for name, system in found.items()} == {
        "a": Range(5, 5),
        "b": Range(2, 2),
        "c": Range(4, 4),
    }
    assert (found["a"].path, found["a"].replaces) == (strong / "a.yaml", weak / "a.yaml")
    assert not found["a"].description
    assert found["b"].replaces is None


def test_the_schema_is_json_and_takes_what_is_shipped() -> None:
    made = json.loads(json.dumps(schema()))
    assert made["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    match = made["$defs"]["Match"]
    assert match["additionalProperties"] is False
    assert set(match["properties"]) == set(Match.__struct_fields__)
    assert all("description" in field for field in match["properties"].values())
    assert "accelerator_on-chip_memories" in made["$defs"]["Description"]["properties"]
    for path in SYSTEMS.glob("*.yaml"):
        msgspec.convert(load(path), SystemFile)


def test_what_is_shipped_can_be_read_quickly() -> None:
    read_all()
    begin = time.perf_counter()
    systems = read_all()
    assert time.perf_counter() - begin < 0.05
    assert all(system.conditions for system in systems.values())


def test_the_readme_explains_every_condition() -> None:
    text = (ROOT / "systems" / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE) == list(Match.__struct_fields__)


def test_the_example_of_the_readme_is_a_system(write: Any) -> None:
    text = (ROOT / "systems" / "README.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert len(read_all(write(a=example))["a"].conditions) == 4


LINE = st.from_regex(
    r"(match|description|  (gpu|gpu_count|memory|mig|cores|cooling|status|number_of_nodes|x)): ?"
    r"""(|[0-9]{1,3}|"[^\x00]{0,4}"|\[|\{a: b\}|&a b|\*a|!!int 3|>= 3|1 GiB\.\.|no|~|\.nan|\ttab|'|available)""",
    fullmatch=True,
)


@given(st.lists(LINE, max_size=6).map("\n".join).map(str.encode) | st.binary(max_size=60))
def test_no_content_ends_in_a_traceback(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    folder: Path = tmp_path_factory.mktemp("systems")
    (folder / "a.yaml").write_bytes(content)
    try:
        read_all(folder)
    except Mistakes as error:
        assert all(str(mistake).startswith(f"{folder}/a.yaml") for mistake in error.mistakes)
