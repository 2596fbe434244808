"""Says what this machine is: adds it to systems/, describes it in MLPerf's words."""

from __future__ import annotations

import json
from collections.abc import Sequence

from engineroom import registry, run_args, systems, terminal
from engineroom.detection import Machine
from engineroom.errors import EngineError, ExitCode, RequestError
from engineroom.paths import display, typed, write_text
from engineroom.steps import description


def add_system(argv: Sequence[str]) -> int:
    """Write a short systems/<id>.yaml by which this machine is recognised from now on, and nothing else."""
    flags = {
        "id=NAME": "the system's id; default: made from the GPUs or the processor",
        "force": "even if the machine is recognised already, or the file is there: only its conditions change",
        "json": "print JSON instead of a sentence",
    }
    asked = run_args.options(argv, flags)
    machine = systems.detect()
    blanks = description.for_a_person(description.describe(machine))
    added = systems.add(machine, asked.get("id"), blanks=blanks, force="force" in asked)
    found = systems.detect().system
    if found != added.id:
        raise EngineError(f"this machine is recognised as {found}, not as {added.id}", where=display(added.path))
    if "json" in asked:
        print(json.dumps({"system": added.id, "path": display(added.path), "changed": added.changed}))
        return ExitCode.GOOD
    print(f"{'changed' if added.changed else 'wrote'} {display(added.path)}: this machine is now {added.id}")
    print(f"  fill in what only a person knows there; settings go to configs/{added.id}/")
    return ExitCode.GOOD


def describe_system(argv: Sequence[str]) -> int:
    """Show MLPerf's system description of this machine, and how each field is known."""
    flags = {
        "engine=NAME": "the engine that infers, for `framework`; default: tensorrt with a GPU, else openvino",
        "system=ID": "the system whose file says what only a person knows; default: the one that is recognised",
        "output=PATH": "write the JSON that a submission holds",
        "json": "print that JSON instead of a table",
    }
    asked = run_args.options(argv, flags)
    machine = systems.detect()
    if (wanted := asked.get("system")) is not None:
        machine = systems.named(machine, wanted)
    system = systems.read_all().get(machine.system)
    described = description.describe(machine, system, engine=asked.get("engine", _default_engine(machine)))
    if (output := asked.get("output")) is not None:
        _write(output, description.to_json(described))
    if "json" in asked:
        print(description.to_json(described), end="")
    elif output is None:
        _show(machine, system, described)
    return ExitCode.GOOD


def _default_engine(machine: Machine) -> str | None:
    """Return what --engine=auto means on this machine, or None if there is no such engine here."""
    engine = "tensorrt" if machine.gpus else "openvino"
    return engine if engine in registry.find("engines") else None


def _write(output: str, text: str) -> None:
    path = typed(output)
    if not path.name or path.is_dir():
        raise RequestError("is no name for a file", where=f"{run_args.WHERE}: --output={output}")
    write_text(path, text)
    terminal.say(f"wrote {output}")


def _show(machine: Machine, system: systems.System | None, described: description.Description) -> None:
    file = "no file in systems/" if system is None else display(system.path)
    if system and system.replaces:
        file += f", which replaces {display(system.replaces)}"
    rows = [(name, value.text, f"{value.known}: {value.source}") for name, value in described.items()]
    terminal.table(f"{machine.system} ({file})", ("field", "value", "how known"), rows, whole=("field",))
    if missing := description.required_unknown(described):
        where = f"systems/{machine.system}.yaml" if system is None else display(system.path)
        terminal.note(f"\nA submission needs these, too; say them in {where}, `description:`\n  {', '.join(missing)}")
