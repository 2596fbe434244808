"""Renders what will be done into files that are then run as they are: engine.json, user.conf, harness.json, run.sh."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from engineroom.config import RunConfig
from engineroom.errors import RequestError, shown
from engineroom.paths import CONFIGS, TEMPLATES, display, sha256_file
from engineroom.terms import Scenario

NANOSECONDS_PER_MILLISECOND = 1e6


def template(name: str, system: str) -> Path:
    """Return the template `name`: the system's own in configs/<system>/templates, else ours."""
    own = CONFIGS / system / "templates" / f"{name}.j2"
    return own if own.is_file() else TEMPLATES / f"{name}.j2"


def digest(name: str, system: str) -> str:
    """Return the SHA-256 of the template, for the keys of what is made from it."""
    return sha256_file(template(name, system))


def render(name: str, system: str, values: Mapping[str, Any]) -> str:
    """Return the rendered recipe.

    Raises RequestError with the template's file:line for a value that it wants and does not get, or cannot render.
    """
    import jinja2

    path = template(name, system)
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True, autoescape=False)
    environment.filters["sh"] = _sh
    environment.filters["word"] = _word
    environment.filters["tojson"] = _json
    try:
        return environment.from_string(path.read_text(encoding="utf-8")).render(values)
    except Exception as error:  # a template can raise whatever an expression can
        line = getattr(error, "lineno", None) or _line(error.__traceback__)
        where = f"{display(path)}:{line}" if line else display(path)
        what, mend = (error.what, error.mend) if isinstance(error, RequestError) else (str(error), None)
        raise RequestError(f"cannot be rendered: {what}", where=where, mend=mend) from None


def _line(trace: TracebackType | None) -> int | None:
    """Return the line of the template where an error came up: Jinja2 puts it into the traceback."""
    line = None
    while trace:
        if trace.tb_frame.f_code.co_filename == "<template>":
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


def loadgen_settings(config: RunConfig) -> dict[str, int | float]:
    """Return the keys and values of user.conf that this run sets; LoadGen's own values hold for the rest.

    Names and units are those of LoadGen 6.0, `test_settings_internal.cc`, FromConfig.
    """
    wanted: dict[str, int | float | None] = {
        "min_duration": config.min_duration,
        "max_duration": config.max_duration,
        "min_query_count": config.min_query_count,
        "max_query_count": config.max_query_count,
        "performance_sample_count_override": config.performance_sample_count,
    }
    match config.scenario:
        case Scenario.SINGLE_STREAM:
            wanted["target_latency"] = _milliseconds(config.single_stream_expected_latency_ns)
        case Scenario.MULTI_STREAM:
            wanted["target_latency"] = _milliseconds(config.multi_stream_expected_latency_ns)
        case Scenario.SERVER:
            wanted["target_latency"] = _milliseconds(config.server_target_latency_ns)
            wanted["target_qps"] = config.server_target_qps
        case Scenario.OFFLINE:
            wanted["target_qps"] = config.offline_expected_qps
    return {key: value for key, value in wanted.items() if value is not None}


def _milliseconds(nanoseconds: int | None) -> float | int | None:
    if nanoseconds is None:
        return None
    milliseconds = nanoseconds / NANOSECONDS_PER_MILLISECOND
    return int(milliseconds) if milliseconds.is_integer() else milliseconds


def _sh(value: object) -> str:
    """Quote for a POSIX shell."""
    text = str(value)
    if "\0" in text:
        raise RequestError(f"{shown(text)} cannot stand in a shell script: it holds a zero byte")
    return shlex.quote(text)


def _word(value: object) -> str:
    """Pass plain words only: for places where neither JSON nor shell quoting exists."""
    text = str(value)
    if not re.fullmatch(r"[A-Za-z0-9._+-]+", text):
        raise RequestError(f"{shown(text)} cannot stand in a recipe", mend="use letters, digits, '.', '_', '-' and '+'")
    return text


def _json(value: object) -> str:
    import jinja2
    import msgspec

    if isinstance(value, jinja2.Undefined):
        str(value)  # a StrictUndefined raises here and names the variable
    return msgspec.json.encode(value).decode()
