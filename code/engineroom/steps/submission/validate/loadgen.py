"""LoadGen's logs, read as streams: the values of a detail log with their lines, and those of a summary."""

from __future__ import annotations

import os
import re
from collections import deque
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from engineroom.detail_log import MARK
from engineroom.steps.submission.validate import rulebook, sight
from engineroom.steps.submission.validate.findings import Finding, Rule

SHORT_BYTES = 16 << 20  # of a log that is held as a whole
LONGEST_LINE = 64 << 20  # the list of the samples that are loaded is one line
MOST_KEYS, MOST_TOLD = 2000, 3  # different keys of a log that are kept; faults of one kind in a file that are told
LONG_RECORD = 2048  # bytes
LONGEST_VALUE = 4096  # of a value that is kept
# What LoadGen says once. Everything else may stand in a log more than once.
ONCE = (
    "requested_",
    "effective_",
    "result_",
    "early_stopping",
    "loadgen_",
    "test_datetime",
    "sut_",
    "qsl_",
    "num_errors",
)


class _Flags(msgspec.Struct, gc=False):
    is_error: bool = False
    is_warning: bool = False


class _Line(msgspec.Struct, gc=False):
    key: str
    value: msgspec.Raw
    metadata: _Flags
    time_ms: float


DECODE = msgspec.json.Decoder(_Line).decode
VALUE = msgspec.json.Decoder().decode
KEY, LIST = b'{"key": "', b'", "value": ['  # how LoadGen writes a record that is a list
LONGEST_KEY = 100


@dataclass
class Log:
    """The first value of each key, the line it stands in, and the entries of each list that is too long to be kept."""

    file: str
    values: dict[str, Any] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    lengths: dict[str, int] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    num_errors: int = 0
    num_warnings: int = 0
    findings: list[Finding] = field(default_factory=list)
    last: str = ""
    end_ms: float = 0.0

    def get(self, key: str) -> Any:
        """Return a value, None if there is none."""
        return self.values.get(key)

    def number(self, key: str) -> float | None:
        """Return a value if it is a number."""
        return sight.number(self.values.get(key))

    def at(self, rule: Rule, key: str, *, expected: object = "", found: object = None) -> Finding:
        """Return a finding about a key, with its line; by default with its value."""
        where = f"line {self.lines[key]}, {key}" if key in self.lines else key
        shown = self.values.get(key, "not there") if found is None else found
        return rule.at(self.file, where, found=shown, expected=expected)


def read(root: Path, file: str) -> Log:
    """Return a detail log, with what is wrong in it; it has no values where nothing can be read."""
    log = Log(file)
    try:
        with sight.open_plain(root, file) as lines:
            return _read(lines, log)
    except (sight.Unreadable, OSError) as error:
        log.findings.append(rulebook.UNREADABLE.at(file, found=error))
    return log


class _Told:
    """Tells the first faults of each kind, and how many more there were."""

    def __init__(self, log: Log) -> None:
        self.log, self.counts = log, dict[str, int]()

    def tell(self, finding: Finding) -> None:
        self.counts[finding.rule] = self.counts.get(finding.rule, 0) + 1
        if self.counts[finding.rule] <= MOST_TOLD:
            self.log.findings.append(finding)

    def close(self) -> None:
        for rule, count in self.counts.items():
            if count > MOST_TOLD:
                self.log.findings.append(
                    rulebook.RULES[rule].at(self.log.file, found=f"{count - MOST_TOLD} more lines like these")
                )


# Results that are inferred from one run hold copies of its logs, and lie side by side: those are read once.
SAME_BYTES = 4 << 20  # of a log that is remembered
_last: deque[tuple[bytes, Log]] = deque(maxlen=6)


def _read(lines: BinaryIO, log: Log) -> Log:
    """A log is mostly short and sound: then it is read at once. Else it is read again, line by line."""
    size = os.fstat(lines.fileno()).st_size
    data = lines.read(size) if size <= SHORT_BYTES else b""
    if same := next((known for content, known in _last if content == data), None):
        return replace(same, file=log.file)
    if not _read_sound(data, log):
        lines.seek(0)
        _read_lines(lines, log)
    elif not log.findings and size <= SAME_BYTES:
        _last.append((data, log))
    return log


def _read_sound(data: bytes, log: Log) -> bool:
    """Read a log in which every line is a record; tell whether it is one. Most time is spent here."""
    if not data.startswith(MARK) or not data.endswith(b"}\n"):
        return False
    records = data.split(b"\n" + MARK)
    records[0] = records[0][len(MARK) :]
    lists: dict[bytes, int] = {}
    try:
        entries = [DECODE(record if len(record) < LONG_RECORD else _without_list(record, lists)) for record in records]
    except (ValueError, RecursionError):
        return False
    told, keys = _Told(log), [entry.key for entry in entries]
    last = dict(zip(keys, range(1, len(keys) + 1), strict=True))
    first = dict(zip(reversed(keys), range(len(keys), 0, -1), strict=True))
    for key in last:
        _keep(entries[first[key] - 1], first[key], log, told)
        if first[key] != last[key] and key.startswith(ONCE):
            _repeated(key, last[key], log, told)
    log.lengths |= {head[len(KEY) : -len(LIST)].decode(): length for head, length in lists.items()}
    for number, entry in enumerate(entries, 1):
        if entry.metadata.is_error or entry.metadata.is_warning:
            _flag(entry, number, log)
    told.close()
    log.last, log.end_ms = keys[-1], entries[-1].time_ms
    return True


def _without_list(record: bytes, lists: dict[bytes, int]) -> bytes:
    """Return a record without the numbers of the list that is most of it; note how long the first of its key is.

    LoadGen lists the samples of each set that it loads, in digits and commas. That there is nothing else between the
    brackets is soon seen; to read all those numbers would take most of the time. Another record is returned as it is.
    """
    begin = record.find(LIST, 0, LONGEST_KEY) + len(LIST)
    numbers = record[begin : record.find(b"]", begin)]
    if begin < len(LIST) or numbers.translate(None, b"0123456789,"):
        return record
    head = record[:begin]
    if head not in lists:
        if b",," in numbers or not numbers[:1].isdigit() or not numbers[-1:].isdigit():
            return record
        lists[head] = numbers.count(b",") + 1
    return head + record[begin + len(numbers) :]


def _read_lines(lines: BinaryIO, log: Log) -> None:
    told, start, number, line = _Told(log), len(MARK), 0, b""
    while line := lines.readline(LONGEST_LINE):
        number += 1
        if not line.endswith(b"\n"):
            if len(line) >= LONGEST_LINE:
                told.tell(rulebook.LOG_BROKEN.at(log.file, number, found=f"more than {LONGEST_LINE:,} bytes"))
                break
            told.tell(rulebook.LOG_CUT.at(log.file, number, found="no end of the line", expected="a whole line"))
        if not line.startswith(MARK):
            if line.strip():
                rule = rulebook.LOG_BINARY if b"\0" in line else rulebook.LOG_BROKEN
                text = line[:80].decode("utf-8", "replace").strip()
                told.tell(rule.at(log.file, number, found=text, expected=f"{MARK.decode()}{{...}}"))
            continue
        try:
            entry = DECODE(line[start:])
        except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
            told.tell(rulebook.LOG_BROKEN.at(log.file, number, found=error, expected="a whole record"))
            continue
        _take(entry, number, log, told)
    told.close()


def _take(entry: _Line, number: int, log: Log, told: _Told) -> None:
    _flag(entry, number, log)
    if entry.key not in log.values:
        _keep(entry, number, log, told)
    elif entry.key.startswith(ONCE):
        _repeated(entry.key, number, log, told)
    log.last, log.end_ms = entry.key, entry.time_ms


def _flag(entry: _Line, number: int, log: Log) -> None:
    if entry.metadata.is_error:
        log.num_errors += 1
        if len(log.errors) < MOST_TOLD:
            said = bytes(memoryview(entry.value)[:200]).decode("utf-8", "replace")
            log.errors.append(f"line {number}, {entry.key}: {said}")
    log.num_warnings += entry.metadata.is_warning


def _repeated(key: str, number: int, log: Log, told: _Told) -> None:
    told.tell(rulebook.LOG_REPEATED.at(log.file, number, found=f"{key} once more", expected="once"))


def _keep(entry: _Line, number: int, log: Log, told: _Told) -> None:
    """Keep the first value of a key, of a long list only how long it is."""
    if len(log.values) >= MOST_KEYS:
        return
    key, raw = entry.key, memoryview(entry.value)
    log.lines[key], log.values[key] = number, None
    if len(raw) > LONGEST_VALUE:
        if bytes(raw[:1]) == b"[":
            log.lengths[key] = bytes(raw).count(b",") + 1
        return
    try:
        log.values[key] = VALUE(raw)
    except (ValueError, RecursionError) as error:
        told.tell(rulebook.LOG_BROKEN.at(log.file, number, found=error, expected="a whole record"))
    if isinstance(log.values[key], list):
        log.lengths[key] = len(log.values[key])


# The summary

TITLE = "MLPerf Results Summary"
NONE = {"No errors encountered during test.": "ERROR", "No warnings encountered during test.": "WARNING"}
COUNTED = re.compile(r"(\d{1,18})\d* (ERROR|WARNING)S? encountered", re.IGNORECASE)
LONGEST_NAME = 80  # characters


@dataclass
class Summary:
    """What a summary says, by its words, each with its line: the first of each name, in its part."""

    file: str
    values: dict[str, str] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)  # of "ERROR" and "WARNING", where it tells them
    title: bool = False
    findings: list[Finding] = field(default_factory=list)


def read_summary(root: Path, file: str) -> Summary:
    """Return a summary, with what is wrong in it."""
    summary = Summary(file)
    text = sight.text(root, file, summary.findings, sight.BRIEF_BYTES)
    for number, line in sight.lines_of(text or ""):
        if line in NONE:
            summary.counts[NONE[line]] = 0
        elif line[0].isdigit() and (found := COUNTED.match(line)):
            summary.counts[found[2].upper()] = int(found[1])
        else:
            name, colon, value = line.removeprefix("* ").partition(":")
            name = name.rstrip()
            if colon and 0 < len(name) <= LONGEST_NAME and name not in summary.values:
                summary.values[name], summary.lines[name] = value.lstrip(), number
    summary.title = TITLE in (text or "")
    return summary
