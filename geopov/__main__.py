"""``python -m geopov`` is the command ``geopov``."""

from geopov.cli import main

main()
