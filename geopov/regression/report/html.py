"""What pages of this stage are made with: the template environment, and pictures inside the page."""

from __future__ import annotations

import base64

from jinja2 import Environment, PackageLoader, StrictUndefined

from geopov.regression.report.format import FILTERS


def environment() -> Environment:
    """Templates of the package; text is escaped, and a name that is not there is an error."""
    found = Environment(
        loader=PackageLoader("geopov.regression.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= FILTERS
    return found


def data_uri(png: bytes) -> str:
    """A picture as the source of an ``img``."""
    return "data:image/png;base64," + base64.b64encode(png).decode()
