"""Rules have ids that stay, sources and remedies, and the page that lists them is made from them."""

from __future__ import annotations

import re
from pathlib import Path

from engineroom.steps.submission import validate
from engineroom.steps.submission.validate import rulebook

ROOT = Path(__file__).parents[4]
SOURCES = ("round", "checker", "policies", "rules", "LoadGen", "own", "truncate_accuracy_log.py")


def test_the_page_lists_every_rule_as_it_is() -> None:
    page = (ROOT / "docs/validator.md").read_text(encoding="utf-8")
    mend = 'build/venv/bin/inv check_submission with RUN_ARGS="--rules" prints the table'
    assert page.endswith(f"\n\n{rulebook.as_markdown()}\n"), mend


def test_each_rule_has_an_id_a_source_and_a_remedy() -> None:
    for name, rule in rulebook.RULES.items():
        assert re.fullmatch(r"[a-z]+(-[a-z]+)+|[a-z]+", name)
        assert rule.checks and rule.mend and rule.source.startswith(SOURCES), name


def test_each_rule_is_used() -> None:
    code = "".join(path.read_text(encoding="utf-8") for path in Path(validate.__file__).parent.glob("*.py"))
    constants = {rule.id: name for name, rule in vars(rulebook).items() if isinstance(rule, rulebook.Rule)}
    assert constants.keys() == rulebook.RULES.keys()
    assert [name for name in constants.values() if f"rulebook.{name}" not in code] == []
