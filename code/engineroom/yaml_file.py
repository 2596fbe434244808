"""Reads a YAML mapping and keeps the line of each key, so that every mistake can be named by file:line."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from engineroom.errors import Mistakes, RequestError, plain
from engineroom.paths import display

BYTES_MAX = 4_000_000  # a settings file is some kilobytes; anything larger is a mistake
LONGEST = 200  # letters of what PyYAML says
DEPTH_MAX = 20  # the C composer recurses without a limit: 100,000 open brackets would end Python by SIGSEGV

# The C parser is several times faster; a PyYAML that was built without it still works.
Loader: Any = type("Loader", (getattr(yaml, "CSafeLoader", yaml.SafeLoader),), {"yaml_implicit_resolvers": {}})

# What unquoted words mean: YAML 1.2's core schema, and of numbers only the decimal ones. YAML 1.1, PyYAML's own choice,
# reads 010 as 8, 10:30 as 630 and no as false, and takes 1e5 for text, which JSON and we write for a number.
for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)", list("-+0123456789")),
    (
        "float",
        r"[-+]?(?:(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+|\.(?:inf|Inf|INF))"
        r"|\.(?:nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
):
    Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_pattern})\Z"), _first)


class Entry:
    """One `key: value` of a mapping, with its line (counted from 1)."""

    def __init__(self, key: str, line: int, node: yaml.Node, path: Path, children: list[Entry]) -> None:
        self.key, self.line, self._node, self._path, self._children = key, line, node, path, children

    @property
    def is_mapping(self) -> bool:
        """Whether the value is itself a mapping; an empty value counts as an empty mapping."""
        return isinstance(self._node, yaml.MappingNode) or _is_null(self._node)

    def children(self) -> list[Entry]:
        """Return the entries of a value that is a mapping."""
        return list(self._children)

    def value(self) -> Any:
        """Return the value as plain Python data. Raises RequestError if YAML cannot construct it."""
        try:
            return yaml.constructor.SafeConstructor().construct_document(self._node)
        except (yaml.YAMLError, ValueError) as error:
            where = f"{display(self._path)}:{self.line}"
            raise RequestError(f"{plain(self.key)}: {_problem(error)}", where=where) from None


def entries(path: Path, mistakes: list[RequestError] | None = None) -> list[Entry]:
    """Return the top-level entries of a YAML file. Raises RequestError with file:line if it cannot be read as one.

    Keys that stand twice, at whatever level, are added to `mistakes` and left out; without it they raise Mistakes.
    """
    text = _read(path)
    try:
        _check_events(text, path)
        root = yaml.compose(text, Loader=Loader)
    except yaml.YAMLError as error:
        raise _not_yaml(error, text, path) from None
    if root is None or _is_null(root):
        return []
    if not isinstance(root, yaml.MappingNode):
        raise RequestError("must hold `key: value` lines", where=f"{display(path)}:{root.start_mark.line + 1}")
    found: list[RequestError] = []
    top = _entries(root, path, found)
    if mistakes is not None:
        mistakes.extend(found)
    elif found:
        raise Mistakes(found)
    return top


def load(path: Path) -> dict[str, Any]:
    """Return a YAML mapping as plain Python data, with the same checks."""
    return {entry.key: entry.value() for entry in entries(path)}


def _read(path: Path) -> str:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # reading a pipe would wait for ever
            raise RequestError("is a folder" if path.is_dir() else "is no regular file", where=display(path))
        if status.st_size > BYTES_MAX:
            raise RequestError(f"has {status.st_size:,} bytes; a settings file is smaller", where=display(path))
        raw = path.read_bytes()
    except OSError as error:
        raise RequestError(f"cannot be read: {error.strerror}", where=display(path)) from None
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise RequestError("is not UTF-8 text", where=f"{display(path)}:{line}") from None


def _check_events(text: str, path: Path) -> None:
    """Refuse what a settings file has no use for: aliases (a few lines can stand for gigabytes), tags, deep nesting."""
    depth = 0
    for event in yaml.parse(text, Loader=Loader):
        where = f"{display(path)}:{event.start_mark.line + 1 if event.start_mark else 1}"
        if isinstance(event, yaml.AliasEvent):
            raise RequestError(
                f"{plain(f'*{event.anchor}')}: aliases are not read here", where=where, mend="write the value out"
            )
        if tag := getattr(event, "tag", None):
            raise RequestError(f"{plain(tag)}: tags are not read here", where=where, mend="write the value only")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > DEPTH_MAX:
                raise RequestError(f"is nested more than {DEPTH_MAX} levels deep", where=where)
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _entries(node: yaml.MappingNode, path: Path, mistakes: list[RequestError]) -> list[Entry]:
    found: dict[str, Entry] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        where = f"{display(path)}:{line}"
        if not isinstance(key, yaml.ScalarNode):
            mistakes.append(RequestError("a key must be a word", where=where))
            continue
        children = _entries(value, path, mistakes) if isinstance(value, yaml.MappingNode) else []
        if key.value in found:
            first = f"it stands first in line {found[key.value].line}"
            mistakes.append(RequestError(f"{plain(key.value)} stands here a second time", where=where, mend=first))
        else:
            found[key.value] = Entry(key.value, line, value, path, children)
    return list(found.values())


def _is_null(node: yaml.Node) -> bool:
    return bool(node.tag == "tag:yaml.org,2002:null")


def _not_yaml(error: yaml.YAMLError, text: str, path: Path) -> RequestError:
    mark = getattr(error, "problem_mark", None)
    if mark:
        line = min(mark.line + 1, len(text.splitlines()))  # what is left open is missed beyond the last line
    elif (position := getattr(error, "position", None)) is not None:  # a character that YAML does not allow
        line = text.encode()[:position].count(b"\n") + 1
    else:
        return RequestError(f"is not YAML: {_problem(error)}", where=display(path))
    return RequestError(
        f"is not YAML: {_problem(error)}",
        where=f"{display(path)}:{line}",
        mend="indent with spaces: YAML takes no tabs" if _is_indented_by_tab(text, line) else None,
    )


def _is_indented_by_tab(text: str, line: int) -> bool:
    words = [*text.splitlines(), ""][line - 1]
    return "\t" in words[: len(words) - len(words.lstrip())]


def _problem(error: Exception) -> str:
    """Return PyYAML's words in one line: what it was doing, and what it found."""
    said: Iterator[str] = filter(None, (getattr(error, "context", None), getattr(error, "problem", None)))
    words = ", ".join(said) or str(error).splitlines()[0]
    return words if len(words) <= LONGEST else f"{words[:LONGEST]}..."  # it may quote a name of thousands of letters
