"""What a system is, and how a machine is recognised as one. `files` reads systems/, `identity` finds the id."""

from engineroom.systems.draft import Added, add
from engineroom.systems.files import Asserted, System, description_fields, read_all, schema
from engineroom.systems.identity import derived_id, detect, known, named, recognise

__all__ = [
    "Added",
    "Asserted",
    "System",
    "add",
    "derived_id",
    "description_fields",
    "detect",
    "known",
    "named",
    "read_all",
    "recognise",
    "schema",
]
