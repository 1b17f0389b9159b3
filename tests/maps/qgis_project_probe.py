"""Runs in QGIS' own Python: opens a project or layers as a person would, and says what it sees.

`qgis_project_probe.py PROJECT FOLDER` writes a PNG of each print layout into FOLDER;
`qgis_project_probe.py FILE...` opens rasters, and layers of a GeoPackage (`FILE|layername=NAME`), with the styles that
QGIS finds by itself.
"""

import json
import os
import sys

DPI = 120


def describe(layer):
    renderer, box = layer.renderer(), layer.extent()
    seen = {"valid": layer.isValid(), "crs": layer.crs().authid(), "renderer": renderer.type()}
    seen["proj"] = layer.crs().toProj()
    seen["bounds"] = [box.xMinimum(), box.yMinimum(), box.xMaximum(), box.yMaximum()]
    classes = {
        "paletted": lambda: [[item.value, item.label, item.color.name()] for item in renderer.classes()],
        "singlebandpseudocolor": lambda: [
            [item.value, item.label, item.color.name()]
            for item in renderer.shader().rasterShaderFunction().colorRampItemList()
        ],
        "graduatedSymbol": lambda: [
            [item.lowerValue(), item.upperValue(), item.label(), item.symbol().color().name()]
            for item in renderer.ranges()
        ],
        "categorizedSymbol": lambda: [
            [item.value(), item.label(), item.symbol().color().name()] for item in renderer.categories()
        ],
    }
    if renderer.type() in classes:
        seen["classes"] = classes[renderer.type()]()
    if hasattr(layer, "featureCount"):
        return seen | {"features": layer.featureCount(), "column": getattr(renderer, "classAttribute", str)()}
    return seen | {"band": renderer.band() if hasattr(renderer, "band") else renderer.inputBand()}


def branch(node):
    # Node type 1 is a layer, 0 a group.
    if node.nodeType() == 1:
        return [node.name(), node.itemVisibilityChecked(), node.isVisible()]
    children = [branch(child) for child in node.children()]
    return [node.name(), node.itemVisibilityChecked(), node.isMutuallyExclusive(), children]


def see_layout(layout, path, exporter):
    settings = exporter.ImageExportSettings()
    settings.dpi = DPI
    frame = layout.itemById("map")
    shown = frame.extent()
    return {
        "png": path,
        "result": int(exporter(layout).exportToImage(path, settings)),
        "items": sorted(item.id() for item in layout.items() if hasattr(item, "id") and item.id()),
        "map_mm": [frame.pos().x(), frame.pos().y(), frame.rect().width(), frame.rect().height()],
        "page_mm": [layout.layoutBounds().width(), layout.layoutBounds().height()],
        "map_bounds": [shown.xMinimum(), shown.yMinimum(), shown.xMaximum(), shown.yMaximum()],
        "shows": [layer.name() for layer in frame.layers()],
        "texts": {name: layout.itemById(name).text() for name in ("title", "source")},
    }


def see_project(path, folder):
    from qgis.core import QgsLayoutExporter, QgsProject

    project = QgsProject.instance()
    seen = {"opened": project.read(path), "error": project.error(), "title": project.title()}
    box = project.viewSettings().defaultViewExtent()
    root = project.layerTreeRoot()
    return seen | {
        "crs": project.crs().authid(),
        "proj": project.crs().toProj(),
        "ellipsoid": project.ellipsoid(),
        "view": [box.xMinimum(), box.yMinimum(), box.xMaximum(), box.yMaximum()],
        "abstract": project.metadata().abstract(),
        "tree": [branch(child) for child in root.children()],
        "order": [layer.name() for layer in root.layerOrder()],
        "layers": {layer.name(): describe(layer) for layer in project.mapLayers().values()},
        "layouts": {
            layout.name(): see_layout(layout, f"{folder}/{number}.png", QgsLayoutExporter)
            for number, layout in enumerate(project.layoutManager().printLayouts())
        },
    }


def see_layers(sources):
    from qgis.core import QgsRasterLayer, QgsVectorLayer

    kinds = [(QgsRasterLayer if source.endswith(".tif") else QgsVectorLayer)(source, "layer") for source in sources]
    return [describe(layer) for layer in kinds]


if __name__ == "__main__":
    from qgis.core import QgsApplication

    application = QgsApplication([], False)
    application.initQgis()
    said = see_project(*sys.argv[1:]) if sys.argv[1].endswith(".qgz") else see_layers(sys.argv[1:])
    sys.stdout.write(json.dumps(said))
    sys.stdout.flush()
    # Python and Qt disagree about who deletes what; leaving at once avoids a crash after all is said.
    os._exit(0)
