"""Says what in a text must not be published: keys, private paths, user and host names, addresses of networks and mail.

A figure, a version or a line of a log is none of it: each pattern says by what surroundings it tells them apart.
"""

from __future__ import annotations

import getpass
import ipaddress
import re
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path

from engineroom import rounds
from engineroom.config import fields
from engineroom.paths import ROOT


class Kind(StrEnum):
    """What was found."""

    KEY = "key"
    PATH = "path"
    USER = "user"
    HOST = "host"
    ADDRESS = "address"
    MAIL = "mail"


class Of(StrEnum):
    """What a file is, which decides what is looked for in it and whether it may be changed."""

    LOG = "log"
    SOURCE = "source"
    DOCUMENT = "document"


@dataclass(frozen=True)
class Private:
    """What this machine and its user are called, and where the checkout lies."""

    user: str = ""
    home: str = ""
    hosts: tuple[str, ...] = ()
    checkout: str = ""

    @property
    def domains(self) -> tuple[str, ...]:
        """The domains of the hosts' full names: whoever else is in them is as private."""
        return tuple(dict.fromkeys(domain for host in self.hosts if "." in (domain := host.partition(".")[2])))


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


def hits(text: str, of: Of, private: Private) -> Iterator[Hit]:
    """Yield what is found, in no order; findings can overlap."""
    yield from _matches(Kind.KEY, KEYS, text)
    yield from _matches(Kind.KEY, SECRETS, text, _is_secret)
    yield from _paths(text, of, private)
    yield from _matches(Kind.HOST, HOSTS, text)
    yield from _matches(Kind.ADDRESS, MACS, text)
    yield from _matches(Kind.ADDRESS, IPV6, text, _is_ipv6)
    yield from _matches(Kind.ADDRESS, IPV4, text, _is_ipv4)
    if of is not Of.SOURCE:  # there a name is a word like any other, and its authors' addresses are public
        yield from _names(text, of, private)
        yield from _matches(Kind.MAIL, MAILS, text)


def _matches(
    kind: Kind, pattern: re.Pattern[str], text: str, fits: Callable[[re.Match[str]], bool] = lambda found: True
) -> Iterator[Hit]:
    """Yield each match that fits; of a pattern with a group `value`, that group."""
    group = "value" if "value" in pattern.groupindex else 0
    return (Hit(kind, *each.span(group), each[group]) for each in pattern.finditer(text) if each[group] and fits(each))


# Keys

KEYS = re.compile(  # by the first letter: alternatives one after another take ten times as long
    r"""(?x)
    -----BEGIN[ ][A-Z ]*PRIVATE[ ]KEY-----(?:[A-Za-z0-9+/=\s\\:,-]*?-----END[ ][A-Z ]*PRIVATE[ ]KEY-----)?
    | \b(?:
        A(?: (?:KIA|SIA)[0-9A-Z]{16}\b | Iza[0-9A-Za-z_-]{35} )
      | d(?: ckr_[a-z]{2,5}_[A-Za-z0-9_-]{20,} )
      | e(?: yJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,} )
      | g(?: h[pousr]_[A-Za-z0-9]{36,} | ithub_pat_[A-Za-z0-9_]{22,} | l(?:pat|dt|rt)-[A-Za-z0-9_-]{20,} )
      | h(?: f_[A-Za-z0-9]{30,} | vs\.[A-Za-z0-9_-]{20,} )
      | n(?: vapi-[A-Za-z0-9_-]{20,} | pm_[A-Za-z0-9]{36} )
      | p(?: ypi-[A-Za-z0-9_-]{40,} )
      | s(?: k-[A-Za-z0-9_-]{24,} )
      | x(?: ox[abprs]-[A-Za-z0-9-]{10,} )
      | y(?: a29\.[\w-]{20,} )
      )
    | (?<=://)(?:[^\s/:@"'<>{}]+:[^\s/:@"'<>{}]+|[A-Za-z0-9_-]{20,})(?=@)
    """
)
# A name that speaks of a secret, and its value: NAME=value, name: value, "name": "value", --name value.
SECRETS = re.compile(
    r"""(?ix)
    (?: (?P<word>p(?:ass(?:word|wd|phrase)|rivate[_-]?key)|token|secret(?:[_-]?key)?|credentials?
          |a(?:pi|ccess|ccount|uth)[_-]?key) ["']? \s* [:=] >? \s*
      | --[\w-]*? (?P<flag>password|token|secret|(?:api|access|private)-?key) [ ]
      | (?P<header>authorization["']? \s* [:=] \s* ["']? \w+) [ ]+
      | \b (?P<scheme>bearer) [ ]+
    )
    ["']? (?P<value>[^\s"'<>{}$,;()\[\]]++) (?!\()
    """
)
PUBLIC_PLACES = "usr|etc|proc|sys|dev|opt|bin|sbin|lib|lib64|tmp|var|run|boot"
# A path, or an attribute in code.
NO_SECRET = re.compile(rf"[~.]|/(?:{PUBLIC_PLACES}|home|root)/|[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+$")
UNBROKEN = re.compile(r"[A-Za-z0-9]{12}")  # "token" names pieces of texts, too, which are shorter


def _is_secret(found: re.Match[str]) -> bool:
    """Tell whether what stands behind such a name is a secret and no word, path or figure."""
    value, named = found["value"], (found["word"] or found["flag"] or "").lower()
    lower, upper, digit = (any(map(test, value)) for test in (str.islower, str.isupper, str.isdigit))
    if found["header"]:
        return len(value) >= 6 and digit + lower + upper > 1 and not value.istitle()
    if not (digit and (lower or upper)) or NO_SECRET.match(value):
        return False
    if "pass" in named:
        return len(value) >= 6
    return bool(UNBROKEN.search(value)) if found["scheme"] or named == "token" else len(value) >= 8


# Paths

HOMES = re.compile(  # the lookbehinds come second: most letters are no slash
    r"/(?:(?<![\w.]/)|(?<=\.\./))(?:(?:var/|export/|mnt/[a-z]/)?(?:home|[Uu]sers)|run/media|run/user)(?:/[\w.@+-]+)+"
    r"|/(?<![\w./-]/)root(?=/)"
    r"|~(?<![\w/~.=]~)[A-Za-z_][\w-]*(?:/[\w.@+-]+)+"
    r"|[A-Za-z]:(?<![A-Za-z0-9]..)(?:\\{1,2}|/)(?i:users|documents and settings)"
    r"(?:(?:\\{1,2}|/)[\w.@+-]+(?:(?:[ ][\w.@+-]+)+(?=\\))?)+"
)
# \\server\share\folder, or with every \ doubled: a pattern such as "\\bword\\b" is neither.
SHARES = re.compile(
    r"\\(?<![\w\\]\\)(?<!\b[A-Za-z]:\\)"
    r"(?:\\[\w.$-]{2,}(?:\\[\w.$@+-]{2,})+|\\{3}[\w.$-]{2,}(?:\\\\[\w.$@+-]{2,})+)"
)
PATHS = re.compile(r"(?:(?<![\w/.<>~*)\]}}-])|(?<=\bfile://))(?P<value>/[\w.@+-]+(?:/[\w.@+-]+)+)")
# Where people keep what is theirs. In documents any other top folder counts if this machine has it: /layer1/conv has
# none, it is a name of ONNX's.
PRIVATE_PLACES = re.compile(
    r"""(?ix)
    mnt|media|scratch|data|datasets|raid|lustre|gpfs|nfs|workspace|srv|storage|projects|cluster|shared
    """
)
# Below these stands what a system or a vendor put there, or what somebody did.
MIXED_PLACES = re.compile(
    r"""(?ix)
    /tmp/ | /var/ (?!(?:lib|log|cache|run|spool|mail|lock|opt|www)(?:/|$))
    | /opt/ (?!(?:nvidia|intel|amd|arm|aws|google|microsoft|rocm|cuda|(?:mini|ana)?conda|hpcx|openmpi|mellanox|pytorch
             |triton|tensorrt|openvino|python|venv|mlperf|mlcommons|hostedtoolcache|homebrew|local|bin|lib|share)
             [\w.-]*(?:/|$))
    """
)


def _paths(text: str, of: Of, private: Private) -> Iterator[Hit]:
    own = [each for each in (private.checkout, private.home) if len(each) > 1 and each != "/root"]
    for path in own:
        yield from _matches(Kind.PATH, re.compile(rf"{re.escape(path)}(?![\w-])"), text)
    if of is not Of.SOURCE:  # where other people's paths are examples
        yield from _matches(Kind.PATH, HOMES, text)
        yield from _matches(Kind.PATH, SHARES, text)
        yield from _matches(Kind.PATH, PATHS, text, _is_place if of is Of.DOCUMENT else _is_known_place)


def _is_known_place(found: re.Match[str]) -> bool:
    path = found["value"]
    return bool(PRIVATE_PLACES.fullmatch(path.split("/")[1]) or MIXED_PLACES.match(path))


def _is_place(found: re.Match[str]) -> bool:
    top = found["value"].split("/")[1]
    return _is_known_place(found) or (not re.fullmatch(PUBLIC_PLACES, top) and Path("/", top).exists())


# Names

# Names of users and machines that say nothing of anybody, and words that stand in every submission.
ORDINARY = re.compile(
    r"""(?ix)
    root|user|users|admin|administrator|ubuntu|debian|centos|fedora|test|tests|tester|guest|runner|
    jenkins|gitlab|build|builder|data|docker|container|mlperf|mlcommons|nvidia|intel|amd|loadgen|
    engineroom|openvino|onnxruntime|torch|litert|tensorrt|python|linux|host|localhost|localdomain|server|
    client|node|edge|datacenter|closed|open|network|available|preview|rdi|samples|sample|offline|
    singlestream|multistream|accuracy|performance|model|models|code|vagrant|nobody|workspace|
    default|system|null|main|master|bert|resnet|mobilenet|imagenet|digits|xeon|epyc|ryzen|core|grace|jetson|orin|thor|
    dgx|hgx|spark|geforce|rtx|tesla|[abhlptv]\d{1,3}|[bg][bh]\d{3}|mi\d{3}\w?|gpu|cpu|arm|arm64|aarch64|x86|amd64
    """
)
MAILS = re.compile(r"(?<![\w.+@/-])(?!(?:git|noreply|no-reply)@)[\w.+-]+@[\w-]+(?:\.[\w-]+)*\.[A-Za-z]{2,}(?![\w-])")
HOSTS = re.compile(r"\b(?:ip|ec2)-\d{1,3}(?:-\d{1,3}){3}\b(?:\.[\w.-]+\w)?")
REMOTES = re.compile(r"(?i)\b(?:ssh|scp|sftp|rsync)\s[^\n|;]{0,80}?(?<![\w.-])(?P<value>[a-z_][\w.-]*@[\w.-]+\w)")
ACCOUNTS = re.compile(
    r"(?i)(?:(?<![\w.+@/-])|(?<=:/{2}))(?!(?:git|noreply|no-reply)@)"
    r"(?P<user>[a-z_][\w.+-]*)@(?P<host>[a-z][\w-]+)(?![\w@-]|\.\w)"
)
# What stands behind an @ and is no machine: the tag or branch of a package, a precision, where a metric is cut.
TAGS = re.compile(
    r"""(?ix)
    v\d[\w-]*|[0-9a-f]{6,40}|sha\d+|latest|head|trunk|dev|devel|develop|nightly|stable|next|canary|alpha|beta|rc\d*|
    release|lts|u?int\d+|b?f(?:p|loat)?\d+\w*|top[_-]?\d*|iou
    """
)
PROMPT = re.compile(r":[~/]|\s[~\w./-]+\][$#]")  # behind an account: where a shell is, or a path on the machine
BEFORE_ACCOUNT = re.compile(r"(?i)\b(?:by|as|user|login|owner|author|operator|contact|ask)[\"']?\s*[:=]?\s*[\"'(<]?$")
URL_HOSTS = re.compile(
    r"(?i)\b(?:https?|tcp|udp|ssh|s?ftp|grpc|nfs|smb|wss?|rtsp|redis|mongodb|postgres(?:ql)?|mysql)://(?:[^\s/@]+@)?"
    r"(?P<value>(?!localhost\b)[a-z][\w-]*)(?![\w.@-])"
)
LOCAL_HOSTS = re.compile(
    r"(?i)(?<![\w.-])(?P<value>[a-z0-9][\w-]*(?:\.[\w-]+)*"
    r"\.(?:(?P<sure>corp|lan|intranet|localdomain|home\.arpa|svc|cluster\.local|[\w-]+\.internal)|local|internal|private))"
    r"(?![\w(-]|\.\w)"
)


@cache
def _vocabulary() -> frozenset[str]:
    """Return the words of which the names of settings and of a submission's fields consist: max, host, target, ..."""
    rules = rounds.read(rounds.names()[-1])
    described, measured = rules.system_description, rules.measurements
    names = (*fields.names(), *described.not_empty, *described.may_be_empty, *described.power, *measured.not_empty)
    return frozenset(word.lower() for name in (*names, *rules.user_conf.allowed) for word in re.split(r"[\W_]+", name))


def _says_nothing(name: str) -> bool:
    return len(name) < 3 or bool(ORDINARY.fullmatch(name)) or name.lower() in _vocabulary()


def _names(text: str, of: Of, private: Private) -> Iterator[Hit]:
    for kind, names in ((Kind.USER, (private.user,)), (Kind.HOST, private.hosts)):
        for name in (each for each in names if not _says_nothing(each)):
            yield from _matches(kind, re.compile(rf"(?i)(?<![^\W_]){re.escape(name)}(?![^\W_])"), text)
    for domain in private.domains:
        pattern = rf"(?i)(?<![\w.-])[a-z0-9][\w-]*(?:\.[\w-]+)*\.{re.escape(domain)}(?![\w-]|\.\w)"
        yield from _matches(Kind.HOST, re.compile(pattern), text)
    yield from _matches(Kind.HOST, LOCAL_HOSTS, text, _is_host)
    yield from _matches(Kind.HOST, URL_HOSTS, text)
    yield from _matches(Kind.HOST, REMOTES, text)
    yield from _matches(Kind.HOST, ACCOUNTS, text, _is_account if of is Of.DOCUMENT else _is_surely_account)


def _is_account(found: re.Match[str]) -> bool:
    """Tell an account on a machine, such as alice@box, from package@tag; root@localhost says nothing of anybody."""
    return not (TAGS.fullmatch(found["host"]) or (_says_nothing(found["user"]) and _says_nothing(found["host"])))


def _is_surely_account(found: re.Match[str]) -> bool:
    """Tell an account by what stands around it, too: a log is never changed, and code multiplies weights@inputs."""
    behind = PROMPT.match(found.string, found.end())
    return _is_account(found) and bool(behind or BEFORE_ACCOUNT.search(_before(found)))


def _is_host(found: re.Match[str]) -> bool:
    """Tell a host from a module such as threading.local: by its domain, a digit or a hyphen, or the word before it."""
    sure = found["sure"] or re.search(r"[\d-]", found["value"])
    return bool(sure) or _is_spoken_of_as_address(found)


# Addresses

MACS = re.compile(r"(?<![\w:-])(?:[0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}(?![\w:-])")
IPV6 = re.compile(
    r"(?<![\w:.])(?:[0-9A-Fa-f]{1,4}|(?=::))(?::{1,2}[0-9A-Fa-f]{1,4}){1,7}(?:::)?(?:%[\w.-]*\w)?(?!\w|:|\.\d)"
)
LOCAL_IPV6 = re.compile(r"(?i)(?:fe[89ab][0-9a-f]|f[cd][0-9a-f]{2})::")
IPV4 = re.compile(r"(?<![\w.-])(?:\d{1,3}\.){3}\d{1,3}(?![\w-]|\.\d)")
PORT = re.compile(r"(?::\d{2,5}|/\d{1,2})\b")
BEFORE = re.compile(r"([A-Za-z][\w+#]*)[\"']?\s*[:=]?\s*[\"'(\[]?$")
ADDRESS_WORDS = re.compile(
    r"""(?ix)(?:^|_)(?:
        ip|ipv4|ips|host|hosts|hostname|addr|address|inet|server|servers|from|to|at|on|via|ssh|ping|connect|connected|bind|
        listen|listening|gateway|dns|nameserver|peer|client|node|nodes|url|endpoint|remote|local|proxy)$"""
)
CONJUNCTION = re.compile(r"(?i)(?:^|\W)(?:and|or)\s+$")
PRODUCT = re.compile(
    r"(?i)\b(?:tensorrt|openvino|cuda|cudnn|cublas|nccl|driver|firmware|bios|versions?|releases?|bindings)\b"
)
NO_VERSION = tuple(map(ipaddress.IPv4Network, ("192.168.0.0/16", "172.16.0.0/12", "169.254.0.0/16", "100.64.0.0/10")))
EVERYBODYS = tuple(network.network_address for network in (*NO_VERSION, ipaddress.IPv4Network("10.0.0.0/8")))
OCTET_OF_NO_VERSION = 99
REACH = 60  # letters that are looked at before an address
GROUPS_OF_ANY = 3  # fewer are a slice, such as 1::2


def _before(found: re.Match[str]) -> str:
    """Return what stands before a match in its line."""
    text, begin = found.string, found.start()
    return text[text.rfind("\n", 0, begin) + 1 : begin][-REACH:]


def _is_spoken_of_as_address(found: re.Match[str]) -> bool:
    before = _before(found)
    word = BEFORE.search(before)
    return before.endswith(("://", "@")) or bool(word and ADDRESS_WORDS.search(word[1]))


def _is_ipv6(found: re.Match[str]) -> bool:
    """Tell whether it is one: with enough groups, and a digit, so that no C++ name of hex letters is taken for one."""
    try:
        address = ipaddress.IPv6Address(found[0])
    except ValueError:
        return False
    if address.is_loopback or address.is_unspecified or not any(letter.isdigit() for letter in found[0]):
        return False
    return len(re.findall(r"[0-9A-Fa-f]+", found[0].partition("%")[0])) >= GROUPS_OF_ANY or bool(
        LOCAL_IPV6.match(found[0])
    )


def _is_ipv4(found: re.Match[str]) -> bool:
    """Tell an address from a version: by what it is, and by what stands before and behind it."""
    try:
        address = ipaddress.IPv4Address(found[0])
    except ValueError:  # a part above 255, or with zeros in front
        return False
    if address.is_loopback or address.is_unspecified or address in EVERYBODYS:
        return False
    before = _before(found)
    if before.endswith(("==", ">=", "<=", "~=", "!=")):
        return False
    if before.endswith(("://", "@", "::ffff:")) or PORT.match(found.string, found.end()):
        return True
    if any(address in network for network in NO_VERSION):
        return True
    if BEFORE.search(before) and not CONJUNCTION.search(before):
        return _is_spoken_of_as_address(found)
    if PRODUCT.search(found.string, max(0, found.start() - REACH), found.start()):  # also at the end of the line before
        return False
    return address.is_private or max(address.packed) > OCTET_OF_NO_VERSION
