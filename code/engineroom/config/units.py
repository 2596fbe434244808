"""Numbers with a unit, as people write them: "10 min" for a field in milliseconds."""

from __future__ import annotations

import re
from decimal import Decimal

# Each dimension's units in terms of one of them.
DIMENSIONS: dict[str, dict[str, Decimal]] = {
    "time": {
        "ns": Decimal(1),
        "us": Decimal(10**3),
        "ms": Decimal(10**6),
        "s": Decimal(10**9),
        "min": Decimal(60 * 10**9),
        "h": Decimal(3600 * 10**9),
    },
    "rate": {"samples/s": Decimal(1), "qps": Decimal(1)},
    "count": {"samples": Decimal(1), "queries": Decimal(1)},
    "memory": {
        "B": Decimal(1),
        **{f"{letter}B": Decimal(1000**power) for power, letter in enumerate("kMGT", 1)},
        **{f"{letter}iB": Decimal(1024**power) for power, letter in enumerate("KMGT", 1)},
    },
}

NUMBER = r"[+-]?[0-9]{1,30}(?:\.[0-9]{1,30})?(?:[eE][+-]?[0-9]{1,3})?"
_WITH_UNIT = re.compile(rf"({NUMBER})\s*([A-Za-zµ/]{{1,10}})", re.ASCII)


def of_the_same_kind(unit: str) -> tuple[str, ...]:
    """Return the units that convert to `unit`, itself included; none for a unit that is not known here."""
    return next((tuple(units) for units in DIMENSIONS.values() if unit in units), ())


def in_unit(text: str, unit: str) -> int | float | None:
    """Return the number that `text` ("1.5 s") says, in `unit`; whole numbers as int. None if it is no number with unit.

    Raises ValueError for a unit that does not convert to `unit`.
    """
    match = _WITH_UNIT.fullmatch(text.strip().replace("µ", "u"))
    if not match:
        return None
    number, given = match.groups()
    factors = next((units for units in DIMENSIONS.values() if unit in units), {})
    if given not in factors:
        known = ", ".join(factors)
        wanted = f"but is measured in {known}" if known else "must be a plain number"
        raise ValueError(f"is {text.strip()!r}, {wanted}")
    value = Decimal(number) * factors[given] / factors[unit]
    return int(value) if value == value.to_integral_value() and abs(value) < 10**18 else float(value)


def written(value: float, unit: str) -> str:
    """Return a number with its unit for a reader: "1 sample", "24,576 queries", "0.5 s"."""
    singular = {"samples": "sample", "queries": "query"}
    number = f"{value:,}" if isinstance(value, int) else f"{value:,.10g}"
    return f"{number} {singular.get(unit, unit) if value == 1 else unit}".rstrip()
