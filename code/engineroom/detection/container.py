"""Finds what container this process runs in, by the marks that each kind leaves, and which NGC image it is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from engineroom.detection.files import exists, text
from engineroom.detection.machine import Container


def detect(root: Path, environ: Mapping[str, str]) -> Container | None:
    """Return the container, or None on the machine itself."""
    ngc = _ngc(environ)
    kind = _kind(root, environ) or ("container" if ngc and exists(root / "opt/nvidia/nvidia_entrypoint.sh") else None)
    return Container(kind, ngc) if kind else None


def _kind(root: Path, environ: Mapping[str, str]) -> str | None:
    """Return the innermost kind that is known: an image of Docker's keeps its marks when others run it."""
    if "APPTAINER_CONTAINER" in environ:
        return "apptainer"
    if "SINGULARITY_CONTAINER" in environ or exists(root / ".singularity.d"):
        return "singularity"
    # The lock by which `enroot list` finds its containers beside the script that every image has; or a bundle's folder.
    if (exists(root / ".lock") and exists(root / "etc/rc")) or exists(root / ".enroot"):
        return "enroot"
    if "KUBERNETES_SERVICE_HOST" in environ or exists(root / "var/run/secrets/kubernetes.io"):
        return "kubernetes"
    if exists(root / "run/.containerenv"):
        return "podman"
    if exists(root / ".dockerenv"):
        return "docker"
    return _told_by_systemd(root, environ) or _told_by_group(text(root / "proc/self/cgroup"))


def _told_by_systemd(root: Path, environ: Mapping[str, str]) -> str | None:
    """Return the kind by systemd's container interface: "systemd-nspawn", "lxc", "oci"."""
    named = text(root / "run/systemd/container") or environ.get("container", "")
    return named if re.fullmatch(r"[a-z][a-z0-9-]{1,30}", named) else None


def _told_by_group(cgroup: str) -> str | None:
    """Return the kind by the path of the control group, which a container without a cgroup namespace sees."""
    marks = {"kubepods": "kubernetes", "docker": "docker", "libpod": "podman", "lxc": "lxc"}
    found = re.search(rf"[:/]({'|'.join(marks)})\b", cgroup)
    return marks[found[1]] if found else None


def _ngc(environ: Mapping[str, str]) -> str | None:
    """Return an NGC image's product and version, from NVIDIA_PRODUCT_NAME and NVIDIA_<PRODUCT>_VERSION."""
    product = environ.get("NVIDIA_PRODUCT_NAME", "").strip()
    word = re.sub(r"[^A-Z0-9]+", "_", product.upper())
    version = environ.get(f"NVIDIA_{word}_VERSION") or environ.get(f"{word}_VERSION") or ""
    return f"{product} {version}".strip() if product else None
