"""From cells to administrative units, and the survey's own estimates joined with the map's."""
