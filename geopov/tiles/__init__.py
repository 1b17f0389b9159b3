"""Tiles: pixels around points, planned first, each block of the scenes decoded once.

    points + scenes --place--> grids --> pieces --plan--> read units --schedule--> steps --read--> batches

``spec`` says what a tile is, ``placement`` where it lies, ``pieces`` which pixels of which file it needs, ``plan`` what
blocks hold them, ``schedule`` in which order those are read and kept, ``assemble`` and ``resample`` put pixels in
place, ``extract`` runs it all in threads, ``window`` does so for one square on a given grid, ``tileset`` is what others
see, ``store`` keeps it on disk.
"""

from geopov.tiles.batch import TileBatch
from geopov.tiles.extract import extract
from geopov.tiles.spec import TileSpec, tile_points
from geopov.tiles.tileset import TileSet

__all__ = ["TileBatch", "TileSet", "TileSpec", "extract", "tile_points"]
