"""Strata and primary sampling units of a household recode.

hv021 is the primary sampling unit. hv022 is labelled the stratum for sampling errors and hv023 the stratification of
the sample design; surveys differ in which of them they fill in, so the first that can be a stratification is taken. A
survey's final report has the last word.
"""

from __future__ import annotations

import pandas as pd

from geopov.survey.files.tables import as_ids

MIN_UNITS = 2
"""Primary sampling units that a stratum needs for its variance to be estimated."""


def add_design(table: pd.DataFrame, raw: pd.DataFrame, *, origin: str) -> pd.DataFrame:
    """``table`` with ``psu`` and ``stratum`` as text, and a note in ``attrs["notes"]`` on where they are from.

    Parameters
    ----------
    table : DataFrame
        One row a household, with ``cluster``, ``region`` and ``urban``.
    raw : DataFrame
        The recode's variables, on the same index.
    origin : str
        The file, for messages.
    """
    notes = []
    psu = raw["hv021"] if "hv021" in raw and raw["hv021"].notna().all() else None
    if psu is None:
        notes.append("no primary sampling units (hv021): the clusters (hv001) are taken for them.")
    units = as_ids(table["cluster"] if psu is None else psu, origin)
    stratum = None
    for column in ("hv022", "hv023"):
        if column in raw and _can_be_strata(raw[column], units):
            stratum = as_ids(raw[column], origin)
            break
    if stratum is None and table["region"].notna().all():
        residence = table["urban"].map({True: "urban", False: "rural"})
        if residence.notna().all():
            stratum = table["region"] + " " + residence
            notes.append("no strata (hv022, hv023): region by urban and rural is taken for them.")
    if stratum is None:
        notes.append("no strata (hv022, hv023): standard errors take the survey as one stratum.")
        stratum = pd.Series("all", index=table.index)
    table = table.assign(psu=units, stratum=stratum.astype(object))
    table.attrs["notes"] = notes
    return table


def _can_be_strata(values: pd.Series, units: pd.Series) -> bool:
    """Whether the codes are known, more than one, and the same for all of a unit, with two units in most strata."""
    if values.isna().any() or values.nunique() < MIN_UNITS:
        return False
    per_unit = values.groupby(units).nunique()
    sizes = units.groupby(values).nunique()
    return bool((per_unit == 1).all() and (sizes >= MIN_UNITS).mean() > 0.5)
