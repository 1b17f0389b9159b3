"""The probe: a process that starts as a stage does, and then does a little of the work of each stage.

Its parent hands it a request and takes its answer as JSON files, so that nothing that the parent holds or has imported
makes the probe faster or larger than a stage.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import geopandas as gpd

from geopov import features
from geopov.catalog import open_catalog
from geopov.study.checks import check_study
from geopov.study.config import NETWORK_FOLDER, Study
from geopov.study.estimate.measure import measured
from geopov.study.runner import run_study
from geopov.study.stages import load_model, open_scenes

__all__ = ["main", "rehearse"]

# Whatever else an extractor is, it needs PyTorch.
_WITHOUT_TORCH = ("band_statistics", "band_mean", "band_histograms")
# What of a training says how its network will see tiles.
_SEEN = ("bands", "stretch", "lo", "hi", "input_px")


def rehearse() -> None:
    """Everything that a run does before its first stage; prints the stages that it would run."""
    request = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    study = Study.model_validate(request["study"])
    check_study(study, open_catalog(study.catalog))
    run_study(study, work=request["work"], dry_run=True)


def main() -> None:
    """Answer the request in the file that the first argument names."""
    request = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    began = {"seconds": time.time() - request["spawned"], "cpu_seconds": time.process_time()}
    answer: dict[str, Any] = {"start": began}
    study = Study.model_validate(request["study"])
    clusters = gpd.read_parquet(request["clusters"])
    scenes = open_scenes(study.scene_sources, catalog=open_catalog(study.catalog))
    work, wanted = Path(request["work"]), request["wanted"]
    extractors = {role: [_runnable(study, work, spec) for spec in specs] for role, specs in study.extractors.items()}
    asked = [role for role in extractors if f"features/{role}" in wanted]
    # A part each for every extraction, the network and the map.
    share_s = request["probe_s"] / max(len(asked) + ("network" in wanted) + ("map" in wanted), 1)

    def look(role: str) -> None:
        from geopov.study.estimate.probe_features import probe_features

        answer[f"features/{role}"] = probe_features(study, scenes, clusters, extractors[role], budget_s=share_s)

    light = [role for role in asked if all(spec.get("name") in _WITHOUT_TORCH for spec in extractors[role])]
    # What needs PyTorch comes last, since memory once taken is not given back.
    for role in light:
        look(role)
    if heavy := [role for role in asked if role not in light]:
        with measured() as loaded:
            import geopov.features.networks.network
            import geopov.features.random_convolution  # noqa: F401  # imported for the time that takes
        answer["torch"] = loaded.to_dict() | {"roles": heavy}
        for role in heavy:
            look(role)
    model = None
    if "regression" in wanted:
        from geopov.study.estimate.probe_regression import probe_regression

        known = {role: _known(answer, work, role) for role in extractors}
        answer["regression"], model = probe_regression(
            study,
            clusters,
            n_clusters=known["model"][0],
            n_features={role: found[1] for role, found in known.items()},
            extractor=features.build(extractors["model"]).spec(),
        )
    if "map" in wanted:
        from geopov.study.estimate.probe_map import probe_map

        answer["map"] = probe_map(
            study,
            scenes,
            model or load_model(work / "model" / "model.npz"),
            budget_s=share_s,
            scheduler=request["scheduler"],
            workers=request["workers"],
            memory_mb=request["memory_mb"],
            sample=Path(request["sample"]),
        )
    if "network" in wanted and request["points"]:
        from geopov.study.estimate.probe_network import probe_network

        with tempfile.TemporaryDirectory() as folder:
            points = gpd.read_parquet(request["points"])
            answer["network"] = probe_network(study, scenes, points, Path(folder), budget_s=share_s)
    Path(request["answer"]).write_text(json.dumps(answer), encoding="utf-8")


def _known(answer: dict[str, Any], work: Path, role: str) -> tuple[int, int]:
    """Clusters and features of a role, as probed or, where that stage is done, as written."""
    if (found := answer.get(f"features/{role}")) is not None:
        return found["n_clusters"], found["n_features"]
    array = features.read_features(work / "features" / f"{role}.nc")
    return array.sizes["cluster"], array.sizes["feature"]


def _runnable(study: Study, work: Path, spec: dict[str, Any]) -> dict[str, Any]:
    """An extractor as it is, or in place of a network that is yet to be trained, the one it starts from."""
    if spec.get("weights") != NETWORK_FOLDER or study.pretrain is None:
        return spec
    if (work / NETWORK_FOLDER / "card.json").is_file():
        return spec | {"weights": str(work / NETWORK_FOLDER)}
    training = study.pretrain.training
    seen = {key: training[key] for key in _SEEN if training.get(key) is not None}
    kept = {key: value for key, value in spec.items() if key not in ("name", "weights")}
    return {"name": study.pretrain.backbone, "weights": None, **seen, **kept}
