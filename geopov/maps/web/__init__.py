"""One HTML page with the maps, for a browser and no network."""
