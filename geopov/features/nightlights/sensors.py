"""What is known of each source of night lights: unit, noise, saturation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

SensorName = Literal["viirs", "dmsp", "black_marble"]


@dataclass(frozen=True)
class Sensor:
    """What is known of a source of night lights.

    Attributes
    ----------
    name, unit : str
    noise_floor : float
        Values below are dark (0) unless another floor is asked for.
    noise_floor_source : str
        Who found it.
    highest : float
        Values above are fill values, not light.
    integer_scale : float
        By which files of whole numbers are multiplied.
    saturates : bool
        Whether ``highest`` stands for everything brighter.
    """

    name: str
    unit: str
    noise_floor: float
    noise_floor_source: str
    highest: float
    integer_scale: float = 1.0
    saturates: bool = False


SENSORS = {
    "viirs": Sensor(
        "viirs",
        "nW/cm²/sr",
        0.6,
        "Elvidge et al. (2021, Remote Sensing 13:922): averages below it count as light only with more evidence",
        np.inf,
    ),
    "dmsp": Sensor(
        "dmsp",
        "DN",
        0.0,
        "none: the background of the stable lights composites is 0 already",
        63.0,
        saturates=True,
    ),
    "black_marble": Sensor(
        "black_marble",
        "nW/cm²/sr",
        0.5,
        "breakthrough specification of VNP46 (Román et al. 2018, Remote Sensing of Environment 210:113)",
        6553.4,
        integer_scale=0.1,
    ),
}
"""The sources by name."""
