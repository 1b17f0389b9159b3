"""What QGIS opens: styles, layers, a project with a print layout."""
