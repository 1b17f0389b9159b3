"""The protocol of Jean et al. (2016, Science 353:790): its figures 3, 4 and 5, as published and held out by place."""

from geopov.regression.jean2016.page import PROCEDURES
from geopov.regression.jean2016.protocol import (
    DEFECTS,
    NOT_REPRODUCED,
    JeanFigures,
    check_page,
    jean2016,
    render_jean2016,
)

__all__ = ["DEFECTS", "NOT_REPRODUCED", "PROCEDURES", "JeanFigures", "check_page", "jean2016", "render_jean2016"]
