"""MLPerf's system description: what is detected, what a person says, and nothing that nobody knows."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from engineroom.detection import Machine
from engineroom.detection.machine import Cache, Container, Cpu, Disk, Gpu, GpuDriver, Nic, Slice
from engineroom.steps.description import Known, describe, for_a_person, required_unknown, to_json
from engineroom.systems import Asserted, System, description_fields

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


@pytest.fixture(scope="module")
def server() -> Machine:
    """Return a server of eight H200 that all reach each other by 18 NVLinks."""
    caches = (Cache(1, "data", 48 * KIB, 112), Cache(1, "instruction", 32 * KIB, 112))
    return Machine(
        Cpu(
            "Intel(R) Xeon(R) Platinum 8480C",
            sockets=2,
            cores=112,
            threads=224,
            caches=(*caches, Cache(2, "unified", 2 * MIB, 112), Cache(3, "unified", 105 * MIB, 2)),
            max_mhz=3800.0,
        ),
        512 * GIB,
        2015 * GIB,
        gpus=tuple(
            Gpu("NVIDIA H200", number, memory_bytes=143771 * MIB, pcie="PCIe 5.0 x16", max_sm_mhz=1980)
            for number in range(8)
        ),
        gpu_links=tuple(tuple("X" if a == b else "NV18" for b in range(8)) for a in range(8)),
        gpu_driver=GpuDriver("580.95.05", "13.0"),
        container=Container("docker", "TensorRT 25.09"),
        nics=(
            *(Nic(f"ib{number}", speed_mbit=400_000, kind="InfiniBand") for number in range(8)),
            Nic("eno1", speed_mbit=2500, kind="Ethernet"),
            Nic("eno2", kind="Ethernet"),
        ),
        disks=(Disk("nvme0n1", 960_197_124_096, "NVMe SSD"), Disk("sda", 3_840_755_982_336, "SSD")),
        product="Example Corp. Rack 8",
        operating_system="Ubuntu 24.04.3 LTS",
        kernel="6.8.0-90-generic",
    )


@pytest.fixture(scope="module")
def mine() -> System:
    """Return what a person says of that server."""
    said = {"submitter": "Example", "host_memory_capacity": "2 TB", "cooling": "liquid"}
    return System("H200x8", Path("x"), {}, {name: Asserted(text, "x.yaml:7") for name, text in said.items()})


def _texts(machine: Machine, system: System | None = None, engine: str | None = None) -> dict[str, str]:
    return {name: value.text for name, value in describe(machine, system, engine=engine).items() if value.text}


def test_a_server_of_eight_gpus(server: Machine) -> None:
    found = _texts(server)
    stack = found.pop("other_software_stack").split(", ")
    assert found == {
        "system_name": "Example Corp. Rack 8",
        "number_of_nodes": "1",
        "host_processors_per_node": "2",
        "host_processor_model_name": "Intel(R) Xeon(R) Platinum 8480C",
        "host_processor_core_count": "56",
        "host_processor_frequency": "3800 MHz",
        "host_processor_caches": "112x 48 KiB L1d, 112x 32 KiB L1i, 112x 2 MiB L2, 2x 105 MiB L3",
        "host_memory_capacity": "2015 GiB",
        "host_storage_capacity": "1x 960 GB + 1x 3.84 TB",
        "host_storage_type": "NVMe SSD, SSD",
        "host_networking": "InfiniBand, Ethernet",
        "host_network_card_count": "8 ports at 400 Gbit/s + 1 port at 2.5 Gbit/s + 1 port of unknown speed",
        "accelerators_per_node": "8",
        "accelerator_model_name": "NVIDIA H200",
        "accelerator_frequency": "1980 MHz",
        "accelerator_host_interconnect": "PCIe 5.0 x16",
        "accelerator_interconnect": "18x NVLink",
        "accelerator_interconnect_topology": "every pair NV18",
        "accelerator_memory_capacity": "140 GiB",
        "operating_system": "Ubuntu 24.04.3 LTS",
    }
    assert {"NVIDIA driver 580.95.05", "CUDA 13.0 (the driver's)", "Linux 6.8.0-90-generic"} < set(stack)
    assert "docker container TensorRT 25.09" in stack


def test_a_machine_without_accelerators_says_so_and_counts_zero(machine: Machine) -> None:
    found = describe(machine)
    accelerators = {name: value.text for name, value in found.items() if name.startswith("accelerator")}
    assert accelerators.pop("accelerators_per_node") == "0"
    assert set(accelerators.values()) == {"N/A"}
    assert all(value.known is Known.DETECTED for name, value in found.items() if name in accelerators)


def test_mig_slices_stand_in_the_name_of_the_accelerator(server: Machine) -> None:
    profiles = ("2g.35gb", "1g.18gb", "1g.18gb")
    cut = replace(server.gpus[0], mig=True, slices=tuple(Slice(name, "MIG-1", GIB, 1, 0) for name in profiles))
    found = _texts(replace(server, gpus=(cut,), gpu_links=(("X",),)))
    assert found["accelerator_model_name"] == "NVIDIA H200 (2x1g.18gb + 1x2g.35gb MIG)"
    assert found["accelerators_per_node"] == "1"
    assert found["accelerator_memory_capacity"] == "140 GiB"
    assert found["accelerator_interconnect"] == "N/A"


def test_what_of_mixed_gpus_is_known_of_each(server: Machine) -> None:
    mixed = replace(server, gpus=(server.gpus[0], Gpu("NVIDIA L4", memory_bytes=23034 * MIB)), gpu_links=())
    found = _texts(mixed)
    assert found["accelerator_model_name"] == "1x NVIDIA H200 + 1x NVIDIA L4"
    assert found["accelerator_memory_capacity"] == "1x 140 GiB + 1x 22.5 GiB"
    assert not {"accelerator_frequency", "accelerator_host_interconnect", "accelerator_interconnect"} & found.keys()


def test_a_gpu_without_memory_of_its_own_shares_the_hosts(machine: Machine) -> None:
    found = _texts(replace(machine, gpus=(Gpu("Orin (nvgpu)", shares_host_memory=True, pcie="PCIe 1.0 x1"),)))
    assert found["accelerator_memory_capacity"] == "shared with the host"
    assert "accelerator_host_interconnect" not in found


def test_the_link_of_a_superchip_is_not_pcie(machine: Machine) -> None:
    found = _texts(replace(machine, gpus=(Gpu("NVIDIA GH200 480GB", nvlink_c2c=True, pcie="PCIe 4.0 x16"),)))
    assert found["accelerator_host_interconnect"] == "NVLink-C2C"


@pytest.mark.parametrize(
    ("links", "between", "topology"),
    [
        ((("X", "PIX"), ("PIX", "X")), "PCIe", "every pair PIX"),
        ((("X", "NV4", "SYS"), ("NV4", "X", "SYS"), ("SYS", "SYS", "X")), "4x NVLink, PCIe", "NV4, SYS"),
        ((("X", "NV4", "N/A"), ("NV4", "X", "N/A"), ("N/A", "N/A", "X")), "", ""),  # one GPU does not answer
    ],
)
def test_links_between_gpus(server: Machine, links: tuple[tuple[str, ...], ...], between: str, topology: str) -> None:
    found = _texts(replace(server, gpus=server.gpus[: len(links)], gpu_links=links))
    names = "accelerator_interconnect", "accelerator_interconnect_topology"
    assert tuple(found.get(name, "") for name in names) == (between, topology)


def test_what_a_person_says_goes_first_and_what_was_found_is_still_told(server: Machine, mine: System) -> None:
    found = describe(server, mine)
    assert (found["cooling"].text, found["cooling"].known, found["cooling"].source) == (
        "liquid",
        Known.ASSERTED,
        "x.yaml:7",
    )
    memory = found["host_memory_capacity"]
    assert (memory.text, memory.known, memory.source) == ("2 TB", Known.ASSERTED, "x.yaml:7; detected: 2015 GiB")


def test_nothing_is_made_up(machine: Machine) -> None:
    found = describe(machine)
    unknown = {name for name, value in found.items() if value.known is Known.UNKNOWN}
    assert all(found[name].text == "" for name in unknown)
    # What the field's other tools invent: "air", "Gig Ethernet", "available", "undefined".
    assert {"cooling", "host_networking", "status", "host_memory_configuration", "system_type"} <= unknown


def test_what_a_submission_lacks_is_named(server: Machine, mine: System) -> None:
    assert required_unknown(describe(server, mine, engine="openvino")) == [
        "division",
        "system_type",
        "status",
        "host_memory_configuration",
        "host_networking_topology",
        "accelerator_memory_configuration",
    ]
    bare = Machine(Cpu("", cores=7, sockets=2), 0)
    assert {"host_processor_core_count", "host_memory_capacity", "framework"} < set(required_unknown(describe(bare)))


def test_a_person_is_asked_for_notes_but_not_for_the_framework(server: Machine, mine: System) -> None:
    asked = for_a_person(describe(server, mine))
    assert "hw_notes" in asked
    assert "framework" not in asked
    assert "cooling" not in asked


def test_the_framework_is_the_engines(server: Machine) -> None:
    from importlib.metadata import version

    assert _texts(server, engine="openvino")["framework"] == f"OpenVINO {version('openvino')}"
    assert "framework" not in _texts(server, engine="null")


def test_the_json_has_every_field_as_a_text(server: Machine, mine: System) -> None:
    for described, count in ((describe(server, mine), "8"), (describe(Machine(Cpu(""), 0)), "0")):
        made = json.loads(to_json(described))
        assert tuple(made) == description_fields()
        assert all(isinstance(text, str) for text in made.values())
        assert made["accelerators_per_node"] == count
