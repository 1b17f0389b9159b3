"""DHS Program surveys: household recodes joined to the positions of their clusters."""

from geopov.survey.dhs.gps import read_positions
from geopov.survey.dhs.names import COUNTRIES, KINDS, DhsName
from geopov.survey.dhs.read import DhsSurvey, read_dhs
from geopov.survey.dhs.recode import HouseholdRecode, read_recode

__all__ = [
    "COUNTRIES",
    "KINDS",
    "DhsName",
    "DhsSurvey",
    "HouseholdRecode",
    "read_dhs",
    "read_positions",
    "read_recode",
]
