"""By what a rehearsal is known, so that nothing takes it for a submission; and what it may fall short of."""

from __future__ import annotations

from pathlib import Path

from engineroom.steps.submission.entry import REHEARSAL
from engineroom.steps.submission.layout import Tree
from engineroom.steps.submission.validate import rulebook

MARK = Path(f"{REHEARSAL.upper()}.md")
FIELD = f'"{REHEARSAL}"'  # of measurements.json

# The rules of the validator that a rehearsal may break. Everything else holds for it as for a submission.
MAY_BREAK = {
    rule.id
    for rule in (
        rulebook.REHEARSED,
        # Tests are short, on few samples, and may be those of another round.
        *(rulebook.MIN_DURATION, rulebook.LASTED, rulebook.QUERY_COUNT, rulebook.VALID, rulebook.METRIC),
        *(rulebook.SAMPLE_COUNT, rulebook.DATA_SET, rulebook.SEEDS),
        # The machine may be too slow, or too busy for an audit to be as fast as its run; weights may be made up.
        *(rulebook.LATENCY, rulebook.AUDIT_BAND, rulebook.AUDIT_VERDICT, rulebook.SCORE_LOW),
    )
}


def is_named(system: str) -> bool:
    """Tell whether a system's id is a rehearsal's."""
    return system.endswith(f"-{REHEARSAL}")


def signs(root: Path, tree: Tree) -> list[str]:
    """Return by what a tree, or a part of it, shows that it is a rehearsal's: such a one is never submitted."""
    folder = root / tree.folder
    found = [str(MARK)] if (folder / MARK).exists() else []
    found += [f"system {name}" for name in tree.systems(root) if is_named(name)]
    for place in tree.places(root):
        path = root / tree.measurements_file(place)
        if path.is_file() and FIELD in path.read_text(encoding="utf-8", errors="replace"):
            found.append(str(tree.measurements_file(place)))
    return found
