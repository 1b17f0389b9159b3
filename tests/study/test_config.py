"""Study files: what is accepted, and that everything wrong is said at once."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from geopov.catalog import open_catalog
from geopov.errors import StudyError
from geopov.study import prepare_study, read_study, workflow_arguments
from geopov.study.runner import _record


def _vary(folder: Path, **changes: Any) -> Path:
    path = folder / "study.yaml"
    study = yaml.safe_load(path.read_text())
    for key, value in changes.items():
        section, _, inner = key.partition("__")
        if inner:
            study[section][inner] = value
        else:
            study[section] = value
    path.write_text(yaml.safe_dump(study))
    return path


def _problems(folder: Path, **changes: Any) -> str:
    with pytest.raises(StudyError) as caught:
        prepare_study(_vary(folder, **changes))
    return str(caught.value)


def test_sound_study_has_no_problem(study_folder: Path) -> None:
    study = prepare_study(study_folder / "study.yaml")
    assert study.sources == ["scene", "clusters"]


def test_every_wrong_key_is_named(study_folder: Path) -> None:
    path = _vary(study_folder, tiles__size_px=0, regression__block_km="wide", outcome={"colum": "wealth"}, extra=1)
    with pytest.raises(StudyError) as caught:
        read_study(path)
    assert len(caught.value.problems) == 7
    for word in ("tiles.size_px", "regression.block_km", "outcome.colum", "outcome.column: missing", "extra"):
        assert word in str(caught.value)


@pytest.mark.parametrize(("text", "message"), [("- a\n- b\n", "holds a list"), ("a: [", "not readable YAML")])
def test_no_study_at_all(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "s.yaml").write_text(text)
    with pytest.raises(StudyError, match=message):
        read_study(tmp_path / "s.yaml")
    with pytest.raises(StudyError, match="no study file"):
        read_study(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"scenes": ["scen"]}, ["'scen'", "no such entry"]),
        ({"scenes": ["clusters"]}, ["kind survey", "expected a raster"]),
        ({"clusters__id": "clust"}, ["'clust'", "cluster"]),
        ({"outcome__column": "welth"}, ["'welth'"]),
        ({"features": [{"name": "resnet999"}]}, ["resnet999"]),
        ({"features": [{"name": "band_statistics", "bands": ["infrared"]}]}, ["infrared"]),
        ({"features": [{"name": "band_statistics", "context_px": 8}]}, ["context_px=8"]),
        ({"map__style": "pretty"}, ["'pretty'", "density"]),
        ({"map__crs": "EPSG:4326"}, ["degrees"]),
        ({"map__region": [10.0, 50.0, 11.0, 51.0]}, ["map.region", "beside the scenes"]),
        ({"map__region": "nowhere"}, ["'nowhere'", "no such entry"]),
    ],
)
def test_one_thing_wrong(study_folder: Path, changes: dict[str, Any], words: list[str]) -> None:
    message = _problems(study_folder, **changes)
    for word in words:
        assert word in message


def test_clusters_beside_the_scene(study_folder: Path) -> None:
    table = study_folder / "clusters.csv"
    text = table.read_text().splitlines()
    moved = [text[0]] + [
        ",".join([a, str(float(b) + 3), *rest]) for a, b, *rest in (line.split(",") for line in text[1:])
    ]
    table.write_text("\n".join(moved))
    assert "no cluster is on a scene" in _problems(study_folder)


def test_arguments_are_quoted_for_the_shell(study_folder: Path) -> None:
    study = read_study(_vary(study_folder, map__title="it's; rm -rf $HOME"))
    options = workflow_arguments(study)["picture"].options
    assert "it's; rm -rf $HOME" in shlex.split(options)


def test_a_source_is_known_by_its_content_and_a_cloud_object_by_its_name(study_folder: Path) -> None:
    path = study_folder / "catalog.yaml"
    entries = yaml.safe_load(path.read_text())
    entries["cloud"] = entries["scene"] | {"uri": "s3://bucket/scene.tif"}
    path.write_text(yaml.safe_dump(entries))
    catalog = open_catalog(path)
    before = _record(catalog, "clusters")
    assert len(before["files"][0]["sha256"]) == 64
    with (study_folder / "clusters.csv").open("a") as table:
        table.write("\n")
    assert _record(catalog, "clusters") != before
    assert _record(catalog, "cloud")["files"] == [{"uri": "s3://bucket/scene.tif", "sha256": None}]


def test_a_penalty_for_each_extractor_leaves_out_what_needs_one_penalty(study_folder: Path) -> None:
    features = [{"name": "band_mean", "bands": [1]}, {"name": "band_mean", "bands": [2]}]
    study = prepare_study(_vary(study_folder, features=features, regression__banded=True))
    options = workflow_arguments(study)["regression"].options
    for words in ("--banded", "--permutations 0", "--repeats 0"):
        assert words in options
    plain = workflow_arguments(prepare_study(_vary(study_folder, regression__banded=False)))["regression"].options
    assert "--banded" not in plain
    assert "--permutations 100" in plain
