"""Finds what must not be published: private paths, user and host names, network addresses, keys; and replaces it.

What people wrote or Engineroom writes is replaced by placeholders, the same for the same thing everywhere: <user-1>.
LoadGen's logs, audits' verdicts and program code are never changed: what is found there is told, and ends it.
A number of four parts is an address only where its surroundings do not speak for a version: TensorRT 10.8.0.43.
"""

from __future__ import annotations

import getpass
import ipaddress
import re
import socket
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from engineroom.paths import ROOT


class Kind(StrEnum):
    """What was found."""

    KEY = "key"
    PATH = "path"
    USER = "user"
    HOST = "host"
    ADDRESS = "address"


class Of(StrEnum):
    """What a file is, which decides what is looked for in it and whether it may be changed."""

    LOG = "log"
    SOURCE = "source"
    DOCUMENT = "document"


ANSWER = re.compile(  # as LoadGen writes it
    r'\{ ?"seq_id" ?: ?\d+, ?"qsl_idx" ?: ?\d+, ?"data" ?: ?"[0-9A-Fa-f]*"(?:, ?"token_count" ?: ?\d+)? ?\}'
)
CHANGED = (Of.DOCUMENT,)
TEXT_MAX = 64 << 20  # bytes of a file that is looked through; a submission's files are smaller

KEYS = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----"
    r"|\bA(?:KIA|SIA)[0-9A-Z]{16}\b"
    r"|\bgh[pousr]_[A-Za-z0-9]{36,}|\bgithub_pat_[A-Za-z0-9_]{22,}|\bglpat-[A-Za-z0-9_-]{20,}"
    r"|\bhf_[A-Za-z0-9]{30,}|\bnvapi-[A-Za-z0-9_-]{20,}|\bsk-[A-Za-z0-9_-]{24,}|\bxox[abprs]-[A-Za-z0-9-]{10,}"
    r"|\bAIza[0-9A-Za-z_-]{35}|\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}"
    r"|(?<=://)[^\s/:@\"'<>{}]+:[^\s/:@\"'<>{}]+(?=@)"
    r"|(?i:\b(?:password|passwd|secret|api[_-]?key|access[_-]?token|auth[_-]?token)\b[\"']?\s*[:=]\s*[\"']?)"
    r"(?=[A-Za-z0-9+/_-]*[0-9])(?=[A-Za-z0-9+/_-]*[A-Za-z])[A-Za-z0-9+/_-]{12,}={0,2}"
)
HOMES = re.compile(r"(?<![\w.])/(?:home|Users)/[\w.@+-]+|(?<![\w./-])/root(?=/)")
PUBLIC_PLACES = "usr|etc|proc|sys|dev|opt|bin|sbin|lib|lib64|tmp|var|run|boot"
PATHS = re.compile(rf"(?<![\w/.:<>~*)\]}}-])/(?!(?:{PUBLIC_PLACES})/)[\w.@+-]+(?:/[\w.@+-]+)+")
# Where people keep what is theirs; any other folder counts if this machine has it. /layer1/conv is a name of ONNX's.
PRIVATE_PLACES = re.compile(
    r"""(?ix)
    mnt|media|scratch|data|datasets|raid|lustre|gpfs|nfs|workspace|srv|storage
    """
)
HOSTS = re.compile(r"\bip-\d{1,3}(?:-\d{1,3}){3}\b(?:\.[\w.-]+\w)?")
LOCAL_HOSTS = re.compile(r"\b[a-zA-Z0-9][\w-]*(?:\.[\w-]+)*\.(?:local|internal|corp|lan|intranet|localdomain)\b")
MACS = re.compile(r"(?<![\w:-])(?:[0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}(?![\w:-])")
IPV6 = re.compile(r"(?<![\w:.])[0-9A-Fa-f]{1,4}(?::{1,2}[0-9A-Fa-f]{1,4}){2,7}(?:::)?(?![\w:.])")
IPV4 = re.compile(r"(?<![\w.-])(?:\d{1,3}\.){3}\d{1,3}(?![\w-]|\.\d)")
PORT = re.compile(r"(?::\d{2,5}|/\d{1,2})\b")
BEFORE = re.compile(r"([A-Za-z][\w+#]*)[\"']?\s*[:=]?\s*[\"'(\[]?$")
ADDRESS_WORDS = re.compile(
    r"""(?ix)(?:^|_)(?:
        ip|ipv4|ips|host|hosts|hostname|addr|address|inet|server|servers|from|to|at|on|via|ssh|ping|connect|connected|bind|
        listen|listening|gateway|dns|nameserver|peer|client|node|nodes|url|endpoint|remote|local|proxy|and|or)$"""
)
OCTET_OF_NO_VERSION = 99

# Names of users and machines that say nothing of anybody, and words that stand in every submission.
ORDINARY = re.compile(
    r"""(?ix)
    root|user|users|admin|administrator|ubuntu|debian|centos|fedora|test|tests|tester|guest|runner|
    jenkins|gitlab|build|builder|data|docker|container|mlperf|mlcommons|nvidia|intel|amd|loadgen|
    engineroom|openvino|onnxruntime|torch|litert|tensorrt|python|linux|host|localhost|localdomain|server|
    client|node|edge|datacenter|closed|open|network|available|preview|rdi|samples|sample|offline|
    singlestream|multistream|accuracy|performance|model|models|code|vagrant|nobody|workspace|
    default|system|null|main|master
    """
)


@dataclass(frozen=True)
class Private:
    """What this machine and its user are called, and where the checkout lies."""

    user: str = ""
    home: str = ""
    hosts: tuple[str, ...] = ()
    checkout: str = ""


def of_this_machine() -> Private:
    """Return what is private here. A name that nothing says is left out."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a container's user id without a name
        user = ""
    host = socket.gethostname()
    try:
        home = str(Path.home())
    except RuntimeError:
        home = ""
    return Private(user, home, tuple(dict.fromkeys((host, host.partition(".")[0]))), str(ROOT))


@dataclass(frozen=True)
class Hit:
    """One finding in a text, from `begin` up to `end`."""

    kind: Kind
    begin: int
    end: int
    value: str


@dataclass(frozen=True)
class Finding:
    """A finding as it is told: where, what, and the placeholder that stands there now; "" if it was left."""

    path: str
    line: int
    kind: Kind
    value: str
    placeholder: str = ""

    def __str__(self) -> str:
        return (
            f"{self.path}:{self.line}: {self.kind} {self.value}"
            if self.line
            else f"{self.path}: {self.kind} {self.value}"
        )


@dataclass
class Scrubber:
    """Looks through texts, and knows the placeholder of everything it has found: {placeholder: value}."""

    private: Private
    public: frozenset[str] = frozenset()
    placeholders: dict[str, str] = field(default_factory=dict)

    def hits(self, text: str, of: Of) -> list[Hit]:
        """Return what is found, the first one first; of what overlaps the one that begins first, then the longest."""
        found = sorted(self._all(text, of), key=lambda hit: (hit.begin, -hit.end))
        kept: list[Hit] = []
        for hit in found:
            if hit.value.lower() not in self.public and (not kept or hit.begin >= kept[-1].end):
                kept.append(hit)
        return kept

    def replaced(self, text: str, hits: Iterable[Hit]) -> str:
        """Return the text with a placeholder for each finding."""
        parts, at = [], 0
        for hit in hits:
            parts += [text[at : hit.begin], self.placeholder(hit)]
            at = hit.end
        return "".join([*parts, text[at:]])

    def placeholder(self, hit: Hit) -> str:
        """Return what stands for a finding: the same for the same thing."""
        known = next((name for name, value in self.placeholders.items() if value == hit.value), None)
        if known is None:
            number = 1 + sum(name.startswith(f"<{hit.kind}-") for name in self.placeholders)
            known = f"<{hit.kind}-{number}>"
            self.placeholders[known] = hit.value
        return known

    def _all(self, text: str, of: Of) -> Iterator[Hit]:
        yield from _matches(Kind.KEY, KEYS, text)
        yield from self._paths(text, of)
        yield from _matches(Kind.HOST, HOSTS, text)
        yield from _matches(Kind.ADDRESS, MACS, text)
        yield from _matches(Kind.ADDRESS, IPV6, text, _is_ipv6)
        yield from (Hit(Kind.ADDRESS, *each.span(), each[0]) for each in IPV4.finditer(text) if _is_ipv4(each))
        if of is not Of.SOURCE:  # there a name is a word like any other
            yield from _matches(Kind.HOST, LOCAL_HOSTS, text)
            yield from self._names(Kind.USER, (self.private.user,), text)
            yield from self._names(Kind.HOST, self.private.hosts, text)

    def _paths(self, text: str, of: Of) -> Iterator[Hit]:
        own = [each for each in (self.private.checkout, self.private.home) if len(each) > 1 and each != "/root"]
        for path in own:
            yield from _matches(Kind.PATH, re.compile(rf"{re.escape(path)}(?![\w-])"), text)
        if of is not Of.SOURCE or self.private.home.startswith(("/home/", "/Users/")):
            yield from (hit for hit in _matches(Kind.PATH, HOMES, text) if of is not Of.SOURCE or hit.value in own)
        if of is Of.DOCUMENT:
            yield from _matches(Kind.PATH, PATHS, text, _is_place)

    def _names(self, kind: Kind, names: Iterable[str], text: str) -> Iterator[Hit]:
        for name in names:
            if len(name) > 2 and not ORDINARY.fullmatch(name):
                yield from _matches(kind, re.compile(rf"(?<![\w-]){re.escape(name)}(?![\w-])"), text)


def _matches(
    kind: Kind, pattern: re.Pattern[str], text: str, fits: Callable[[str], bool] = lambda value: True
) -> Iterator[Hit]:
    return (Hit(kind, *each.span(), each[0]) for each in pattern.finditer(text) if fits(each[0]))


def _is_place(path: str) -> bool:
    top = path.split("/")[1]
    return bool(PRIVATE_PLACES.fullmatch(top)) or Path("/", top).exists()


def _is_ipv6(text: str) -> bool:
    """Tell whether it is one: with enough groups, and a digit, so that no C++ name of hex letters is taken for one."""
    try:
        address = ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return not (address.is_loopback or address.is_unspecified) and any(letter.isdigit() for letter in text)


def _is_ipv4(found: re.Match[str]) -> bool:
    try:
        address = ipaddress.IPv4Address(found[0])
    except ValueError:  # a part above 255, or with zeros in front
        return False
    if address.is_loopback or address.is_unspecified:
        return False
    text, (begin, end) = found.string, found.span()
    before = text[text.rfind("\n", 0, begin) + 1 : begin][-60:]
    if before.endswith(("://", "@")) or (PORT.match(text, end) and not before.endswith("==")):
        return True
    if before.endswith(("==", ">=", "<=", "~=", "!=")):
        return False
    if word := BEFORE.search(before):
        return bool(ADDRESS_WORDS.search(word[1]))
    return address.is_private or max(address.packed) > OCTET_OF_NO_VERSION


# Files


def kind_of(path: Path, sources: Path) -> Of:
    """Return what a file of the tree is. `sources` is the folder of the code."""
    if path.is_relative_to(sources):
        return Of.SOURCE
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
    try:
        text = path.read_bytes()[:TEXT_MAX].decode("utf-8")
    except UnicodeDecodeError:
        return found  # no text
    looked = _without_answers(text) if path.name == "mlperf_log_accuracy.json" else text
    hits = scrubber.hits(looked, of)
    replaces = change and of in CHANGED
    for hit in hits:
        placeholder = scrubber.placeholder(hit) if replaces else ""
        found.append(Finding(name, looked.count("\n", 0, hit.begin) + 1, hit.kind, hit.value, placeholder))
    if hits and replaces:
        beside = path.with_name(f"{path.name}.scrubbed")  # the former tree may share this file by a hard link
        beside.write_text(scrubber.replaced(text, hits), encoding="utf-8")
        beside.replace(path)
    return found


def _without_answers(text: str) -> str:
    """Return an accuracy log without the answers, which are hex digits by the megabyte."""
    return ANSWER.sub("", text)
