"""Names of DHS files: country, kind of file, phase and release, format.

Source: The DHS Program, "File Types and Names", https://dhsprogram.com/data/File-Types-and-Names.cfm.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePath

KINDS = {
    "AN": "antenatal recode",
    "AR": "HIV test results",
    "BR": "births recode",
    "CR": "couples' recode",
    "FC": "facility recode",
    "FW": "fieldworkers' recode",
    "GC": "geospatial covariates",
    "GE": "cluster positions",
    "HH": "household raw data",
    "HR": "household recode",
    "HW": "height and weight scores",
    "IR": "women's recode",
    "KR": "children's recode",
    "MR": "men's recode",
    "NR": "pregnancies' recode",
    "PR": "household members' recode",
    "WI": "wealth index",
}

# As the DHS Program spells them (api.dhsprogram.com/rest/dhs/countries); its codes are not all ISO codes.
COUNTRIES = {
    "AF": "Afghanistan",
    "AL": "Albania",
    "AM": "Armenia",
    "AO": "Angola",
    "AZ": "Azerbaijan",
    "BD": "Bangladesh",
    "BF": "Burkina Faso",
    "BJ": "Benin",
    "BO": "Bolivia",
    "BR": "Brazil",
    "BT": "Botswana",
    "BU": "Burundi",
    "CD": "Congo Democratic Republic",
    "CF": "Central African Republic",
    "CG": "Congo",
    "CI": "Cote d'Ivoire",
    "CM": "Cameroon",
    "CO": "Colombia",
    "CV": "Cape Verde",
    "DR": "Dominican Republic",
    "EC": "Ecuador",
    "EG": "Egypt",
    "EK": "Equatorial Guinea",
    "ER": "Eritrea",
    "ES": "El Salvador",
    "ET": "Ethiopia",
    "GA": "Gabon",
    "GH": "Ghana",
    "GM": "Gambia",
    "GN": "Guinea",
    "GU": "Guatemala",
    "GY": "Guyana",
    "HN": "Honduras",
    "HT": "Haiti",
    "IA": "India",
    "ID": "Indonesia",
    "JO": "Jordan",
    "KE": "Kenya",
    "KH": "Cambodia",
    "KK": "Kazakhstan",
    "KM": "Comoros",
    "KY": "Kyrgyz Republic",
    "LA": "Lao People's Democratic Republic",
    "LB": "Liberia",
    "LK": "Sri Lanka",
    "LS": "Lesotho",
    "MA": "Morocco",
    "MB": "Moldova",
    "MD": "Madagascar",
    "ML": "Mali",
    "MM": "Myanmar",
    "MR": "Mauritania",
    "MV": "Maldives",
    "MW": "Malawi",
    "MX": "Mexico",
    "MZ": "Mozambique",
    "NC": "Nicaragua",
    "NG": "Nigeria",
    "NI": "Niger",
    "NM": "Namibia",
    "NP": "Nepal",
    "PE": "Peru",
    "PG": "Papua New Guinea",
    "PH": "Philippines",
    "PK": "Pakistan",
    "PY": "Paraguay",
    "RW": "Rwanda",
    "SD": "Sudan",
    "SL": "Sierra Leone",
    "SN": "Senegal",
    "ST": "Sao Tome and Principe",
    "SZ": "Eswatini",
    "TD": "Chad",
    "TG": "Togo",
    "TH": "Thailand",
    "TJ": "Tajikistan",
    "TL": "Timor-Leste",
    "TM": "Turkmenistan",
    "TN": "Tunisia",
    "TR": "Turkey",
    "TT": "Trinidad and Tobago",
    "TZ": "Tanzania",
    "UA": "Ukraine",
    "UG": "Uganda",
    "UZ": "Uzbekistan",
    "VN": "Vietnam",
    "WS": "Samoa",
    "YE": "Yemen",
    "ZA": "South Africa",
    "ZM": "Zambia",
    "ZW": "Zimbabwe",
}

_NAME = re.compile(r"(?P<country>[A-Z]{2})(?P<kind>[A-Z]{2})(?P<version>[0-9A-Z]{2})(?P<format>DT|SV|SD|FL|)")


@dataclass(frozen=True, order=True)
class DhsName:
    """What the name of a DHS file says; ``RWHR61DT.ZIP`` is Rwanda's household recode of phase 6, for Stata."""

    country_code: str
    """Two letters, the DHS Program's own."""
    kind: str
    """Two letters, a key of :data:`KINDS`: ``HR`` household recode, ``GE`` cluster positions."""
    version: str
    """Two characters, the phase and the release within it; ``7A`` is one of several surveys of phase 7."""
    format: str
    """``DT`` Stata, ``SV`` SPSS, ``SD`` SAS, ``FL`` flat text or shapefile, or empty: hierarchical text.

    Of the distributed zip only: the files inside are all called ``FL``.
    """

    @classmethod
    def parse(cls, name: str) -> DhsName | None:
        """The parts of a file's name, in either case and with or without folder and suffix; None for other names.

        >>> DhsName.parse("rwhr61dt.zip")
        DhsName(country_code='RW', kind='HR', version='61', format='DT')
        """
        match = _NAME.fullmatch(PurePath(name.replace("\\", "/")).stem.upper())
        if match is None or match["kind"] not in KINDS:
            return None
        return cls(match["country"], match["kind"], match["version"], match["format"])

    @property
    def phase(self) -> str:
        """The phase of the DHS Program, ``1`` to ``8`` so far."""
        return self.version[0]

    @property
    def country(self) -> str:
        """The country in English; its code where the DHS Program's list of codes does not have it."""
        return COUNTRIES.get(self.country_code, self.country_code)

    def sibling(self, kind: str, file_format: str) -> str:
        """The distribution file of another kind of the same survey: ``RWGE61FL.ZIP`` for ``("GE", "FL")``."""
        return f"{self.country_code}{kind}{self.version}{file_format}.ZIP"
