"""Numbers as a reader meets them: with their interval and unit, a true minus sign, and a dash for what is not known."""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import floor, log10
from typing import Any

from markupsafe import Markup

COLUMNS = {
    "R2": "R²",
    "r2_pearson": "r²",
    "rmse": "RMSE",
    "mae": "MAE",
    "spearman": "Spearman",
    "slope": "slope",
    "intercept": "intercept",
    "sd_ratio": "SD ratio",
    "recall_poorest_fifth": "lowest fifth found",
    "recall_poorest_tenth": "lowest tenth found",
}
"""Headings of the scores, in the order a table shows them."""
_IN_UNIT = {"rmse", "mae", "intercept"}
"""Scores in the outcome's unit, whose size decides how many digits are worth showing; the others are near 1."""


def number(value: float | None, digits: int = 2) -> str:
    """A number with so many decimals; an en dash for none."""
    if value is None:
        return "–"
    # Adding zero to the rounded value takes the sign off a negative zero.
    return f"{round(value, digits) + 0.0:,.{digits}f}".replace("-", "−")


def signed(value: float | None, digits: int = 2) -> str:
    """A difference: as :func:`number`, with a plus sign where it is above zero."""
    text = number(value, digits)
    return f"+{text}" if value is not None and round(value, digits) > 0 else text


def decimals(*values: float | None, significant: int = 3) -> int:
    """Decimals that show so many significant digits of the largest value; none for values of 100 or more."""
    size = max((abs(value) for value in values if value is not None), default=0.0)
    return 2 if size == 0 else max(0, significant - 1 - floor(log10(size)))


def quantity(value: float | None, unit: str = "", *, significant: int = 2) -> str:
    """A value in the outcome's unit."""
    text = number(value, decimals(value, significant=significant))
    return text if value is None else f"{text} {unit}".rstrip()


def percent(value: float | None) -> str:
    """A share in whole per cent."""
    return "–" if value is None else f"{number(100 * value, 0)}%"


def percent_interval(low: float | None, high: float | None) -> str:
    """The interval of a share, to follow it in a sentence; nothing where there is none."""
    return "" if low is None or high is None else f" (95% interval {percent(low)} to {percent(high)})"


def heading(name: str, unit: str = "") -> str:
    """Heading of a score's column, with the unit where it has one."""
    text = COLUMNS.get(name, name)
    return f"{text} ({unit})" if unit and name in _IN_UNIT else text


def with_interval(row: Mapping[str, Any], name: str) -> str:
    """A score over its 95% interval, for a cell of a table."""
    value, low, high = row[name], row.get(f"{name}_low"), row.get(f"{name}_high")
    digits = decimals(row["rmse"]) if name in _IN_UNIT else 2
    return _two_lines(number(value, digits), [number(end, digits) for end in (low, high)], value, low, high)


def difference(row: Mapping[str, Any]) -> str:
    """A paired difference over its 95% interval, for a cell of a table."""
    value, low, high = row["difference"], row["low"], row["high"]
    digits = decimals(value, low, high, significant=2) if row["score"] in _IN_UNIT else 2
    return _two_lines(signed(value, digits), [signed(end, digits) for end in (low, high)], value, low, high)


def _two_lines(text: str, ends: list[str], *values: float | None) -> str:
    if any(value is None for value in values):
        return text
    return Markup("{}<br><small>{} to {}</small>").format(text, *ends)


def pretty(value: Any) -> str:
    """JSON text or a value, indented for reading."""
    try:
        value = json.loads(value) if isinstance(value, str) else value
    except json.JSONDecodeError:
        return str(value)
    return value if isinstance(value, str) else json.dumps(value, indent=1, ensure_ascii=False, sort_keys=True)


FILTERS = {
    "number": number,
    "signed": signed,
    "decimals": decimals,
    "percent": percent,
    "percent_interval": percent_interval,
    "quantity": quantity,
    "with_interval": with_interval,
    "difference": difference,
    "heading": heading,
    "pretty": pretty,
}
