"""Runs in QGIS' own Python: opens a map as a person would, and says what it sees. `qgis_probe.py MAP PNG`."""

import json
import os
import sys

from qgis.core import QgsApplication, QgsMapRendererParallelJob, QgsMapSettings, QgsRasterLayer
from qgis.PyQt.QtCore import QSize
from qgis.PyQt.QtGui import QColor

application = QgsApplication([], False)
application.initQgis()
layer = QgsRasterLayer(sys.argv[1], "map")
settings = QgsMapSettings()
settings.setLayers([layer])
settings.setExtent(layer.extent())
settings.setDestinationCrs(layer.crs())
settings.setOutputSize(QSize(450, 300))
settings.setBackgroundColor(QColor("#ff00ff"))
job = QgsMapRendererParallelJob(settings)
job.start()
job.waitForFinished()
job.renderedImage().save(sys.argv[2])
renderer = layer.renderer()
seen = {"valid": layer.isValid(), "crs": layer.crs().authid(), "renderer": renderer.type()}
extent = layer.extent()
seen["bounds"] = [extent.xMinimum(), extent.yMinimum(), extent.xMaximum(), extent.yMaximum()]
seen["bands"] = [layer.bandName(band) for band in range(1, layer.bandCount() + 1)]
seen["nodata"] = layer.dataProvider().sourceHasNoDataValue(1)
if seen["renderer"] == "singlebandpseudocolor":
    shader = renderer.shader().rasterShaderFunction()
    seen["band"] = renderer.band()
    seen["range"] = [renderer.classificationMin(), renderer.classificationMax()]
    seen["discrete"] = shader.colorRampType() == shader.Discrete
    seen["classes"] = [[item.value, item.label, item.color.name()] for item in shader.colorRampItemList()]
sys.stdout.write(json.dumps(seen))
sys.stdout.flush()
# Python and Qt disagree about who deletes what; leaving at once avoids a crash after all is said.
os._exit(0)
