"""Who submits what: the settings of a submission, and the words by which a rehearsal is known everywhere."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from engineroom.errors import Mistakes, RequestError, shown
from engineroom.paths import CONFIGS, SUBMISSION, display, layers
from engineroom.yaml_file import entries

FILE, SCHEMA = "submission.yaml", "submission.schema.json"
REHEARSAL = "rehearsal"
NOTICE = "This is a rehearsal: short tests, made to try the way. It is no result and must not be submitted."
UNKNOWN_HERE = f"unknown ({REHEARSAL})"  # of what only a person knows and need not say for a rehearsal
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")  # repository_checks.sh allows neither spaces nor a dot in front
# Of an entry: round, division, submitter.
TITLE = re.compile(rf"(v\d+\.\d+(?:-{REHEARSAL})?)-(closed|open)-(.+)")

# The categories of a system, and what its description says of it (constants.py, SystemCheck.system_type_check).
CATEGORIES = {"edge": "edge", "datacenter": "datacenter", "both": "datacenter,edge"}


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What configs/submission.yaml may say; a flag of the same name goes before it."""

    submitter: Annotated[
        str | None,
        Meta(
            description="organization that submits, and the name of its folder",
            extra_json_schema={"pattern": f"^{NAME.pattern}$"},
        ),
    ] = None
    division: Annotated[Literal["closed", "open"], Meta(description="division; network is not in this version")] = (
        "open"
    )
    category: Annotated[Literal["edge", "datacenter", "both"], Meta(description="category of the system")] = "edge"
    status: Annotated[
        Literal["available", "preview", "rdi"],
        Meta(description="availability of the system, unless systems/<id>.yaml says it"),
    ] = "available"
    retraining: Annotated[
        Literal["no", "yes"] | None, Meta(description="whether a model of one's own was trained further")
    ] = None
    public: Annotated[
        tuple[str, ...],
        Meta(description="words that may be published although they name this user, machine or network"),
    ] = ()


@dataclass(frozen=True)
class Entry:
    """One submitter's part in one division of a round."""

    round: str
    division: str
    submitter: str
    category: str
    status: str
    rehearsal: bool = False
    public: tuple[str, ...] = ()
    retraining: str | None = None

    @property
    def system_type(self) -> str:
        """What a system's description says of its category."""
        return CATEGORIES[self.category]

    @property
    def name(self) -> str:
        """The name of the tree's folder."""
        return f"{self.round}-{REHEARSAL}" if self.rehearsal else self.round

    @property
    def root(self) -> Path:
        """The folder that holds the divisions: what a checker is pointed at."""
        return SUBMISSION / self.name

    @property
    def folder(self) -> Path:
        """The submitter's folder."""
        return self.root / self.division / self.submitter

    @property
    def title(self) -> str:
        """The name of what is kept beside the tree, and of the archive."""
        return f"{self.name}-{self.division}-{self.submitter}"

    @property
    def archive(self) -> Path:
        """The packed tree."""
        return SUBMISSION / f"{self.title}.tar.gz"

    def system(self, system: str) -> str:
        """Return the id of a system in this entry: a rehearsal's says so."""
        return f"{system}-{REHEARSAL}" if self.rehearsal else system


def schema() -> dict[str, Any]:
    """Return the JSON Schema of configs/submission.yaml."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **msgspec.json.schema(Settings)}


def read_settings(flags: Mapping[str, str], configs: Path = CONFIGS) -> Settings:
    """Return the settings of the files, the strongest overlay's last, and of flags. Raises Mistakes."""
    values: dict[str, Any] = {}
    mistakes: list[RequestError] = []
    for folder in layers(configs):
        if (path := folder / FILE).is_file():
            for entry in entries(path, mistakes):
                _take(values, entry.key, entry.value(), f"{display(path)}:{entry.line}", mistakes)
    for name, text in flags.items():
        value = [word.strip() for word in text.split(",") if word.strip()] if name == "public" else text
        _take(values, name, value, f"RUN_ARGS: --{name}", mistakes)
    if mistakes:
        raise Mistakes(mistakes)
    return msgspec.convert(values, Settings)


def _take(values: dict[str, Any], name: str, value: Any, where: str, mistakes: list[RequestError]) -> None:
    """Take over one setting if it fits, else note what is wrong with it."""
    try:
        msgspec.convert({name: value}, Settings)
    except msgspec.ValidationError as error:
        network = name == "division" and value == "network"
        mend = "the network division is not in this version of Engineroom" if network else None
        mistakes.append(RequestError(f"{name} is {shown(value)}: {error}", where=where, mend=mend))
        return
    if name == "submitter" and value is not None and not NAME.fullmatch(value):
        what = f"submitter is {shown(value)}, must be letters, digits, dots, _, + or -, a letter or digit first"
        mistakes.append(RequestError(what, where=where, mend="it is the name of a folder"))
        return
    values[name] = value


def entry_of(settings: Settings, round_name: str, *, rehearsal: bool) -> Entry:
    """Return the entry. Raises RequestError if nobody is named who submits; a rehearsal needs nobody."""
    submitter = settings.submitter or (REHEARSAL if rehearsal else "")
    if not submitter:
        raise RequestError(
            "nobody is named who submits",
            where="submitter",
            mend=f"name the organization: --submitter=NAME, or `submitter: NAME` in configs/{FILE}",
        )
    return Entry(
        round_name,
        settings.division,
        submitter,
        settings.category,
        settings.status,
        rehearsal,
        settings.public,
        settings.retraining,
    )
