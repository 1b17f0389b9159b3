"""The variables of a household recode under the field's names: assets, housing, size, weight, wealth.

Source: the DHS Recode Manuals of phases 3 to 7, dhsprogram.com.
"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from geopov._validation import some
from geopov.errors import SurveyError
from geopov.survey.assets.housing import floor, fuel, toilet, water
from geopov.survey.dhs.codes import labelled_text, water_minutes, without_special, yes_no
from geopov.survey.dhs.names import DhsName

WEIGHT_UNITS = 1_000_000.0
SCORE_UNITS = 100_000.0
"""hv005 has 6 implied decimals, hv271 has 5."""

ASSETS = {
    "electricity": "hv206",
    "radio": "hv207",
    "television": "hv208",
    "refrigerator": "hv209",
    "bicycle": "hv210",
    "motorcycle": "hv211",
    "car": "hv212",
    "landline": "hv221",
    "mobile_phone": "hv243a",
    "animal_cart": "hv243c",
    "computer": "hv243e",
    "toilet_shared": "hv225",
}
VARIABLES = (
    *("hv001", "hv002", "hv005", "hv007", "hv008", "hv009", "hv012", "hv015", "hv021", "hv022", "hv023", "hv024"),
    *("hv025", "hv201", "hv204", "hv205", "hv213", "hv216", "hv226", "hv270", "hv271", *ASSETS.values()),
)
"""All that are read; a phase that lacks one leaves what is made of it missing."""

_TWO_DIGITS = ("hv009", "hv012", "hv201", "hv205", "hv213", "hv216", "hv226")

Labels = Mapping[str, Mapping[float, str]]


def household_variables(raw: pd.DataFrame, labels: Labels, *, name: DhsName) -> pd.DataFrame:
    """The columns of the table of households that follow from one household's own variables.

    Parameters
    ----------
    raw : DataFrame of float
        The recode's :data:`VARIABLES`, as far as it has them.
    labels : mapping
        Value labels (code to text) of each variable.
    name : DhsName
        Its phase says how codes without a telling label are to be read.

    Returns
    -------
    DataFrame
        On the index of ``raw``; ``attrs["notes"]`` lists what a person must know.

    Raises
    ------
    SurveyError
        If the weights are not in millionths.
    """
    values = raw.reindex(columns=list(VARIABLES))
    of = {column: labels.get(column, {}) for column in VARIABLES}
    clean = {column: without_special(values[column], of[column], width=2) for column in _TWO_DIGITS}
    assets, notes = _assets(values, of)
    size = clean["hv009"].where(clean["hv009"] > 0, clean["hv012"].where(clean["hv012"] > 0))
    minutes = water_minutes(values["hv204"], of["hv204"])
    quintile = values["hv270"]
    table = pd.DataFrame(
        {
            "urban": values["hv025"].map({1.0: True, 2.0: False}).astype(object),
            "region": labelled_text(values["hv024"], of["hv024"]),
            "weight": _weight(values["hv005"]),
            "household_size": size,
            "wealth_score": _score(values["hv271"], of["hv271"]),
            "wealth_quintile": quintile.where(quintile.isin([1, 2, 3, 4, 5])),
            **assets,
            "phone": _either(assets["landline"], assets["mobile_phone"]),
            "rooms": clean["hv216"],
            "rooms_per_person": clean["hv216"] / size,
            "water_minutes": minutes,
        }
    )
    # The codes of phases 5 to 8 are one scheme; before, 21 was a well in the residence and not a tube well.
    standard = name.phase >= "5"
    housing = {
        "hv213": floor(clean["hv213"], of["hv213"], standard=standard),
        "hv201": water(clean["hv201"], of["hv201"], minutes=minutes, standard=standard),
        "hv205": toilet(clean["hv205"], of["hv205"], shared=assets["toilet_shared"], standard=standard),
        "hv226": fuel(clean["hv226"], of["hv226"], standard=standard),
    }
    for column, ranked in housing.items():
        unplaced = [f"{item['code']:g} {item['label']} (n={item['n']})" for item in ranked.attrs["unplaced"]]
        if unplaced:
            notes.append(f"{column} has codes that could not be ranked, taken as missing: {some(unplaced, 10)}.")
        ranked.attrs = {}
    table = pd.concat([table, *housing.values()], axis=1)
    table.attrs["notes"] = notes
    return table


def _assets(values: pd.DataFrame, labels: Labels) -> tuple[dict[str, pd.Series], list[str]]:
    assets, notes = {}, []
    for asset, column in ASSETS.items():
        assets[asset], odd = yes_no(values[column], labels[column])
        notes += [
            f"{column} ({asset}) has code {code:g} ({labels[column].get(code, 'no label')}) in {n} households, "
            "which the recode manual does not know: taken as missing."
            for code, n in odd.items()
        ]
    absent = [f"{asset} ({column})" for asset, column in ASSETS.items() if values[column].isna().all()]
    if absent:
        notes.append(f"not asked in this survey: {', '.join(absent)}.")
    return assets, notes


def _weight(values: pd.Series) -> pd.Series:
    # Weights average one household, so a million before the decimal point is put in.
    if values.max() < WEIGHT_UNITS / 1000:
        raise SurveyError(
            f"the largest hv005 is {values.max():g}; expected weights times 1,000,000, with a mean of about that. "
            "Use the file as the DHS Program distributes it."
        )
    return values / WEIGHT_UNITS


def _score(values: pd.Series, labels: Mapping[float, str]) -> pd.Series:
    known = without_special(values, labels, width=8)
    # Implied decimals are those of whole numbers; the scores of the separate wealth index files have their own.
    return known / SCORE_UNITS if (known.dropna() % 1 == 0).all() else known


def _either(landline: pd.Series, mobile: pd.Series) -> pd.Series:
    """1 where one of them is; where one is not asked in a survey at all, the other decides."""
    asked = [each for each in (landline, mobile) if each.notna().any()]
    if not asked:
        return landline
    both = pd.concat(asked, axis=1)
    has: pd.Series = (both == 1).any(axis=1)
    return has.astype(float).where(has | both.notna().all(axis=1))
