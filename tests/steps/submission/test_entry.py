"""Who submits what: what is wrong with it is told before anything is done."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pytest
from desk import refused

if TYPE_CHECKING:
    from conftest import Runs


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--division=open",), "submitter: nobody is named who submits"),
        (("--submitter=A B",), "submitter is 'A B', must be letters"),
        (("--submitter=Acme", "--division=network"), "the network division is not in this version"),
        (("--submitter=Acme", "--category=phone"), "category is 'phone'"),
        (("--submitter=Acme", "--round=v1.0"), "no rules of a round 'v1.0' are here"),
        (("--submitter=Acme", "--submiter=Acme"), "unknown flag --submiter"),
    ],
)
def test_what_is_wrong_with_the_entry_is_told(made: Runs, flags: Sequence[str], said: str) -> None:
    assert said in refused(flags)
