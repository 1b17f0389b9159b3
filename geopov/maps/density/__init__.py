"""People per cell: census counts of zones shared over the ground."""
