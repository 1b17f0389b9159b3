"""Survey files made up in the documented layouts, with their truth: to try the path before the real files arrive.

The microdata of DHS and LSMS may not be passed on. These files have their names, columns, codes, labels, missing codes
and displaced positions, so that whatever reads them reads the real ones; the numbers are drawn, and mean nothing.
"""

from geopov.testing.dhs import DhsTruth, write_dhs
from geopov.testing.lsms import LsmsTruth, write_lsms

__all__ = ["DhsTruth", "LsmsTruth", "write_dhs", "write_lsms"]
