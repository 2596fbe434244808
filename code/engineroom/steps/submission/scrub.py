"""Looks through a tree for what must not be published (privacy.py), and replaces it where that is allowed.

What people wrote or Engineroom writes is replaced by placeholders, the same for the same thing everywhere: <user-1>.
LoadGen's logs, audits' verdicts and program code are never changed: what is found there is told, and ends it.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from engineroom.paths import write_beside
from engineroom.steps.submission import privacy
from engineroom.steps.submission.documents import OVERLAY_PREFIX
from engineroom.steps.submission.privacy import Hit, Kind, Of, Private

ANSWER = re.compile(  # as LoadGen writes it
    r'\{ ?"seq_id" ?: ?\d+, ?"qsl_idx" ?: ?\d+, ?"data" ?: ?"[0-9A-Fa-f]*"(?:, ?"token_count" ?: ?\d+)? ?\}'
)
CHANGED = (Of.DOCUMENT,)
TEXT_MAX = 64 << 20  # bytes of a file that is looked through; a submission's files are smaller
SETTINGS = (".yaml", ".yml", ".json", ".j2", ".conf", ".md", ".txt")  # what people write into configs/ and systems/
WRITTEN = {"configs", "systems"}  # folders of the code that hold what people wrote of their own machines
BOMS = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
UTF_8 = "utf-8"
# What is no text in its encoding goes through as it is: bytes of another one, or a file that is no text at all.
ERRORS = {UTF_8: "surrogateescape", **dict.fromkeys(BOMS.values(), "surrogatepass")}
CASELESS = (Kind.USER, Kind.HOST, Kind.ADDRESS, Kind.MAIL)
SHOWN_OF_KEY = 4


@dataclass(frozen=True)
class Finding:
    """A finding as it is told: where, what, and the placeholder that stands there now; "" if it was left."""

    path: str
    line: int
    kind: Kind
    value: str
    placeholder: str = ""

    @property
    def where(self) -> str:
        """The file and the line; of a file's own name only that."""
        return f"{self.path}:{self.line}" if self.line else self.path

    @property
    def told(self) -> str:
        """What people are shown of it: of a key no more than tells which one it is."""
        return f"{self.value[:SHOWN_OF_KEY]}..." if self.kind is Kind.KEY else self.value


@dataclass
class Scrubber:
    """Looks through texts, and knows the placeholder of everything it has found: {placeholder: value}."""

    private: Private
    public: frozenset[str] = frozenset()
    placeholders: dict[str, str] = field(default_factory=dict)

    def hits(self, text: str, of: Of) -> list[Hit]:
        """Return what is found, the first one first; of what overlaps the one that begins first, then the longest.

        What is part of a public word, such as a host's name in the id of a system, may stand there.
        """
        found = sorted(privacy.hits(text, of, self.private), key=lambda hit: (hit.begin, -hit.end))
        spans = self._public_spans(text) if found else []
        kept: list[Hit] = []
        for hit in found:
            is_public = any(begin <= hit.begin and hit.end <= end for begin, end in spans)
            if not is_public and (not kept or hit.begin >= kept[-1].end):
                kept.append(hit)
        return kept

    def _public_spans(self, text: str) -> list[tuple[int, int]]:
        words = (re.compile(rf"(?i)(?<![^\W_]){re.escape(word)}(?![^\W_])") for word in self.public)
        return [found.span() for word in words for found in word.finditer(text)]

    def replaced(self, text: str, hits: Iterable[Hit]) -> str:
        """Return the text with a placeholder for each finding."""
        parts, at = [], 0
        for hit in hits:
            parts += [text[at : hit.begin], self.placeholder(hit)]
            at = hit.end
        return "".join([*parts, text[at:]])

    def placeholder(self, hit: Hit) -> str:
        """Return what stands for a finding: the same for the same thing."""
        same = (name for name, value in self.placeholders.items() if _is_same(hit, name, value))
        known = next(same, None)
        if known is None:
            number = 1 + sum(name.startswith(f"<{hit.kind}-") for name in self.placeholders)
            known = f"<{hit.kind}-{number}>"
            self.placeholders[known] = hit.value
        return known


def _is_same(hit: Hit, placeholder: str, value: str) -> bool:
    if hit.kind not in CASELESS:
        return hit.value == value
    return placeholder.startswith(f"<{hit.kind}-") and hit.value.lower() == value.lower()


def kind_of(path: Path, sources: Path) -> Of:
    """Return what a file of the tree is. `sources` is the folder of the code.

    An overlay's code is the user's own, so everything is looked for in it; like a log it is never changed.
    """
    if path.is_relative_to(sources):
        *parents, _ = path.relative_to(sources).parts
        if WRITTEN.intersection(parents) and path.suffix in SETTINGS:
            return Of.DOCUMENT
        return Of.LOG if parents and parents[0].startswith(OVERLAY_PREFIX) else Of.SOURCE
    logs = path.name.startswith(("mlperf_log_", "verify_")) or path.name.endswith("_accuracy.txt")
    return Of.LOG if logs else Of.DOCUMENT


def scrub(folder: Path, sources: Path, scrubber: Scrubber, *, change: bool = True) -> list[Finding]:
    """Look through every file in `folder` and replace what may be replaced; return everything that was found.

    A file's own name is looked at, too. With `change` false nothing is written.
    """
    found: list[Finding] = []
    for path in sorted(each for each in folder.rglob("*") if each.is_file()):
        found += _scrub_file(path, folder, kind_of(path, sources), scrubber, change)
    return found


def _scrub_file(path: Path, folder: Path, of: Of, scrubber: Scrubber, change: bool) -> list[Finding]:
    name = str(path.relative_to(folder))
    in_name = [hit for hit in scrubber.hits(name, of) if hit.kind is not Kind.PATH]
    found = [Finding(name, 0, hit.kind, hit.value) for hit in in_name]
    data = path.read_bytes()
    encoding = _encoding(data)
    text = data[:TEXT_MAX].decode(encoding, ERRORS[encoding])
    looked = _without_answers(text) if path.name == "mlperf_log_accuracy.json" else text
    hits = scrubber.hits(looked, of)
    is_text = encoding != UTF_8 or b"\0" not in data
    replaces = change and of in CHANGED and is_text
    for hit in hits:
        placeholder = scrubber.placeholder(hit) if replaces else ""
        found.append(Finding(name, looked.count("\n", 0, hit.begin) + 1, hit.kind, hit.value, placeholder))
    if hits and replaces:
        with write_beside(path) as beside:  # the former tree may share this file by a hard link
            beside.write_bytes(scrubber.replaced(text, hits).encode(encoding, ERRORS[encoding]) + data[TEXT_MAX:])
    return found


def _encoding(data: bytes) -> str:
    return next((encoding for bom, encoding in BOMS.items() if data.startswith(bom)), UTF_8)


def _without_answers(text: str) -> str:
    """Return an accuracy log without the answers, which are hex digits by the megabyte."""
    return ANSWER.sub("", text)
