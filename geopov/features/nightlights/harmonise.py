"""Published functions that bring the night lights of one satellite to the scale of another.

DMSP-OLS had no calibration in orbit: equal ground gives other digital numbers from one satellite and year to the next.
VIIRS measures radiance. A study that takes lights of several satellites must bring them to one scale, and can do so
only roughly: none of these functions restores what a sensor did not see (saturated town centres of DMSP, its blur over
kilometres). Hence nothing is harmonised unless asked for, and the report names what was.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from geopov.errors import FeatureError

Floats = npt.NDArray[np.float64]
Form = Literal["quadratic", "log_linear"]

_ELVIDGE_2014 = (
    "Elvidge, C. D., Hsu, F.-C., Baugh, K. E. and Ghosh, T. (2014). National trends in satellite-observed lighting: "
    "1992-2012. In Weng, Q. (ed.), Global Urban Monitoring and Assessment through Earth Observation, CRC Press, 97-118."
)
_HII = (
    "Wildlife Conservation Society, Human Impact Index, power driver (SpeciesConservationLandscapes, task_hii_power, "
    "input_preprocess.py): regression of the DMSP scale of Li et al. (2020, Scientific Data 7:168) in 2013 on the "
    "logarithm of VIIRS radiance in 2014 at pixels of stable light, R² 0.67."
)

# c0, c1, c2 of DN' = c0 + c1 DN + c2 DN², to the scale of F12 in 1999 (Elvidge et al. 2014).
_SATELLITE_YEARS: Mapping[str, tuple[float, float, float]] = {
    "F101992": (-2.0570, 1.5903, -0.0090),
    "F101993": (-1.0582, 1.5983, -0.0093),
    "F101994": (-0.3458, 1.4864, -0.0079),
    "F121994": (-0.6890, 1.1770, -0.0025),
    "F121995": (-0.0515, 1.2293, -0.0038),
    "F121996": (-0.0959, 1.2727, -0.0040),
    "F121997": (-0.3321, 1.1782, -0.0026),
    "F121998": (-0.0608, 1.0648, -0.0013),
    "F121999": (0.0, 1.0, 0.0),
    "F141997": (-1.1323, 1.7696, -0.0122),
    "F141998": (-0.1917, 1.6321, -0.0101),
    "F141999": (-0.1557, 1.5055, -0.0078),
    "F142000": (1.0988, 1.3155, -0.0053),
    "F142001": (0.1943, 1.3219, -0.0051),
    "F142002": (1.0517, 1.1905, -0.0036),
    "F142003": (0.7390, 1.2416, -0.0040),
    "F152000": (0.1254, 1.0452, -0.0010),
    "F152001": (-0.7024, 1.1081, -0.0012),
    "F152002": (0.0491, 0.9568, 0.0010),
    "F152003": (0.2217, 1.5122, -0.0080),
    "F152004": (0.5751, 1.3335, -0.0051),
    "F152005": (0.6367, 1.2838, -0.0041),
    "F152006": (0.8261, 1.2790, -0.0041),
    "F152007": (1.3606, 1.2974, -0.0045),
    "F162004": (0.2853, 1.1955, -0.0034),
    "F162005": (-0.0001, 1.4159, -0.0063),
    "F162006": (0.1065, 1.1371, -0.0016),
    "F162007": (0.6394, 0.9114, 0.0014),
    "F162008": (0.5564, 0.9931, 0.0),
    "F162009": (0.9492, 1.0683, -0.0016),
    "F182010": (2.3430, 0.5102, 0.0065),
    "F182011": (1.8956, 0.7345, 0.0030),
    "F182012": (1.8750, 0.6203, 0.0052),
}


@dataclass(frozen=True)
class Calibration:
    """A function of single pixels, on to the digital numbers of DMSP.

    Dark stays dark: pixels at 0, or below the noise floor, are 0 in both scales. Results are held to 0-63.

    Attributes
    ----------
    form : {"quadratic", "log_linear"}
        ``c0 + c1 x + c2 x²``, or ``c0 + c1 ln(x)``.
    coefficients : tuple of float
        c0, c1 and, of the quadratic, c2.
    sensor : str
        Whose lights it takes: "dmsp", "viirs" or "black_marble".
    citation : str
        Where it was published; shown in the report.
    scale : str
        What the results are comparable with.

    Raises
    ------
    FeatureError
        If the form is unknown, the coefficients are too few or too many, or no source is named.
    """

    form: Form
    coefficients: tuple[float, ...]
    sensor: str
    citation: str
    scale: str

    def __post_init__(self) -> None:
        if self.form not in get_args(Form):
            raise FeatureError(f"form is {self.form!r}; expected 'quadratic' or 'log_linear'.")
        wanted = 3 if self.form == "quadratic" else 2
        if len(self.coefficients) != wanted or not np.isfinite(self.coefficients).all():
            raise FeatureError(
                f"coefficients are {self.coefficients!r}; a {self.form} calibration has {wanted} finite numbers."
            )
        if not self.citation.strip():
            raise FeatureError("a calibration needs its citation: name the publication its coefficients come from.")

    def __call__(self, lights: npt.NDArray[Any]) -> Floats:
        """Digital numbers 0 to 63 from cleaned lights, pixel by pixel."""
        lights = np.asarray(lights, dtype=np.float64)
        lit = lights > 0
        x = np.where(lit, lights, 1.0)
        c = self.coefficients
        number = c[0] + c[1] * x + c[2] * x**2 if self.form == "quadratic" else c[0] + c[1] * np.log(x)
        return np.where(lit, np.clip(number, 0.0, 63.0), 0.0)

    def to_dict(self) -> dict[str, Any]:
        """The attributes, JSON-able."""
        return {**asdict(self), "coefficients": list(self.coefficients)}


def published_calibration(name: str) -> Calibration:
    """A calibration by name.

    Parameters
    ----------
    name : str
        ``"elvidge2014:F182010"``: DMSP-OLS of that satellite and year to the scale of F12 in 1999 (Elvidge et al. 2014;
        33 satellite-years from F101992 to F182012). ``"hii"``: VIIRS radiance to the DMSP scale of Li et al. (2020)
        by the Human Impact Index; its DMSP counterpart is their own product (``calDMSP``), which needs no further
        calibration.

    Raises
    ------
    FeatureError
        If there is none of that name.
    """
    if name == "hii":
        return Calibration("log_linear", (19.40, 11.62), "viirs", _HII, "DMSP of Li et al. (2020)")
    match = re.fullmatch(r"elvidge2014:(F\d{6})", name)
    if match and match[1] in _SATELLITE_YEARS:
        return Calibration("quadratic", _SATELLITE_YEARS[match[1]], "dmsp", _ELVIDGE_2014, "DMSP F12 of 1999")
    raise FeatureError(
        f"there is no harmonisation {name!r}; expected 'hii' for VIIRS, or 'elvidge2014:' and a satellite-year of "
        f"DMSP: {', '.join(_SATELLITE_YEARS)}. Any other published one can be given as a Calibration with its citation."
    )
