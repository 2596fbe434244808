"""Parses RUN_ARGS, strictly: an unknown flag or name is refused, with the nearest known one."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from engineroom import legacy, registry
from engineroom.config import fields
from engineroom.config.layers import VARIABLE
from engineroom.config.values import convert
from engineroom.errors import Mistakes, RequestError, did_you_mean, plain, shown
from engineroom.terms import Scenario, TestMode

WHERE = "RUN_ARGS"

# Flags that are no settings of a run. A flag with a False default is a switch: it takes no value.
LISTS = {
    "benchmarks": "comma list of benchmarks; default: all whose model and data are here",
    "scenarios": "comma list of scenarios; default: all that the benchmark has",
    "test_mode": "comma list of LoadGen test modes; default: PerformanceOnly,AccuracyOnly",
}
SYSTEM = {"system": "id of the system whose settings count; default: this machine's"}
SWITCHES = {
    "no_build": "use engines, calibration and harness as they are; fail if one is missing",
    "force": "make engines, calibration and data again even if nothing changed",
    "plan": "print what would be made, reused and run, with time, disk and memory; do nothing",
    "test_run": "shorten performance tests to about a minute, Offline to fewer samples; cannot be submitted",
    "explain": "say for each thing why it was reused or made",
    "verbose": "show every command that is run",
    "json": "print JSON instead of a table",
    "help": "list the flags",
}


# Flags with a value that may also stand alone, and what they say then.
BARE = {"compare_observers": "all", "rehearsal": "true"}


MANY = 1_000_000_000  # more than anybody asks for

# How the flags, benchmarks and scenarios begin that MLPerf has and this version has not, without punctuation: the
# nearest known name would lead astray.
_NOT_YET = (
    *("power", "gpu", "dla", "interactive", "llama", "mixtral", "gptj", "gptoss", "deepseek", "whisper"),
    *("bert", "rnnt", "retinanet", "3dunet", "stablediffusion", "sdxl", "dlrm", "rgat", "pointpainting"),
    *("mainbenchmark", "mainscenario", "mainaction", "background", "starttimebuffer", "endtimebuffer", "lenient"),
)


# Flags of NVIDIA's that take no value.
_SWITCHES_OF_NVIDIA = {name for name, values in legacy.FLAGS.items() if "" in values}

# Variables of the environment that are ours and set no field.
NO_FIELDS = ("ENGINEROOM_PATH", "ENGINEROOM_TRACEBACK", "ENGINEROOM_PARENT_PID")


class Help(Exception):  # noqa: N818  (no error: it ends a task that was only asked what it does)
    """RUN_ARGS holds --help. `flags` are the task's, each as it is typed, with its meaning."""

    def __init__(self, flags: Mapping[str, str]) -> None:
        super().__init__("--help")
        self.flags = dict(flags)


@dataclass(frozen=True)
class Request:
    """What RUN_ARGS asks for.

    `overrides` holds the text of every config field that was given as a flag, `environment` of those that have a
    variable. `notes` say what flags of NVIDIA's were taken for.
    """

    benchmarks: tuple[str, ...] = ()
    scenarios: tuple[Scenario, ...] = ()
    test_modes: tuple[TestMode, ...] = (TestMode.PERFORMANCE_ONLY, TestMode.ACCURACY_ONLY)
    no_build: bool = False
    force: bool = False
    plan: bool = False
    test_run: bool = False
    explain: bool = False
    verbose: bool = False
    json: bool = False
    help: bool = False
    system: str | None = None
    overrides: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    extras: Mapping[str, str] = field(default_factory=dict)  # flags that only this task has


def split(text: str) -> list[str]:
    """Split RUN_ARGS as a shell would, running nothing. Raises RequestError for an open quote."""
    try:
        return shlex.split(text)
    except ValueError as error:
        raise RequestError(f"cannot be split into flags: {str(error).lower()}", where=WHERE) from None


def parse(
    argv: Sequence[str], environ: Mapping[str, str] | None = None, extras: Mapping[str, str] | None = None
) -> Request:
    """Return the request of a task that acts on benchmarks. Raises Mistakes with every mistake at once.

    `environ` is the environment, where ENGINEROOM_<FIELD> sets a field that no flag sets. `extras` are flags with a
    value that only this task has, each with its meaning.
    """
    mistakes: list[RequestError] = []
    notes: list[str] = []
    given = _pairs(argv, extras or {}, mistakes, notes)
    added = {name: given.pop(name) or "" for name in extras or () if name in given}
    request = {name: _switch(name, given.pop(name), mistakes) for name in SWITCHES if name in given}
    lists = {name: _items(given.pop(name)) for name in LISTS if name in given}
    benchmarks = _known(lists.get("benchmarks", []), "benchmark", list(registry.find("benchmarks")), mistakes)
    scenarios = _known(lists.get("scenarios", []), "scenario", [item.value for item in Scenario], mistakes)
    modes = _known(lists.get("test_mode", []), "test mode", [item.value for item in TestMode], mistakes)
    for name, what in LISTS.items():
        if name in lists and not lists[name]:
            mistakes.append(RequestError("is empty", where=f"{WHERE}: --{name}", mend=f"give a {what.split(';')[0]}"))
    system = given.pop("system", None)
    if system is not None and not system.strip():
        mistakes.append(RequestError("is empty", where=f"{WHERE}: --system", mend="leave it out, or name a system"))
    overrides = {name: text for name, text in given.items() if text is not None}
    environment = _variables(environ or {}, mistakes)
    for texts, where in ((overrides, f"{WHERE}: --{{}}"), (environment, f"{VARIABLE}{{}}")):
        for name, text in texts.items():
            try:
                convert(name, text, from_text=True)
            except ValueError as error:
                place = where.format(name if texts is overrides else name.upper())
                mistakes.append(RequestError(str(error), where=place))
    if mistakes:
        raise Mistakes(mistakes)
    return Request(
        benchmarks=tuple(benchmarks),
        scenarios=tuple(Scenario(name) for name in scenarios),
        test_modes=tuple(TestMode(name) for name in modes) or Request.test_modes,
        system=system,
        overrides=overrides,
        environment=environment,
        notes=tuple(notes),
        extras=added,
        **request,
    )


def _variables(environ: Mapping[str, str], mistakes: list[RequestError]) -> dict[str, str]:
    """Return the fields that the environment sets; an empty variable counts as none."""
    known = {f"{VARIABLE}{name.upper()}": name for name in fields.settable()}
    found = {}
    for variable, text in environ.items():
        if variable in known and text:
            found[known[variable]] = text
        elif variable.startswith(VARIABLE) and variable not in known and variable not in NO_FIELDS:
            flag = variable.removeprefix(VARIABLE).lower()
            known_flag = flag in flags() and f"only a flag says that: --{flag}"
            mend = known_flag or did_you_mean(variable, [*known, *NO_FIELDS])
            mistakes.append(RequestError(f"unknown variable {plain(variable)}", where="environment", mend=mend))
    return found


def options(argv: Sequence[str], meanings: Mapping[str, str]) -> dict[str, str | None]:
    """Parse the flags of a task that does not act on benchmarks. Raises Mistakes; Help if that is asked for.

    `meanings` maps each flag as it is typed, "extra=NAME" or "json", to its meaning. Returns those given, by their
    names; a switch has None.
    """
    known = {name: value for name, _, value in (flag.partition("=") for flag in meanings)}
    if "help" not in known and asks_help(argv):
        raise Help(meanings)
    given: dict[str, str | None] = {}
    mistakes: list[RequestError] = []
    for name, value in _split_flags(argv, mistakes, {name for name, value in known.items() if not value}):
        if name not in known:
            mistakes.append(_unknown(name, known))
        elif name in given:
            mistakes.append(RequestError("is given twice", where=f"{WHERE}: --{name}"))
        elif (not known[name]) != (value is None):
            wanted = f"needs a value: --{name}={known[name]}" if known[name] else "takes no value"
            mistakes.append(RequestError(wanted, where=f"{WHERE}: --{name}"))
        given[name] = value
    if mistakes:
        raise Mistakes(mistakes)
    return given


def whole_number(request: Request, flag: str, default: int) -> int:
    """Return the number that a task's own flag says. Raises RequestError if it is none from 1 on."""
    text = request.extras.get(flag, f"{default}")
    if not text.isdecimal() or not 1 <= int(text) <= MANY:
        raise RequestError(f"is {shown(text)}, must be a whole number from 1 to {MANY:,}", where=f"{WHERE}: --{flag}")
    return int(text)


def asks_help(argv: Sequence[str]) -> bool:
    """Tell whether --help is among the words."""
    return any(word.partition("=")[0] == "--help" for word in argv)


def flags() -> dict[str, str]:
    """Return every flag of a task that acts on benchmarks with its meaning, for --help."""
    settings = {}
    for name in fields.settable():
        unit = fields.about(name).unit
        settings[name] = f"{fields.in_short(name)} [{unit}]" if unit else fields.in_short(name)
    return {**LISTS, **SYSTEM, **SWITCHES, **settings}


def _pairs(
    argv: Sequence[str], extras: Mapping[str, str], mistakes: list[RequestError], notes: list[str]
) -> dict[str, str | None]:
    known = {**flags(), **extras}
    given: dict[str, str | None] = {}
    typed: dict[str, str] = {}  # by our name of a flag: the one that was typed
    words = _split_flags(argv, mistakes, {*SWITCHES, *_SWITCHES_OF_NVIDIA})
    for name, value, flag in _of_nvidia(words, extras, mistakes, notes):
        if name not in known:
            mistakes.append(_unknown(name, known))
        elif name in given:
            both = None if typed[name] == flag else f"{typed[name]} and {flag} say the same thing: leave one out"
            mistakes.append(RequestError("is given twice", where=f"{WHERE}: --{name}", mend=both))
        elif value is None and name in BARE:
            given[name] = BARE[name]
        elif value is None and _is_switch(name):
            given[name] = None if name in SWITCHES else "true"
        elif value is None:
            mistakes.append(RequestError("needs a value", where=f"{WHERE}: --{name}", mend=f"--{name}=VALUE"))
        else:
            given[name] = value
        typed.setdefault(name, flag)
    return given


def _of_nvidia(
    given: Sequence[tuple[str, str | None]], extras: Mapping[str, str], mistakes: list[RequestError], notes: list[str]
) -> Iterator[tuple[str, str | None, str]]:
    """Turn flags of NVIDIA's into ours and say so; refuse those that have no counterpart, in words.

    Yields our name, the value, and the flag as it was typed.
    """
    for name, value in given:
        if name in legacy.FIELDS:
            notes.append(f"--{name} is --{legacy.FIELDS[name]} here")
            yield legacy.FIELDS[name], value, f"--{name}"
            continue
        if name in extras or name not in legacy.FLAGS:
            yield name, value, f"--{name}"
            continue
        values = legacy.FLAGS[name]
        flag, key = f"--{name}" + (f"={plain(value)}" if value else ""), (value or "").lower()
        known = [each for each in values if each not in ("", "*")]
        chosen = values.get(key) or (values.get("*") if value or not known else None)
        if chosen is None:
            mend = did_you_mean(key, known) if known else "leave the value out" if value else f"--{name}=VALUE"
            mistakes.append(RequestError(f"{flag} means nothing here", where=WHERE, mend=mend))
            continue
        ours, words = chosen
        if ours is None:
            mistakes.append(RequestError(f"{flag}: {words}", where=WHERE))
            continue
        notes.append(f"{flag} is {' '.join(ours)} here: {words}" if ours else f"{flag}: {words}")
        yield from ((each[2:].partition("=")[0], each.partition("=")[2] or None, flag) for each in ours)


def _is_switch(name: str) -> bool:
    return name in SWITCHES or (name in fields.settable() and fields.is_switch(name))


def _unknown(name: str, known: Mapping[str, object]) -> RequestError:
    if ours := fields.by_loadgen(name):
        mend = f"that is {' or '.join(f'--{each}' for each in ours)} here"
        return RequestError(f"unknown flag --{name}", where=WHERE, mend=mend)
    flags = [f"--{each}" for each in (*known, *legacy.FLAGS, *legacy.FIELDS)]
    mend = did_you_mean(f"--{name}", flags, otherwise="--help lists the flags")
    return _not_yet(f"--{name}") or RequestError(f"unknown flag {plain(f'--{name}')}", where=WHERE, mend=mend)


def _not_yet(name: str) -> RequestError | None:
    if not re.sub(r"[^a-z0-9]", "", name.lower()).startswith(_NOT_YET):
        return None
    return RequestError(f"{plain(name)} is not in this version of Engineroom", where=WHERE, mend="see README, Scope")


def _split_flags(argv: Sequence[str], mistakes: list[RequestError], switches: set[str]) -> list[tuple[str, str | None]]:
    """Accept --name=value, --name value, and --name alone for a switch."""
    found: list[tuple[str, str | None]] = []
    words = list(argv)
    while words:
        word = words.pop(0)
        if not word.startswith("--") or word == "--":
            mistakes.append(RequestError(f"{shown(word)} is no flag", where=WHERE, mend="flags look like --name=value"))
            continue
        name, equals, value = word[2:].partition("=")
        name = name.replace("-", "_")
        if equals:
            found.append((name, value))
        elif name not in switches and words and not words[0].startswith("--"):
            found.append((name, words.pop(0)))
        else:
            found.append((name, None))
    return found


def _switch(name: str, value: str | None, mistakes: list[RequestError]) -> bool:
    if value is None or value.lower() in ("true", "1", "yes"):
        return True
    if value.lower() not in ("false", "0", "no"):
        mistakes.append(RequestError(f"is {shown(value)}, must be true or false", where=f"{WHERE}: --{name}"))
    return False


def _items(text: str | None) -> list[str]:
    return [item.strip() for item in (text or "").split(",") if item.strip()]


def _known(items: Sequence[str], kind: str, known: Sequence[str], mistakes: list[RequestError]) -> list[str]:
    """Return `items` spelt as known, without doubles; "all" means every one."""
    named = [item for item in items if item.lower() != "all"]
    lowered = {name.lower(): name for name in known}
    for item in named:
        if item.lower() not in lowered:
            unknown = RequestError(f"unknown {kind} {shown(item)}", where=WHERE, mend=did_you_mean(item, known))
            mistakes.append(_not_yet(item) or unknown)
    if len(named) < len(items):
        return list(known)
    return list(dict.fromkeys(lowered[item.lower()] for item in named if item.lower() in lowered))
