"""Housing as a ladder: what the floor, the water, the toilet and the cooking fuel of a household are worth.

Surveys name materials and facilities by codes whose meaning changes: 21 is a tube well in DHS phases 5 to 8, and a
well in the residence in phases 2 to 4. The words of the file's own value labels are therefore read first, and the
standard code only where there are none, or none that are known. The tables below say what each class is worth:

- its rank from 1 (worst) to 5 (best), in the spirit of Filmer & Pritchett (2001, Demography 38:115) and Yeh et al.
  (2020, Nat Commun 11:2583), whose indices rank housing by quality too; the ranks themselves are ours;
- its level (0 low, 1 medium, 2 high) in the International Wealth Index (Smits & Steendijk 2015, Soc Indic Res 122:65;
  globaldatalab.org/iwi/using). Water is high if bottled or piped into the premises, medium from a public tap, a
  protected well or a tanker, low from open wells, springs and surface water. Floors are high with parquet, carpet or
  tiles, medium with cement or raw wood, low with earth or dung. Toilets are high if a private flush, medium if public
  or an improved pit, low if a traditional pit, hanging or none. What that leaves open follows published applications
  to DHS and MICS files: boreholes and protected springs are medium; rain, carts and "other" are low. Sachets (medium)
  and wells of no stated kind (low) are our choice;
- whether it is improved, as the global Multidimensional Poverty Index counts it (Alkire, Kanagaratnam & Suppa 2020,
  OPHI MPI Methodological Note 49, after the SDG indicators 6.1.1 and 6.2.1): delivered and packaged water are
  improved, a flush to nobody knows where is not, a floor only fails if natural, and kerosene counts as clean because
  it is no solid fuel, although the WHO does not call it clean. As in its code, "other" is unimproved as a water source,
  toilet or floor, but is no solid fuel.

A class that says too little for one of these ("spring", "finished floor") has NaN there.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import pandas as pd

from geopov.errors import SurveyError
from geopov.survey.files.tables import as_number

NAN = float("nan")
_WHAT = "the housing of the survey"

MAX_WATER_MINUTES = 30.0
"""Round trip at which an improved source no longer counts, in the global MPI."""


class HousingClass(NamedTuple):
    """A kind of floor, water source, toilet or fuel: how labels and standard codes name it, and what it is worth."""

    name: str
    words: str
    codes: Collection[int]
    rank: float
    level: float
    improved: float


# The first class whose words occur in a label takes it, so narrow classes stand above wide ones.
FLOORS = (
    HousingClass("vinyl, asphalt, linoleum", r"vinyl|asphalt|\blino|\bpvc\b|plastic|rubber", (32,), 4, 2, 1),
    HousingClass("parquet, polished wood", r"parquet|\bpolished|laminate|varnish", (31,), 5, 2, 1),
    HousingClass("tiles, marble", r"\btile|ceramic|marble|terrazzo|mosaic|granite", (33,), 5, 2, 1),
    HousingClass("carpet", r"carpet|\brug", (35,), 4, 2, 1),
    HousingClass("cement", r"cement|concrete", (34,), 3, 1, 1),
    HousingClass("earth, sand, dung", r"\bearth|\bsand\b|\bdung|\bmud|\bclay|\bsoil|\bdirt|adobe", (11, 12), 1, 0, 0),
    HousingClass("wood planks", r"wood|plank|timber|\bboard", (21,), 2, 1, 1),
    HousingClass("palm, bamboo", r"palm|bamboo|\breed|\bcane\b", (22,), 2, 1, 1),
    HousingClass("stone, brick", r"\bstone|brick|gravel|\bblock", (), 2, 1, 1),
    HousingClass("natural floor", r"\bnatural", range(10, 20), 1, 0, 0),
    HousingClass("rudimentary floor", r"rudimentary", range(20, 30), 2, 1, 1),
    HousingClass("finished floor", r"\bfinished", range(30, 40), NAN, NAN, 1),
    HousingClass("other", r"^other( specify)?$", (96,), NAN, 0, 0),
)
_OPEN = r"unprotected|uncovered|not protected|non protected|\bopen\b|unimproved|traditional"
_SAFE = r"\bprotected|\bcovered|\bclosed\b|\bimproved"
_BORED = r"tube ?well|bore ?hole|bore well|\bpump"
WATERS = (
    HousingClass("bottled", r"bottle|mineral water|demijohn|\bgallon|refill", (71,), 5, 2, 1),
    HousingClass("sachet", r"sat?chet|water bag", (72,), 4, 1, 1),
    HousingClass("tanker truck", r"tanker|truck|bowser", (61,), 2, 1, 1),
    HousingClass("cart, vendor", r"\bcart|\bdrum|barrel|jerry|vendor|seller", (62,), 2, 0, 1),
    HousingClass("unprotected spring", rf"(?=.*spring).*({_OPEN})", (42,), 2, 0, 0),
    HousingClass("protected spring", rf"(?=.*spring).*({_SAFE})", (41,), 3, 1, 1),
    HousingClass("borehole", _BORED, (21,), 3, 1, 1),
    HousingClass("unprotected well", rf"(?=.*\bwell).*({_OPEN})", (32,), 2, 0, 0),
    HousingClass("protected well", rf"(?=.*\bwell).*({_SAFE})", (31,), 3, 1, 1),
    HousingClass("neighbour's tap", r"(?=.*(pipe|\btap|faucet)).*neighbo", (13,), 4, 1, 1),
    HousingClass(
        "public tap",
        r"stand ?pipe|stand ?post|kiosk|fountain|(?=.*(pipe|\btap|faucet)).*(public|commun|shared|outside)",
        (14,),
        4,
        1,
        1,
    ),
    HousingClass("piped into premises", r"\bpipe|\btap|faucet", (10, 11, 12), 5, 2, 1),
    HousingClass("rain", r"\brain", (51,), 3, 0, 1),
    HousingClass("spring", r"spring", (), 2, 0, NAN),
    HousingClass("well", r"\bwell", (), 2, 0, NAN),
    HousingClass(
        "surface water",
        r"surface|river|stream|\blake|\bpond|\bdams?\b|canal|irrigation|lagoon|marsh|swamp|creek",
        (43,),
        1,
        0,
        0,
    ),
    HousingClass("other", r"^other( specify)?$", (96,), NAN, 0, 0),
)
_FLUSH = r"(?<!without )(?<!\bno )(?<!\bnon )flush"
TOILETS = (
    HousingClass("none", r"\bno (facilit|toilet|latrine)|\bbush|\bfield|^none$", (30, 31), 1, 0, 0),
    HousingClass("composting", r"compost|ecosan|arborloo", (41,), 3, 1, 1),
    HousingClass("bucket", r"bucket|\bpan\b", (42,), 2, 0, 0),
    HousingClass("flush to elsewhere", rf"{_FLUSH}.*(elsewhere|else|drain|river|ditch|canal)", (14,), 4, 2, 0),
    HousingClass("flush to an unknown place", rf"{_FLUSH}.*know", (15,), 5, 2, 0),
    HousingClass("flush", rf"{_FLUSH}|septic|sewer|water closet|\bwc\b|water seal", (10, 11, 12, 13), 5, 2, 1),
    HousingClass("hanging", r"hanging|river|stream|\bpond|\blake|\bdrop\b|suspended", (43,), 2, 0, 0),
    HousingClass("pit without slab", r"without (a )?slab|\bno slab", (23,), 2, 0, 0),
    HousingClass("ventilated improved pit", r"\bvip\b|\bvent|(?<!not )(?<!non )\bimproved|\bblair", (21,), 4, 1, 1),
    HousingClass("pit with slab", r"slab", (22,), 3, 1, 1),
    HousingClass("open pit", r"\bopen|uncovered|improved|traditional|rudimentary", (), 2, 0, 0),
    HousingClass("pit latrine", r"\bpit|latrine", (20,), 2, 0, NAN),
    HousingClass("public toilet", r"public|communal|shared", (), 3, 1, 0),
    HousingClass("other", r"^other( specify)?$", (96,), NAN, 0, 0),
)
_SOLID = (
    r"coal|lignite|wood|straw|shrub|grass|\bcrop|residue|dung|bagasse|sawdust|husk|briquette|biomass|\bpeat|garbage"
)
FUELS = (
    HousingClass("no food cooked", r"\bno (food|cook)|(not|n t) cook", (95,), NAN, NAN, 1),
    HousingClass("solid fuel", _SOLID, range(6, 12), NAN, NAN, 0),
    HousingClass(
        "no solid fuel",
        r"electric|\blpg\b|gas|kerosene|paraffin|ethanol|alcohol|solar|petrol|diesel|\boil\b",
        range(1, 6),
        NAN,
        NAN,
        1,
    ),
    HousingClass("other", r"^other( specify)?$", (96,), NAN, NAN, 1),
)

_MISSING = re.compile(
    r".*\bmissing.*|(do not|don t|dont|doesn t|does not) know|dk|not (a )?de ?jure.*|inconsistent.*|no response|refused"
)
_SHARED = re.compile(r"\b(?<!not )(?<!non )shared|public|communal|neighbo|\bother household")


def floor(codes: pd.Series, labels: Mapping[float, str] | None = None, *, standard: bool = True) -> pd.DataFrame:
    """Quality of the main floor (DHS hv213).

    Parameters
    ----------
    codes : Series of numbers
        One a household; missing and special codes as NaN.
    labels : mapping of code to text, optional
        The value labels of the file.
    standard : bool
        Whether codes without a telling label may be read as the standard codes of DHS phases 5 to 8; not for
        older phases or other surveys.

    Returns
    -------
    DataFrame
        On the index of ``codes``: ``floor`` (rank 1 to 5), ``floor_level`` (0, 1, 2), ``floor_improved`` (0, 1), NaN
        where unknown. ``attrs["placed"]`` says which class each label was taken for, and ``attrs["unplaced"]`` lists
        what no class takes: code, label and number of households.

    Raises
    ------
    SurveyError
        If a code, or the code of a label, is no number.
    """
    return _place(
        codes, labels, FLOORS, standard, {"floor": "rank", "floor_level": "level", "floor_improved": "improved"}
    )


def water(
    codes: pd.Series,
    labels: Mapping[float, str] | None = None,
    *,
    minutes: pd.Series | None = None,
    standard: bool = True,
) -> pd.DataFrame:
    """Quality of the source of drinking water (DHS hv201).

    Parameters
    ----------
    codes, labels, standard
        As in :func:`floor`.
    minutes : Series of float, optional
        Round trip to the source (DHS hv204, 0 on the premises). Half an hour or more makes any source unimproved;
        where it is unknown the source alone decides, as in the global MPI.

    Returns
    -------
    DataFrame
        ``water``, ``water_level``, ``water_improved``; see :func:`floor`.
    """
    table = _place(
        codes, labels, WATERS, standard, {"water": "rank", "water_level": "level", "water_improved": "improved"}
    )
    if minutes is not None:
        far = _aligned(minutes, codes, "minutes") >= MAX_WATER_MINUTES
        table["water_improved"] = table["water_improved"].mask(far & table["water_improved"].notna(), 0.0)
    return table


def toilet(
    codes: pd.Series,
    labels: Mapping[float, str] | None = None,
    *,
    shared: pd.Series | None = None,
    standard: bool = True,
) -> pd.DataFrame:
    """Quality of the toilet (DHS hv205).

    Parameters
    ----------
    codes, labels, standard
        As in :func:`floor`.
    shared : Series of 0 and 1, optional
        Whether other households use it too (DHS hv225). A label that says so counts as well. A shared toilet is
        unimproved, and a shared flush of medium level; where it is unknown the toilet counts as private, as in the
        global MPI. The rank is that of the facility alone.

    Returns
    -------
    DataFrame
        ``toilet``, ``toilet_level``, ``toilet_improved``; see :func:`floor`.
    """
    table = _place(
        codes, labels, TOILETS, standard, {"toilet": "rank", "toilet_level": "level", "toilet_improved": "improved"}
    )
    said = {code: bool(_SHARED.search(_fold(text))) for code, text in _by_number(labels).items()}
    is_shared = as_number(codes, _WHAT).map(said).eq(True)
    if shared is not None:
        is_shared |= _aligned(shared, codes, "shared") == 1
    table["toilet_level"] = table["toilet_level"].mask(is_shared & (table["toilet_level"] == 2), 1.0)
    table["toilet_improved"] = table["toilet_improved"].mask(is_shared & table["toilet_improved"].notna(), 0.0)
    return table


def fuel(codes: pd.Series, labels: Mapping[float, str] | None = None, *, standard: bool = True) -> pd.DataFrame:
    """``fuel_clean``: whether a household cooks without solid fuel (DHS hv226) or not at all; see :func:`floor`."""
    return _place(codes, labels, FUELS, standard, {"fuel_clean": "improved"})


def _place(
    codes: pd.Series,
    labels: Mapping[float, str] | None,
    classes: tuple[HousingClass, ...],
    standard: bool,
    columns: Mapping[str, str],
) -> pd.DataFrame:
    """The fields of each household's class as ``columns`` (name to field), and in attrs what became of each label."""
    number = as_number(codes, _WHAT)
    texts = _by_number(labels)
    of: dict[float, HousingClass] = {}
    unplaced: list[dict[str, Any]] = []
    for code in sorted(float(value) for value in number.dropna().unique()):
        text = texts.get(code, "")
        if _MISSING.fullmatch(_fold(text)):
            continue
        found = _class_of(code, text, classes, standard)
        if found is None:
            unplaced.append({"code": code, "label": text, "n": int((number == code).sum())})
        else:
            of[code] = found
    table = pd.DataFrame(
        {
            column: number.map({code: float(getattr(kind, field)) for code, kind in of.items()}).astype(float)
            for column, field in columns.items()
        }
    )
    table.attrs = {
        "placed": {texts.get(code) or f"{code:g}": kind.name for code, kind in of.items()},
        "unplaced": unplaced,
    }
    return table


def _class_of(code: float, label: str, classes: tuple[HousingClass, ...], standard: bool) -> HousingClass | None:
    folded = _fold(label)
    by_words = (kind for kind in classes if folded and re.search(kind.words, folded))
    by_code = (kind for kind in classes if standard and code in kind.codes)
    return next(by_words, None) or next(by_code, None)


def _fold(text: str) -> str:
    """Lower case, no accents, words parted by single spaces: labels differ in all of these between files."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", " ", plain).strip()


def _by_number(labels: Mapping[float, str] | None) -> dict[float, str]:
    try:
        return {float(code): str(text) for code, text in (labels or {}).items()}
    except (TypeError, ValueError) as error:
        raise SurveyError(
            f"a value label belongs to no number ({error}); expected a mapping of codes to text."
        ) from error


def _aligned(values: pd.Series, codes: pd.Series, name: str) -> pd.Series:
    if not values.index.equals(codes.index):
        raise SurveyError(
            f"{name} has another index than the codes; expected one value a household, in the same order."
        )
    return as_number(values, _WHAT)
