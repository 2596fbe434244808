"""The steps of a run. A step imports plug-ins and what lies below them, never another step."""
