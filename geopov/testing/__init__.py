"""Surveys and a whole country made up, with their truth: to try the path before the real files arrive.

The microdata of DHS and LSMS may not be passed on. These files have their names, columns, codes, labels, missing codes
and displaced positions, so that whatever reads them reads the real ones; the numbers are drawn, and mean nothing.

:func:`write_sample_world` makes the image, the nightlights, the census and the survey of one country, all of which
follow from one wealth that is known.
"""

from geopov.testing.dhs import DhsTruth, write_dhs
from geopov.testing.lsms import LsmsTruth, write_lsms
from geopov.testing.sample.world import SampleWorld, write_sample_world

__all__ = ["DhsTruth", "LsmsTruth", "SampleWorld", "write_dhs", "write_lsms", "write_sample_world"]
