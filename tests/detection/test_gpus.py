"""GPUs by NVML and without it: their facts, their slices, how they are joined, which are visible, what went wrong."""

from __future__ import annotations

import itertools
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engineroom import detection, telemetry
from engineroom.detection import Gpu, Machine, gpu
from engineroom.detection.gpu_visible import visible
from engineroom.detection.machine import Slice

Records = Callable[[str], Any]
NVML_ERRORS = sorted(
    value for name, value in vars(pynvml).items() if name.startswith("NVML_ERROR_") and isinstance(value, int)
)
NOT_SUPPORTED, NO_PERMISSION, LIBRARY_NOT_FOUND, GPU_IS_LOST, VERSION_MISMATCH = 3, 4, 12, 15, 18
FUNCTION_NOT_FOUND = 13


def _refusing(record: Any, refuse: Callable[[str], int | None]) -> Machine:
    double = record.nvml()
    double.refuse = refuse
    return detection.detect(record.root, environ={}, nvml=double)


def _slices(machine: Machine) -> list[tuple[str, str, int | None]]:
    return [(part.profile, part.uuid[:12], (part.memory_bytes or 0) >> 20) for part in machine.gpus[0].slices]


def test_eight_gpus(record: Records) -> None:
    machine = record("dgx_h200").detect()
    assert len(machine.gpus) == 8
    assert machine.gpus[4] == Gpu(
        name="NVIDIA H200",
        index=4,
        uuid="GPU-00000024-0000-4000-8000-000000000024",
        memory_bytes=143771 << 20,
        compute_capability="9.0",
        pci_bus_id="0000:9d:00.0",
        numa_node=1,
        ecc=True,
        power_limit_w=700.0,
        power_limit_default_w=700.0,
        power_limit_max_w=700.0,
        max_sm_mhz=1980,
        max_memory_mhz=3201,
        pcie="PCIe 5.0 x16",
        mig=False,
        mig_pending=False,
    )
    assert machine.gpu_driver and (machine.gpu_driver.version, machine.gpu_driver.cuda_version) == (
        "570.172.08",
        "12.8",
    )
    assert machine.gpu_problem is None


def test_network_cards_beside_the_gpus_do_not_change_their_matrix(record: Records) -> None:
    machine = record("dgx_h200").detect()
    assert "NIC9" in record("dgx_h200").sections["nvidia-smi topo -m"]
    assert machine.gpu_links == tuple(tuple("X" if a == b else "NV18" for b in range(8)) for a in range(8))


@pytest.mark.parametrize("word", ["NV4", "PIX", "PXB", "PHB", "NODE", "SYS"])
def test_two_gpus_are_joined_by_a_bridge_or_by_pcie(record: Records, word: str) -> None:
    double = record("dgx_h200").nvml()
    double.gpus = double.gpus[:2]
    double.words = [[" X ", word], [word, " X "]]
    assert detection.detect(record("dgx_h200").root, environ={}, nvml=double).gpu_links == (("X", word), (word, "X"))


def test_visible_gpus_keep_their_own_words(record: Records) -> None:
    double = record("dgx_h200").nvml()
    double.words = [
        [f"{'X' if a == b else ('PIX' if a // 2 == b // 2 else 'SYS')}" for b in range(8)] for a in range(8)
    ]
    machine = detection.detect(record("dgx_h200").root, environ={"CUDA_VISIBLE_DEVICES": "7,3,2"}, nvml=double)
    assert machine.gpu_links == (("X", "SYS", "SYS"), ("SYS", "X", "PIX"), ("SYS", "PIX", "X"))


def test_unlike_slices_keep_the_drivers_words(record: Records) -> None:
    machine = record("h200_mig").detect()
    assert (machine.gpus[0].mig, machine.gpu_links) == (True, (("X",),))
    assert _slices(machine) == [
        ("1c.3g.71gb", "MIG-00000050", 71168),
        ("2c.3g.71gb", "MIG-00000051", 71168),
        ("2g.35gb", "MIG-00000052", 33280),
        ("1g.18gb", "MIG-00000053", 16384),
        ("1g.18gb+me", "MIG-00000055", 16384),
    ]
    assert [(part.gpu_instance, part.compute_instance, part.multiprocessors) for part in machine.gpus[0].slices] == [
        (1, 0, 16),
        (1, 1, 32),
        (5, 0, 32),
        (9, 0, 16),
        (11, 0, 16),
    ]


@pytest.mark.parametrize("profile", ["1g.24gb+gfx", "1g.24gb+me.all", "1g.24gb-me", "5g.999gb+new"])
def test_no_profile_is_known_by_heart(record: Records, profile: str) -> None:
    double = record("h200_mig").nvml()
    double.names = [[(profile, uuid) for _, uuid in double.names[0]]]
    machine = detection.detect(record("h200_mig").root, environ={}, nvml=double)
    assert {part.profile for part in machine.gpus[0].slices} == {profile}


def test_where_a_slice_has_no_name_its_instance_tells_the_profile(record: Records) -> None:
    double = record("h200_mig").nvml()
    named = double.nvmlDeviceGetName
    double.nvmlDeviceGetName = lambda handle: named(handle).partition(" MIG")[0]
    double.nvmlDeviceGetGpuInstanceById = lambda parent, instance: instance
    double.nvmlGpuInstanceGetInfo = lambda instance: SimpleNamespace(profileId=instance)
    profiles = {1: b"MIG 3g.71gb", 5: b"MIG 2g.35gb", 9: b"MIG 1g.18gb", 11: b"MIG 1g.18gb+me"}
    double.nvmlDeviceGetGpuInstanceProfileInfoById = lambda parent, number: SimpleNamespace(name=profiles[number])
    attributes = double.nvmlDeviceGetAttributes

    def with_counts(handle: Any) -> Any:
        found = attributes(handle)
        instance = double.nvmlDeviceGetGpuInstanceId(handle)
        found.gpuInstanceSliceCount = {1: 3, 5: 2}.get(instance, 1)
        found.computeInstanceSliceCount = found.multiprocessorCount // 16
        return found

    double.nvmlDeviceGetAttributes = with_counts
    machine = detection.detect(record("h200_mig").root, environ={}, nvml=double)
    assert [profile for profile, *_ in _slices(machine)] == [
        "1c.3g.71gb",
        "2c.3g.71gb",
        "2g.35gb",
        "1g.18gb",
        "1g.18gb+me",
    ]


def test_a_gpu_that_cannot_be_split_says_nothing_of_mig(record: Records) -> None:
    l4 = record("l4_workstation").detect().gpus[0]
    assert (l4.name, l4.memory_bytes, l4.compute_capability) == ("NVIDIA L4", 23034 << 20, "8.9")
    assert (l4.mig, l4.mig_pending, l4.slices) == (None, None, ())
    assert (l4.power_limit_w, l4.pcie, l4.nvlink_c2c) == (72.0, "PCIe 4.0 x16", False)


def _clocks(record: Any, double: Any) -> Gpu:
    return detection.detect(record.root, environ={}, nvml=double).gpus[0]


def test_an_idle_gpu_is_not_held_back(record: Records) -> None:
    l4, h200 = record("l4_workstation").detect().gpus[0], record("h200_mig").detect().gpus[0]
    for idle in (l4, h200):
        assert (idle.limit_sm_mhz, idle.limit_memory_mhz, idle.held_sm_mhz, idle.slowed_by) == (None, None, None, ())
    assert (l4.persistence, h200.persistence) == (False, True)


@pytest.mark.parametrize(
    ("reasons", "slowed_by"),
    [
        (["sw_power_cap"], ("power limit",)),
        (["sw_thermal_slowdown"], ("heat",)),
        (["hw_slowdown", "hw_thermal_slowdown", "sw_thermal_slowdown"], ("heat",)),
        (["hw_slowdown", "hw_power_brake_slowdown"], ("power brake",)),
        (["hw_slowdown"], ("hardware",)),
        (["hw_slowdown", "sw_power_cap"], ("power limit", "hardware")),
        (["gpu_idle", "applications_clocks_setting", "sync_boost", "display_clocks_setting"], ()),
        ([], ()),
    ],
)
def test_what_slows_a_gpu_is_named(record: Records, reasons: list[str], slowed_by: tuple[str, ...]) -> None:
    double = record("l4_workstation").nvml()
    double.activate(*reasons)
    assert _clocks(record("l4_workstation"), double).slowed_by == slowed_by
    double.refuse = lambda asked: FUNCTION_NOT_FOUND if "ClocksEvent" in asked else None
    assert _clocks(record("l4_workstation"), double).slowed_by == slowed_by, "by the name of drivers before 535"


@pytest.mark.parametrize(
    ("chosen", "default", "limit"),
    [
        (1200, 2040, 1200),
        (2040, 2040, None),
        (885, 885, None),  # many a card's default is low, and it boosts all the same
        (1200, 885, 1200),
        (2040, 885, None),
    ],
)
def test_applications_clocks_hold_a_gpu_where_someone_set_them(
    record: Records, chosen: int, default: int, limit: int | None
) -> None:
    double = record("l4_workstation").nvml()
    double.change(double.gpus[0], "applications_clocks/graphics_clock", chosen)
    double.change(double.gpus[0], "default_applications_clocks/graphics_clock", default)
    double.change(double.gpus[0], "applications_clocks/mem_clock", 405)
    found = _clocks(record("l4_workstation"), double)
    assert (found.limit_sm_mhz, found.limit_memory_mhz, found.max_sm_mhz) == (limit, 405, 2040)


@pytest.mark.parametrize(
    ("reasons", "now", "held"),
    [
        (["applications_clocks_setting"], 900, 900),
        (["applications_clocks_setting"], 2040, None),
        (["applications_clocks_setting", "gpu_idle"], 210, None),
        ([], 900, None),
    ],
)
def test_a_lock_is_seen_while_it_keeps_the_clock_low(
    record: Records, reasons: list[str], now: int, held: int | None
) -> None:
    double = record("l4_workstation").nvml()
    double.activate(*reasons)
    double.change(double.gpus[0], "clocks/sm_clock", now)
    assert _clocks(record("l4_workstation"), double).held_sm_mhz == held
    double.change(double.gpus[0], "applications_clocks/graphics_clock", 900)
    found = _clocks(record("l4_workstation"), double)
    assert (found.limit_sm_mhz, found.held_sm_mhz) == (900, None), "which setting it is, is known"


def test_an_nvml_that_knows_nothing_of_clocks_leaves_them_unknown(record: Records) -> None:
    words = ("EventReasons", "ThrottleReasons", "ApplicationsClock", "ClockInfo", "PersistenceMode")
    found = _refusing(
        record("l4_workstation"), lambda asked: FUNCTION_NOT_FOUND if asked.endswith(words) else None
    ).gpus[0]
    assert (found.limit_sm_mhz, found.held_sm_mhz, found.slowed_by, found.persistence) == (None,) * 4
    assert (found.name, found.power_limit_w, found.pcie) == ("NVIDIA L4", 72.0, "PCIe 4.0 x16")


def test_memory_that_cpu_and_gpu_share(record: Records) -> None:
    hopper, spark = record("grace_hopper").detect().gpus[0], record("gb10").detect().gpus[0]
    assert (hopper.memory_bytes, hopper.shares_host_memory, hopper.nvlink_c2c) == (97871 << 20, False, True)
    assert (spark.memory_bytes, spark.shares_host_memory, spark.compute_capability) == (None, True, "12.1")


def test_a_node_with_cpus_is_never_one_of_gpu_memory(record: Records) -> None:
    double = record("dgx_h200").nvml()
    double.nodes = ["0"] * 8
    machine = detection.detect(record("dgx_h200").root, environ={}, nvml=double)
    assert {each.memory_numa_node for each in machine.gpus} == {None}
    assert machine.memory_total_bytes == 2113494016 << 10


def test_a_jetson_without_nvml_has_the_gpu_of_its_chip(record: Records) -> None:
    machine = record("jetson_agx_orin").detect()
    assert machine.gpus == (Gpu("NVIDIA Jetson AGX Orin Developer Kit integrated GPU", shares_host_memory=True),)
    assert machine.gpu_problem and "no NVML" in machine.gpu_problem


@pytest.mark.parametrize("name", ["dgx_h200", "h200_mig"])
def test_any_answer_may_be_missing(record: Records, name: str) -> None:
    root, double = record(name).root, record(name).nvml()
    whole = gpu.detect(root, {}, double)
    answers = set(double.calls) - {"nvmlInit", "nvmlShutdown", "nvmlDeviceGetCount", "nvmlDeviceGetHandleByIndex"}
    assert len(answers) > 15
    for function in answers:
        double.refuse = lambda asked, function=function: NO_PERMISSION if asked == function else None
        found = gpu.detect(root, {}, double)
        assert len(found.gpus) == len(whole.gpus)
        if function != "nvmlDeviceGetUUID":
            assert [each.uuid for each in found.gpus] == [each.uuid for each in whole.gpus]


@given(refusals=st.dictionaries(st.integers(0, 400), st.sampled_from([*NVML_ERRORS, 998]), max_size=60))
@pytest.mark.parametrize("name", ["h200_mig", "dgx_h200"])
def test_no_error_of_nvml_at_any_call_breaks_detection(record: Records, name: str, refusals: dict[int, int]) -> None:
    double = record(name).nvml()
    calls = itertools.count()
    double.refuse = lambda function: refusals.get(next(calls))
    # Its driver's files are enough: the record's other files are read in other tests.
    found = gpu.detect(record(name).root, {}, double)
    assert 1 <= len(found.gpus) <= 8
    assert all(each.name for each in found.gpus)
    assert all(len(row) == len(found.gpus) for row in found.links)


def test_a_lost_gpu_is_named_and_the_others_stay(record: Records) -> None:
    handles = iter(range(8))
    found = _refusing(
        record("dgx_h200"),
        lambda asked: GPU_IS_LOST if asked == "nvmlDeviceGetHandleByIndex" and next(handles) == 2 else None,
    )
    assert [each.name for each in found.gpus] == ["NVIDIA H200"] * 8
    assert [each.memory_bytes is None for each in found.gpus] == [index == 2 for index in range(8)]
    assert found.gpu_links[0][1:4] == ("NV18", "N/A", "NV18")
    assert found.gpu_problem and found.gpu_problem.startswith("GPU 2 does not answer (GPU is lost)")


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (VERSION_MISMATCH, r"driver was updated, but its old kernel module 570\.172\.08 is still loaded; reboot"),
        (NO_PERMISSION, r"may not use the devices /dev/nvidia\*; in a container, .*--gpus=all"),
        (LIBRARY_NOT_FOUND, r"libnvidia-ml\.so\.1 is not found; in a container, .*; elsewhere, install"),
        (999, r"NVML cannot be asked \(Unknown Error\); in a container, start it anew"),
    ],
)
def test_where_nvml_fails_the_drivers_files_name_the_gpus_and_the_remedy(record: Records, code: int, said: str) -> None:
    found = _refusing(record("dgx_h200"), lambda function: code if function == "nvmlInit" else None)
    assert [each.name for each in found.gpus] == ["NVIDIA H200"] * 8
    assert found.gpus[7] == Gpu(
        "NVIDIA H200", 7, "GPU-00000027-0000-4000-8000-000000000027", pci_bus_id="0000:df:00.0", numa_node=1
    )
    assert found.gpu_driver and found.gpu_driver.version == "570.172.08"
    assert _says(found, said)


def _says(machine: Machine, said: str) -> bool:
    """Say whether the problem is one line and says this."""
    return re.fullmatch(f".*{said}.*", machine.gpu_problem or "") is not None


def test_a_gpu_is_seen_without_any_library(record: Records) -> None:
    found = record("one_h200").detect()
    assert [each.name for each in found.gpus] == ["NVIDIA H200"]
    assert _says(found, "libnvidia-ml")


def test_without_nvmls_module_a_machine_with_a_driver_is_detected_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu.nvml, "is_driver_visible", lambda root: True)
    monkeypatch.setattr(gpu.gpu_files, "gpus", lambda root: (Gpu("NVIDIA L4"),))
    monkeypatch.setitem(sys.modules, "pynvml", None)
    found = gpu.detect(Path("/"), {})
    assert [each.name for each in found.gpus] == ["NVIDIA L4"]
    assert found.problem and "NVML cannot be asked (import of pynvml halted" in found.problem


@pytest.mark.parametrize(
    ("driver", "said"),
    [
        (None, r"on the PCI bus \(0000:01:00\.0\), but no NVIDIA driver is loaded; install"),
        ("nouveau", "its driver is nouveau, not NVIDIA's; install"),
        ("vfio-pci", r"GPU 0000:01:00\.0 is set aside for a virtual machine: its driver is vfio-pci"),
        ("nvidia", r"could not start the GPU 0000:01:00\.0; see `dmesg`"),
    ],
)
def test_a_card_that_nvidias_driver_does_not_drive_is_a_problem_and_no_gpu(
    tmp_path: Path, driver: str | None, said: str
) -> None:
    card = tmp_path / "sys/bus/pci/devices/0000:01:00.0"
    card.mkdir(parents=True)
    (card / "vendor").write_text("0x10de\n")
    (card / "class").write_text("0x030000\n")
    if driver:
        (card / "driver").symlink_to(f"../../../bus/pci/drivers/{driver}")
    found = detection.detect(tmp_path, environ={})
    assert found.gpus == ()
    assert _says(found, said)


def test_a_driver_in_windows_that_does_not_answer(record: Records, tmp_path: Path) -> None:
    library = tmp_path / "usr/lib/wsl/lib/libnvidia-ml.so.1"
    library.parent.mkdir(parents=True)
    library.write_text("")
    double = record("dgx_h200").nvml()
    double.refuse = lambda function: 17 if function == "nvmlInit" else None
    found = detection.detect(tmp_path, environ={}, nvml=double)
    assert _says(found, r"driver in Windows does not answer \(.*\); update it there, then run `wsl --shutdown`")


def test_the_sound_of_a_card_is_no_gpu(tmp_path: Path) -> None:
    sound = tmp_path / "sys/bus/pci/devices/0000:01:00.1"
    sound.mkdir(parents=True)
    (sound / "vendor").write_text("0x10de\n")
    (sound / "class").write_text("0x040300\n")
    assert detection.detect(tmp_path, environ={}).gpu_problem is None


def test_a_container_that_is_given_no_gpu(record: Records) -> None:
    double = record("dgx_h200").nvml()
    double.gpus = []
    found = detection.detect(record("dgx_h200").root, environ={}, nvml=double)
    assert _says(found, "shows none of the GPUs to this process; in a container")


def test_a_machine_without_gpus_has_no_problem(record: Records) -> None:
    found = record("firecracker_vm").detect(CUDA_VISIBLE_DEVICES="0")
    assert (found.gpus, found.gpu_links, found.gpu_driver, found.gpu_problem) == ((), (), None, None)


UUID = "GPU-0000002{}-0000-4000-8000-00000000002{}"


@pytest.mark.parametrize(
    ("wanted", "indexes"),
    [
        ("0", [0]),
        ("3, 1", [3, 1]),
        (UUID.format(5, 5), [5]),
        ("GPU-00000026", [6]),
        ("GPU-0000", []),  # fits several
        ("2,9,3", [2]),
        ("-1", []),
        ("0,-1,1", [0]),
        ("", []),
        ("NoDevFiles", []),
        ("1,1", [1]),
    ],
)
def test_cuda_visible_devices_is_honoured(record: Records, wanted: str, indexes: list[int]) -> None:
    found = record("dgx_h200").detect(CUDA_VISIBLE_DEVICES=wanted)
    assert [each.index for each in found.gpus] == indexes
    assert found.gpus_hidden == 8 - len(indexes)
    assert found.gpu_links == tuple(tuple("X" if a == b else "NV18" for b in indexes) for a in indexes)
    assert (found.gpu_problem is None) == bool(indexes)


def test_a_slice_can_be_the_only_visible_one(record: Records) -> None:
    for name in ("MIG-00000053-0000-4000-8000-000000000053", "MIG-GPU-00000040-0000-4000-8000-000000000040/9/0"):
        found = record("h200_mig").detect(CUDA_VISIBLE_DEVICES=name)
        assert [part.profile for part in found.gpus[0].slices] == ["1g.18gb"]
        assert found.gpus_hidden == 0


def test_two_slices_of_one_gpu_stay_one_gpu() -> None:
    parts = tuple(Slice("1g.18gb", f"MIG-{number}") for number in range(3))
    h200 = Gpu("NVIDIA H200", 0, "GPU-a", slices=parts)
    assert visible([h200], "MIG-2,MIG-0") == (replace(h200, slices=(parts[2], parts[0])),)


def test_every_question_is_one_that_nvidias_binding_knows() -> None:
    folders = (Path(package.__file__).parent for package in (detection, telemetry))
    sources = "".join(path.read_text() for folder in folders for path in folder.glob("*.py"))
    asked = set(re.findall(r'"(nvml[A-Z]\w+)"', sources))
    assert len(asked) > 30
    assert not {name for name in asked if not callable(getattr(pynvml, name, None))}
