"""Special codes of DHS recodes: which numbers of a variable are no values.

A recode writes nines for missing, eights for "don't know" and sevens for "inconsistent" or "not a de jure resident",
as wide as the variable: 9 in a yes/no, 99 in two digits, 999 in three (DHS Recode Manuals, dhsprogram.com). So 9 is no
answer to "has a radio?" and a real number of rooms. The value labels have the last word.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import pandas as pd

from geopov.survey.files.tables import as_number

# The whole label, not a word in it: "flush, don't know where" is a kind of toilet.
_NO_VALUE = re.compile(
    r"(\(m\)\s*)?("
    r"missing|manquant|don.?t know|does not know|do not know|doesn.?t know|dk|ne sait pas|nsp|no sabe|"
    r"no[nt]? (an? )?de[- ]?jure.*|inconsistent.*|not applicable|no answer|no response|refused|unknown"
    r")\.?(\s*/\s*(missing|don.?t know|dk))?",
    re.IGNORECASE,
)
_ON_PREMISES = re.compile(r"on (the )?premises|delivered", re.IGNORECASE)
ON_PREMISES = 996.0


def as_float(values: pd.Series, what: str) -> pd.Series:
    """A column as float64; only one of text has to be looked at value by value, which takes long on 200 columns."""
    if pd.api.types.is_numeric_dtype(values):
        return values.astype("float64")
    return as_number(values, what)


def says_no_value(label: str) -> bool:
    """Whether a value label stands for the absence of a value.

    >>> [says_no_value(text) for text in ("Missing", "Don't know", "not a dejure resident", "Flush, don't know where")]
    [True, True, True, False]
    """
    return _NO_VALUE.fullmatch(label.strip()) is not None


def special_codes(labels: Mapping[float, str], *, width: int) -> frozenset[float]:
    """Codes that are no values, by the labels and, for codes without a label, by the manual's rule of the width.

    Parameters
    ----------
    labels : mapping
        Code to label, as the file has them; empty where it has none.
    width : int
        Digits of the variable in the recode manual.

    Examples
    --------
    >>> sorted(special_codes({}, width=2))
    [97.0, 98.0, 99.0]
    >>> sorted(special_codes({97.0: "97 and over"}, width=2))
    [98.0, 99.0]
    """
    labelled = {float(code) for code, text in labels.items() if says_no_value(text)}
    meant = {float(code) for code in labels} - labelled
    by_width = {float(10**width - back) for back in (1, 2, 3)}
    return frozenset(labelled | (by_width - meant))


def without_special(values: pd.Series, labels: Mapping[float, str], *, width: int) -> pd.Series:
    """``values`` (float) with the special codes as NaN."""
    return values.where(~values.isin(special_codes(labels, width=width)))


def yes_no(values: pd.Series, labels: Mapping[float, str]) -> tuple[pd.Series, dict[float, int]]:
    """A one-digit yes/no variable as 1, 0 and NaN, and how often each code occurs that neither manual nor label knows.

    A has-item variable is 7 for visitors ("not a de jure resident"), 8 or 9 where nobody answered.
    """
    known = {0.0, 1.0} | special_codes(labels, width=1)
    odd = values[values.notna() & ~values.isin(known)]
    counts = {float(code): int((odd == code).sum()) for code in np.sort(odd.unique())}
    return values.where(values.isin([0.0, 1.0])), counts


def water_minutes(values: pd.Series, labels: Mapping[float, str]) -> pd.Series:
    """hv204, the round trip to the water in minutes; 0 where the water is on the premises (996 or so labelled)."""
    at_home = {float(code) for code, text in labels.items() if _ON_PREMISES.search(text)}
    at_home |= {ON_PREMISES} - {float(code) for code in labels}
    known = without_special(values, labels, width=3)
    known = known.mask(values.isin(at_home), 0.0)
    # A whole day is 1440 minutes, which three digits cannot hold: what a label stands for above 900 is no duration.
    other = {float(code) for code in labels if code >= 900} - at_home
    return known.where(~known.isin(other)).astype(float)


def labelled_text(values: pd.Series, labels: Mapping[float, str]) -> pd.Series:
    """Codes as their labels, stripped; the code itself as text where it has none; None where missing."""
    texts = {float(code): text.strip() for code, text in labels.items()}

    def text(code: float) -> str | None:
        if np.isnan(code):
            return None
        return texts.get(code) or f"{code:.15g}"

    unique = {code: text(code) for code in values.unique()}
    return values.map(unique).astype(object).where(values.notna(), None)
