"""The description of a system."""

from __future__ import annotations

from typing import Any

from faults import Faults

FAULTS = Faults()
add, bytes_of = FAULTS.add, FAULTS.bytes_of


for name in (
    "host_memory_capacity",
    "cooling",
    "hw_notes",
    "status",
    "accelerators_per_node",
    "framework",
    "system_type",
):
    add(f"system: without {name}", lambda sound, n=name: sound.json(sound.system, **{n: ...}), "system-field-missing")
for name in ("host_memory_capacity", "cooling", "framework", "operating_system", "system_name"):
    add(f"system: empty {name}", lambda sound, n=name: sound.json(sound.system, **{n: ""}), "system-field-empty")
SYSTEM: dict[str, tuple[str, Any, str]] = {
    "status": ("status", "sold out", "system-field-value"),
    "category": ("system_type", "desktop", "system-field-value"),
    "category in capitals": ("system_type", "Edge", "system-field-value"),
    "another category": ("system_type", "datacenter", "scenario-unknown"),
    "division": ("division", "open", "system-field-folder"),
    "submitter": ("submitter", "Emca", "system-field-folder"),
    "no nodes": ("number_of_nodes", "0", "system-field-value"),
    "no count": ("host_processors_per_node", "many", "system-field-value"),
    "N/A accelerators": ("accelerators_per_node", "N/A", "system-field-value"),
    "accelerators without a name": ("accelerators_per_node", "4", "system-accelerators"),
    "a name without accelerators": ("accelerator_model_name", "H200", "system-accelerators"),
    "a list": ("hw_notes", ["x"], "system-field-type"),
    "null": ("sw_notes", None, "system-field-type"),
    "no network, without its fields": ("is_network", "false", "network-division"),
    "a network": ("is_network", "true", "network-division"),
}
for name, (field, value, rule) in SYSTEM.items():
    add(f"system: {name}", lambda sound, f=field, v=value: sound.json(sound.system, **{f: v}), rule)
add("system: a number", lambda sound: sound.json(sound.system, number_of_nodes=1), "system-field-number", doubtful=True)
add(
    "system: an unknown field",
    lambda sound: sound.json(sound.system, colour="red"),
    "system-field-unknown",
    doubtful=True,
)
bytes_of("system: broken", lambda sound: sound.system, lambda data: data[:-3], "json-broken")
bytes_of(
    "system: a key twice",
    lambda sound: sound.system,
    lambda data: data.replace(b"{", b'{"status": "rdi",', 1),
    "json-repeated-key",
)
bytes_of("system: deep", lambda sound: sound.system, lambda data: b"[" * 100_000, "json-broken")
add("system: gone", lambda sound: sound.remove(sound.system), "system-missing")
add(
    "system: unused",
    lambda sound: sound.files.update({sound.system.replace("box", "spare"): sound.files[sound.system]}),
    "system-unused",
)
add(
    "system: another name", lambda sound: sound.move(sound.system, sound.system.replace("box", "Box")), "system-missing"
)
