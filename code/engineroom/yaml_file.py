"""Reads a YAML mapping and keeps the line of each key, so that every mistake can be named by file:line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from engineroom.errors import Mistakes, RequestError
from engineroom.paths import display

# The C parser is several times faster; a PyYAML that was built without it still works.
Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
BYTES_MAX = 4_000_000  # a settings file is some kilobytes; anything larger is a mistake


class Entry:
    """One `key: value` of a mapping, with its line (counted from 1)."""

    def __init__(self, key: str, line: int, node: yaml.Node, path: Path) -> None:
        self.key, self.line, self._node, self._path = key, line, node, path
        self._children: list[Entry] | None = None

    @property
    def is_mapping(self) -> bool:
        """Whether the value is itself a mapping; an empty value counts as an empty mapping."""
        return isinstance(self._node, yaml.MappingNode) or self._node.tag == "tag:yaml.org,2002:null"

    def children(self) -> list[Entry]:
        """Return the entries of a value that is a mapping. Raises Mistakes for keys that occur twice."""
        if self._children is None:
            node = self._node
            self._children = list(_entries(node, self._path)) if isinstance(node, yaml.MappingNode) else []
        return list(self._children)

    def drop(self, key: str) -> None:
        """Forget a child that was found wrong."""
        self._children = [child for child in self.children() if child.key != key]

    def value(self) -> Any:
        """Return the value as plain Python data. Raises RequestError if YAML cannot construct it."""
        try:
            return yaml.constructor.SafeConstructor().construct_document(self._node)
        except (yaml.YAMLError, ValueError) as error:
            raise RequestError(f"{self.key}: {_first_line(error)}", where=f"{display(self._path)}:{self.line}") from None


def entries(path: Path) -> list[Entry]:
    """Return the top-level entries of a YAML file. Raises RequestError or Mistakes with file:line."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise RequestError(f"cannot be read: {error.strerror}", where=display(path)) from None
    if len(raw) > BYTES_MAX:
        raise RequestError(f"has {len(raw):,} bytes; a settings file is smaller", where=display(path))
    try:
        root = yaml.compose(raw.decode("utf-8"), Loader=Loader)
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise RequestError("is not UTF-8 text", where=f"{display(path)}:{line}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{display(path)}:{mark.line + 1}" if mark else display(path)
        raise RequestError(f"is not YAML: {_first_line(error)}", where=where) from None
    except RecursionError:
        raise RequestError("is nested too deeply", where=display(path)) from None
    if root is None:
        return []
    if not isinstance(root, yaml.MappingNode):
        raise RequestError("must hold `key: value` lines", where=f"{display(path)}:{root.start_mark.line + 1}")
    return list(_entries(root, path))


def load(path: Path) -> dict[str, Any]:
    """Return a YAML mapping as plain Python data, with the same checks."""
    return {entry.key: entry.value() for entry in entries(path)}


def _entries(node: yaml.MappingNode, path: Path) -> Iterator[Entry]:
    seen: dict[str, int] = {}
    mistakes = []
    found = []
    for key, value in node.value:
        line = key.start_mark.line + 1
        where = f"{display(path)}:{line}"
        if not isinstance(key, yaml.ScalarNode):
            mistakes.append(RequestError("a key must be a word", where=where))
        elif key.value in seen:
            mistakes.append(RequestError(f"{key.value} stands here a second time", where=where, mend=f"first in line {seen[key.value]}"))
        else:
            seen[key.value] = line
            found.append(Entry(str(key.value), line, value, path))
    if mistakes:
        raise Mistakes(mistakes)
    yield from found


def _first_line(error: Exception) -> str:
    problem = getattr(error, "problem", None)
    return str(problem or error).splitlines()[0]
