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


# Reports and scripts know rules by them: who adds one adds it here, too, and none changes or goes.
IDS = """
accuracy-contradiction accuracy-extra-files accuracy-hash-missing accuracy-hash-wrong accuracy-log-broken
accuracy-log-long accuracy-log-samples accuracy-missing accuracy-recomputed accuracy-samples accuracy-target
audit-answers audit-answers-differ audit-band audit-fallback audit-missing audit-same-run audit-scores
audit-settings audit-unknown audit-verdict benchmark-guessed benchmark-unknown duration endpoints-unchecked
figures issue-mode json-broken json-repeated-key latency-limit loaded-samples loadgen-mixed log-binary
log-build log-cut log-error log-line-broken log-missing-key log-num-errors log-repeated-key log-time
log-type measurements-field measurements-retrained measurements-type measurements-unusual metric
min-duration model-mapping network-division network-sut-closed network-sut-name percentile
performance-answers performance-sample-count power-files power-samples query-count readme-blank
requested-effective result-duplicate result-orphan round-unclear samples-per-query scenario-inferred
scenario-log scenario-missing scenario-spelled scenario-unknown seeds summary-cut summary-differs
system-accelerators system-field-empty system-field-folder system-field-missing system-field-number
system-field-type system-field-unknown system-field-value system-missing system-unused test-mode
token-latency tree-calibration tree-code tree-deep tree-empty-file tree-extra-document tree-large-file
tree-link tree-misplaced tree-missing-file tree-name tree-no-result tree-other-layout tree-rehearsal
tree-special tree-unexpected-file tree-unknown-entry tree-unknown-folder tree-unreadable user-conf-idle-key
user-conf-line user-conf-not-tuned user-conf-not-used user-conf-open-key user-conf-other user-conf-repeated
user-conf-unknown-key user-conf-value validator-failed validity
"""


def test_ids_stay_as_they_are() -> None:
    assert {*rulebook.RULES} == {*IDS.split()}


def test_each_rule_is_used() -> None:
    code = "".join(path.read_text(encoding="utf-8") for path in Path(validate.__file__).parent.glob("*.py"))
    constants = {rule.id: name for name, rule in vars(rulebook).items() if isinstance(rule, rulebook.Rule)}
    assert constants.keys() == rulebook.RULES.keys()
    assert [name for name in constants.values() if f"rulebook.{name}" not in code] == []
