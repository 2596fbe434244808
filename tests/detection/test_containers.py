"""Containers are known by their marks, and what they allow is all that is used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engineroom import detection
from engineroom.detection.machine import Container, Limits

Records = Callable[[str], Any]


def _written(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


@pytest.mark.parametrize(
    ("files", "environ", "kind"),
    [
        ({}, {}, None),
        ({".dockerenv": ""}, {}, "docker"),
        ({"run/.containerenv": 'engine="podman-5.4.0"'}, {}, "podman"),
        ({".lock": "", "etc/rc": "exec bash"}, {}, "enroot"),
        ({".lock": ""}, {}, None),
        ({".dockerenv": "", ".enroot/etc/config": ""}, {}, "enroot"),
        ({}, {"APPTAINER_CONTAINER": "/i.sif", "SINGULARITY_CONTAINER": "/i.sif"}, "apptainer"),
        ({}, {"SINGULARITY_CONTAINER": "/i.sif"}, "singularity"),
        ({".singularity.d/env/10-docker2singularity.sh": "", ".dockerenv": ""}, {}, "singularity"),
        ({".dockerenv": ""}, {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, "kubernetes"),
        ({"run/systemd/container": "systemd-nspawn\n"}, {}, "systemd-nspawn"),
        ({}, {"container": "lxc"}, "lxc"),
        ({}, {"container": "1; rm -rf /"}, None),
        ({"proc/self/cgroup": "12:cpu:/docker/3a5f\n"}, {}, "docker"),
        ({"proc/self/cgroup": "0::/kubepods.slice/kubepods-pod1.slice\n"}, {}, "kubernetes"),
        ({"proc/self/cgroup": "0::/machine.slice/libpod-3a5f.scope/container\n"}, {}, "podman"),
        ({"proc/self/cgroup": "0::/user.slice/user-1000.slice\n"}, {}, None),
        ({"opt/nvidia/nvidia_entrypoint.sh": ""}, {"NVIDIA_PRODUCT_NAME": "PyTorch"}, "container"),
        ({}, {"NVIDIA_PRODUCT_NAME": "PyTorch"}, None),
    ],
)
def test_kinds(tmp_path: Path, files: dict[str, str], environ: dict[str, str], kind: str | None) -> None:
    found = detection.detect(_written(tmp_path, files), environ=environ).container
    assert (found and found.kind) == kind


# Product names and versions as images of NVIDIA's registry set them: PyTorch 26.08, Triton Server 25.02, CUDA 12.8.1.
@pytest.mark.parametrize(
    ("environ", "ngc"),
    [
        ({"NVIDIA_PRODUCT_NAME": "PyTorch", "NVIDIA_PYTORCH_VERSION": "26.08"}, "PyTorch 26.08"),
        (
            {
                "NVIDIA_PRODUCT_NAME": "Triton Server",
                "NVIDIA_TRITON_SERVER_VERSION": "25.02",
                "TRITON_SERVER_VERSION": "2.55.0",
            },
            "Triton Server 25.02",
        ),
        ({"NVIDIA_PRODUCT_NAME": "CUDA", "CUDA_VERSION": "12.8.1"}, "CUDA 12.8.1"),
        ({"NVIDIA_PRODUCT_NAME": "TensorRT"}, "TensorRT"),
        ({"NVIDIA_PYTORCH_VERSION": "26.08"}, None),
    ],
)
def test_ngc_images_tell_product_and_version(record: Records, environ: dict[str, str], ngc: str | None) -> None:
    assert record("container_2_cpus").detect(**environ).container == Container("docker", ngc)


def test_the_smallest_limit_on_the_way_up_counts(record: Records) -> None:
    found = record("pod_1_core").detect()
    assert found.limits == Limits(1.0, 2 << 30)
    assert (found.cpu.usable, found.cpu.usable_cores) == ((4, 5, 6, 7), 1)


@pytest.mark.parametrize(
    ("name", "limits"),
    [
        ("container_2_cpus", Limits(2.0, 2 << 30)),
        ("container_cgroup_v1", Limits(1.5, 4 << 30)),
        ("no_limit", Limits(None, None)),
        ("firecracker_vm", Limits(None, None)),
    ],
)
def test_limits(record: Records, name: str, limits: Limits) -> None:
    assert record(name).detect().limits == limits


V1 = "31 1 0:1 {top} /sys/fs/cgroup/{name} rw - cgroup cgroup rw,{name}"


@pytest.mark.parametrize(
    ("files", "limits"),
    [
        # memory.high slows a process down before memory.max kills it
        ({"sys/fs/cgroup/memory.max": "4096", "sys/fs/cgroup/memory.high": "2048"}, Limits(None, 2048)),
        ({"sys/fs/cgroup/cpu.max": "50000 100000"}, Limits(0.5, None)),
        ({"sys/fs/cgroup/cpu.max": "max 100000", "sys/fs/cgroup/memory.max": "max"}, Limits(None, None)),
        # v1 says 2^63 in whole pages where there is no limit, and tells in memory.stat what a container cannot see
        ({"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712"}, Limits(None, None)),
        ({"sys/fs/cgroup/memory/memory.stat": "cache 1\nhierarchical_memory_limit 4096\n"}, Limits(None, 4096)),
        ({"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"}, Limits()),
        # v1 without a namespace: the mount shows the container's group as its top
        (
            {
                "proc/self/cgroup": "4:memory:/docker/a/b\n3:cpu:/docker/a\n",
                "proc/self/mountinfo": V1.format(top="/docker/a", name="memory")
                + "\n"
                + V1.format(top="/docker/a", name="cpu"),
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "8192",
                "sys/fs/cgroup/memory/b/memory.limit_in_bytes": "4096",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "300000",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
            },
            Limits(3.0, 4096),
        ),
        # a group outside of what is mounted, and one that climbs out of it
        (
            {"proc/self/cgroup": "0::/elsewhere", "sys/fs/cgroup/memory.max": "4096"},
            Limits(None, 4096),
        ),
        ({"proc/self/cgroup": "0::/../../etc", "sys/fs/cgroup/memory.max": "4096"}, Limits(None, 4096)),
    ],
)
def test_control_groups_of_both_versions(tmp_path: Path, files: dict[str, str], limits: Limits) -> None:
    assert detection.detect(_written(tmp_path, files), environ={}).limits == limits


def test_two_threads_of_one_core_are_one_core_and_what_is_offline_is_none(record: Records, tmp_path: Path) -> None:
    from engineroom.detection import cpu

    source = record("h200_mig").root
    for name in ("sys", "proc/cpuinfo"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).symlink_to(source / name)
    _written(tmp_path, {"proc/self/status": "Cpus_allowed_list:\t0,8,1-2,99\n"})
    found = cpu.detect(tmp_path)
    assert (found.usable, found.usable_cores, found.cores) == ((0, 1, 2, 8), 3, 8)


def test_wsl2_is_known_by_its_kernel(tmp_path: Path) -> None:
    root = _written(tmp_path, {"proc/sys/kernel/osrelease": "6.6.87.2-microsoft-standard-WSL2\n"})
    found = detection.detect(root, environ={})
    assert (found.virtualization, found.kernel) == ("wsl2", "6.6.87.2-microsoft-standard-WSL2")
