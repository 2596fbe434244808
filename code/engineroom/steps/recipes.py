"""Renders what will be done into files that are then run as they are: engine.json, user.conf, harness.json, run.sh."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from engineroom.config import RunConfig, fields
from engineroom.errors import RequestError, shown
from engineroom.paths import CONFIGS, TEMPLATES, display, layers, overlays, sha256_file


def template(name: str, system: str) -> Path:
    """Return the template `name`: the system's own in configs/<system>/templates, else an overlay's, else ours.

    Of several of a kind the strongest overlay's counts.
    """
    owned = [folder / system / "templates" for folder in layers(CONFIGS)]
    shared = [root / TEMPLATES.name for root in overlays()]
    found = [path for folder in (*shared, *owned) if (path := folder / f"{name}.j2").is_file()]
    return found[-1] if found else TEMPLATES / f"{name}.j2"


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

    The fields say their keys, those of LoadGen 6.0, `test_settings_internal.cc`, FromConfig. Latencies are in ms there.
    """
    found: dict[str, int | float] = {}
    for name in fields.settable():
        about, value = fields.about(name), getattr(config, name)
        if about.loadgen and value is not None and config.scenario in (about.scenarios or (config.scenario,)):
            number = int(value) if isinstance(value, bool) else value
            found[about.loadgen] = _milliseconds(number) if about.unit == "ns" else number
    return found


def _milliseconds(nanoseconds: int) -> float | int:
    milliseconds = nanoseconds / fields.NANOSECONDS_PER_MILLISECOND
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
