"""geopov: satellite images and a household survey in, poverty and density maps out."""
