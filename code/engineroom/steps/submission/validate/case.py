"""One result of a tree, with what the rules of its round say of it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import msgspec

from engineroom.rounds import Model, Round
from engineroom.steps.submission.layout import SPELLED, Place, Tree

BASE = re.compile(r"-\d+(\.\d+)?$")  # of bert-99 and bert-99.9, which may share runs
STREAMS = ("SingleStream", "MultiStream")
ONLINE = ("Server", "Interactive")


class Subject(msgspec.Struct, frozen=True):
    """Names a result, and what the parts of the tree above it say: light enough to be sent to another process."""

    division: str
    submitter: str
    system: str
    benchmark: str  # the name of its folder
    scenario: str
    model: str  # the benchmark of the round that it stands for, "" if there is none
    category: str  # system_type
    network: bool = False


@dataclass(frozen=True)
class Case:
    """A result that is judged."""

    root: Path
    rules: Round
    subject: Subject
    tree: Tree
    place: Place

    @cached_property
    def results(self) -> str:
        """The folder of the result."""
        return str(self.tree.results(self.place))

    @cached_property
    def measurements(self) -> str:
        """The folder of its measurements."""
        return str(self.tree.measurements(self.place))

    @cached_property
    def audits(self) -> str:
        """The folder of its audits."""
        return str(self.tree.audit(self.place, "x").parent)

    @cached_property
    def model(self) -> Model | None:
        """What the round says of the benchmark."""
        return self.rules.benchmarks.models.get(self.subject.model)

    @property
    def closed(self) -> bool:
        """Whether the constraints of the closed division bind it: they do in the network division, too."""
        return self.subject.division != "open"

    @property
    def scenario(self) -> str:
        """The scenario, as it is spelled; the name of its folder may differ in that."""
        return SPELLED.get(self.place.scenario.lower(), self.place.scenario)

    def may_stand(self, ran: object) -> bool:
        """Tell whether this result may be inferred from a log of the scenario `ran`."""
        rules = self.rules.inferred
        ways = {(way.by, way.scenario) for way in rules.ways}
        return rules.category in self.subject.category and (ran, self.scenario) in ways

    def log_scenario(self) -> str:
        """Return the scenario as LoadGen calls it: Interactive is Server with other limits."""
        return "Server" if self.scenario == "Interactive" else self.scenario


def case_of(root: Path, rules: Round, subject: Subject) -> Case:
    """Return the case of a subject."""
    tree = Tree(rules.layout, subject.division, subject.submitter)
    return Case(root, rules, subject, tree, Place(subject.system, subject.benchmark, subject.scenario))
