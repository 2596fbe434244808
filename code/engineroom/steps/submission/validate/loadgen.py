"""LoadGen's logs, read as streams: the values of a detail log with their lines, and those of a summary."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec

from engineroom.detail_log import MARK
from engineroom.steps.submission.validate import rulebook, sight
from engineroom.steps.submission.validate.findings import Finding, Rule

SHORT_BYTES = 16 << 20  # of a log that is held as a whole
LONGEST_LINE = 64 << 20  # the list of the samples that are loaded is one line
MOST_KEYS, MOST_TOLD = 2000, 3  # different keys of a log that are kept; faults of one kind in a file that are told
LONGEST_VALUE = 4096  # of a value that is kept
LONG_LOG = 64 << 10  # whose long lists are worth the tenth of a second that numpy takes to come
BLOCK_CHARS = 64 << 10  # of lists that are looked at together: what comes of them stays in a core's cache
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
    value: Any
    metadata: _Flags
    time_ms: float


class _RawLine(msgspec.Struct, gc=False):
    key: str
    value: msgspec.Raw
    metadata: _Flags
    time_ms: float


DECODE, DECODE_RAW = msgspec.json.Decoder(_Line).decode, msgspec.json.Decoder(_RawLine).decode
VALUE = msgspec.json.Decoder().decode
LIST = b'", "value": ['  # how LoadGen begins a list, after its key


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
    """Return a detail log, with what is wrong in it; it has no values where nothing can be read.

    A log is mostly short and sound: then it is read at once. Else it is read again, line by line.
    """
    log = Log(file)
    try:
        return _read_at_once(root, log) or _read_lines(root, log)
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


def _read_at_once(root: Path, log: Log) -> Log | None:
    """Read a log that is short and sound; return None, and nothing in `log`, for another one."""
    data = sight.beginning(root, log.file, SHORT_BYTES + 1)
    if len(data) > SHORT_BYTES:
        return None
    if same := next((known for content, known in _last if content == data), None):
        return replace(same, file=log.file)
    if not _read_sound(data, log):
        return None
    if not log.findings and len(data) <= SAME_BYTES:
        _last.append((data, log))
    return log


def _read_sound(data: bytes, log: Log) -> bool:
    """Read a log in which every line is a record and none an error; tell whether it is one. Most time is spent here."""
    if not data.startswith(MARK) or not data.endswith(b"}\n"):
        return False
    short, cut = _cut_lists(data) if len(data) > LONG_LOG else (data, [])
    records = short.split(b"\n" + MARK)
    if len(records) != short.count(b"\n") or (cut and not _are_numbers(numbers for _, numbers in cut)):
        return False
    records[0], lists = records[0][len(MARK) :], dict(cut)
    try:
        # The value of a short record is one that is kept; to look at it once is faster.
        entries = [DECODE(each) if len(each) <= LONGEST_VALUE else DECODE_RAW(each) for each in records]
    except (ValueError, RecursionError):
        return False
    flagged = [flags for entry in entries if (flags := entry.metadata).is_error or flags.is_warning]
    if any(flags.is_error for flags in flagged):
        return False
    told, keys = _Told(log), [entry.key for entry in entries]
    last = dict(zip(keys, range(len(keys)), strict=True))
    first = dict(zip(reversed(keys), reversed(range(len(keys))), strict=True))
    for key in last:
        place = first[key]
        _keep(entries[place], place + 1, log, told)
        if place in lists and log.values.get(key) == []:
            log.values[key], log.lengths[key] = None, _length(lists[place])
        if place != last[key] and key.startswith(ONCE):
            _repeated(key, last[key] + 1, log, told)
    log.num_warnings = len(flagged)
    told.close()
    log.last, log.end_ms = keys[-1], entries[-1].time_ms
    return True


def _cut_lists(data: bytes) -> tuple[bytes, list[tuple[int, memoryview]]]:
    """Return a log without the lists that are too long to be kept, and what was in them, each with its line's place.

    LoadGen lists the samples of each set that it loads. To decode all those numbers would take most of the time.
    """
    view, texts, lists = memoryview(data), list[memoryview](), list[tuple[int, memoryview]]()
    place = done = begin = 0
    while (at := data.find(LIST, begin)) >= 0:
        begin = at + len(LIST)
        end = data.find(b"]", begin)
        if end - begin > LONGEST_VALUE:
            place += data.count(b"\n", done, begin)
            texts.append(view[done:begin])
            lists.append((place, view[begin:end]))
            done = begin = end
    return b"".join([*texts, view[done:]]), lists


def _are_numbers(lists: Iterable[memoryview]) -> bool:
    """Tell whether lists hold whole numbers and nothing else, without blanks, as JSON writes them."""
    import numpy as np

    chars = np.frombuffer(b",".join([b"", *lists, b""]), np.uint8)
    for begin in range(0, len(chars), BLOCK_CHARS):
        block = chars[begin : begin + BLOCK_CHARS + 2]  # what is wrong shows in at most three characters
        commas = block == ord(",")
        digits = block - np.uint8(ord("0")) < 10  # whatever is less than "0" is far above after that
        if np.count_nonzero(commas) + np.count_nonzero(digits) < len(block) or (commas[1:] & commas[:-1]).any():
            return False
        if (commas[:-2] & (block[1:-1] == ord("0")) & digits[2:]).any():
            return False
    return True


def _length(numbers: memoryview) -> int:
    import numpy as np

    return int(np.count_nonzero(np.frombuffer(numbers, np.uint8) == ord(","))) + 1


def _read_lines(root: Path, log: Log) -> Log:
    with sight.open_plain(root, log.file) as lines:
        told, number = _Told(log), 0
        while line := lines.readline(LONGEST_LINE):
            number += 1
            if not line.endswith(b"\n"):
                if len(line) >= LONGEST_LINE:
                    told.tell(rulebook.LOG_BROKEN.at(log.file, number, found=f"more than {LONGEST_LINE:,} bytes"))
                    break
                told.tell(rulebook.LOG_CUT.at(log.file, number, found="no end of the line", expected="a whole line"))
            _read_line(line, number, log, told)
        told.close()
    return log


def _read_line(line: bytes, number: int, log: Log, told: _Told) -> None:
    if not line.startswith(MARK):
        if line.strip():
            rule = rulebook.LOG_BINARY if b"\0" in line else rulebook.LOG_BROKEN
            text = line[:80].decode("utf-8", "replace").strip()
            told.tell(rule.at(log.file, number, found=text, expected=f"{MARK.decode()}{{...}}"))
        return
    try:
        entry = DECODE_RAW(line[len(MARK) :])
    except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
        told.tell(rulebook.LOG_BROKEN.at(log.file, number, found=error, expected="a whole record"))
        return
    _flag(entry, number, log)
    if entry.key not in log.values:
        _keep(entry, number, log, told)
    elif entry.key.startswith(ONCE):
        _repeated(entry.key, number, log, told)
    log.last, log.end_ms = entry.key, entry.time_ms


def _flag(entry: _RawLine, number: int, log: Log) -> None:
    if entry.metadata.is_error:
        log.num_errors += 1
        if len(log.errors) < MOST_TOLD:
            said = bytes(memoryview(entry.value)[:200]).decode("utf-8", "replace")
            log.errors.append(f"line {number}, {entry.key}: {said}")
    log.num_warnings += entry.metadata.is_warning


def _repeated(key: str, number: int, log: Log, told: _Told) -> None:
    told.tell(rulebook.LOG_REPEATED.at(log.file, number, found=f"{key} once more", expected="once"))


def _keep(entry: _Line | _RawLine, number: int, log: Log, told: _Told) -> None:
    """Keep the first value of a key, of a long list only how long it is."""
    if len(log.values) >= MOST_KEYS:
        return
    key, value = entry.key, entry.value
    if isinstance(value, msgspec.Raw):
        raw, value = memoryview(value), None
        if len(raw) <= LONGEST_VALUE:
            try:
                value = VALUE(raw)
            except (ValueError, RecursionError) as error:
                told.tell(rulebook.LOG_BROKEN.at(log.file, number, found=error, expected="a whole record"))
        elif raw[0] == ord("["):
            log.lengths[key] = bytes(raw).count(b",") + 1
    log.lines[key], log.values[key] = number, value
    if isinstance(value, list):
        log.lengths[key] = len(value)


# The summary

TITLE = "MLPerf Results Summary"
NONE = {"No errors encountered during test.": "ERROR", "No warnings encountered during test.": "WARNING"}
COUNTED = re.compile(r"(\d{1,18})\d* (ERROR|WARNING)S? encountered", re.IGNORECASE)
LONGEST_NAME = 80  # characters


@dataclass
class Summary:
    """What a summary says, by its words, each with its line: the first of each name, and what others say otherwise."""

    file: str
    values: dict[str, str] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    others: list[tuple[str, str, int]] = field(default_factory=list)  # names with another value, and their lines
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
            if colon and 0 < len(name) <= LONGEST_NAME:
                _say(summary, name, value.lstrip(), number)
    summary.title = TITLE in (text or "")
    return summary


def _say(summary: Summary, name: str, value: str, number: int) -> None:
    if name not in summary.values:
        summary.values[name], summary.lines[name] = value, number
    elif value != summary.values[name]:
        summary.others.append((name, value, number))
