"""What is in the files of a survey, and where its clusters lie: to look at before anything is run.

Of each file only key variables are read, some rows at a time, so that a recode of a gigabyte takes little memory.
"""

from geopov.survey.describe.files import FileDescription, describe_files
from geopov.survey.describe.found import Variable
from geopov.survey.describe.picture import draw_clusters
from geopov.survey.describe.positions import clusters_in
from geopov.survey.describe.terminal import text_map

__all__ = ["FileDescription", "Variable", "clusters_in", "describe_files", "draw_clusters", "text_map"]
