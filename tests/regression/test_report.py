"""The page stands alone, says what was found, and fits a phone."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from geopov._validation import sha256_of
from geopov.errors import RegressionError
from geopov.regression import SpatialBlocks, WelfareRidge, evaluate, render_report

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
)


class _Page(HTMLParser):
    """Elements with their attributes, and the text a reader sees."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._hidden = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._hidden = tag == "style"

    def handle_endtag(self, tag: str) -> None:
        self._hidden = False

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))

    @property
    def images(self) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.elements if tag == "img"]


@pytest.fixture(scope="module")
def folder(country, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report") / "wealth"
    features = country.features.isel(cluster=slice(2, None)).assign_attrs(
        dropped='[{"cluster_id": "c0001", "reason": "no valid pixels"}]', provenance='{"weights": "abc"}'
    )
    evaluate(
        WelfareRidge(),
        features,
        country.clusters,
        outcome="asset_wealth",
        splits=SpatialBlocks(block_km=40),
        folder=folder,
        baseline=country.lights,
        unit="index",
    )
    return folder


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("picture") / "map.png"
    figure = Figure(figsize=(9, 6))
    figure.add_subplot().imshow(np.arange(60.0).reshape(6, 10))
    figure.savefig(path)
    return path


@pytest.fixture(scope="module")
def html(folder: Path, picture: Path) -> str:
    path = folder.parent / "report.html"
    render_report([folder], path, maps=[(picture, "Wealth <in> 1 km cells")])
    return path.read_text()


def test_nothing_is_fetched_and_nothing_runs(html: str) -> None:
    page = _Page(html)
    assert not re.search(r"(https?:)?//[a-z]", re.sub(r"base64,[A-Za-z0-9+/=]+", "", html))
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in page.elements}
    assert all((image["src"] or "").startswith("data:image/png;base64,") for image in page.images)
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert "@import" not in html
    assert "url(" not in html


def test_figures_are_pictures_with_a_description(html: str) -> None:
    images = _Page(html).images
    assert len(images) == 4  # the map, two scatters, the residuals
    for image in images:
        pixels = imread(io.BytesIO(base64.b64decode((image["src"] or "").split(",")[1])))
        assert min(pixels.shape[:2]) > 300
        assert np.ptp(pixels[..., :3]) > 0.5
        assert len(image["alt"] or "") > 10


def test_first_screen_says_how_good_and_how_sure(html: str, folder: Path) -> None:
    summary = json.loads((folder / "scores.json").read_text())
    head = _Page(html.split("</header>")[0]).text
    pooled = next(r for r in summary["scores"] if r["subset"] == "all" and r["predictor"] == "model")
    assert "238 survey clusters" in head
    assert f"accounts for {pooled['R2']:.0%} of the differences between clusters" in head
    assert summary["verdict"] in head
    assert f"plus or minus {summary['half_width']:.2g} index" in head
    assert f"held for {summary['coverage']['measured']:.0%} of clusters in held-out places" in head
    assert "Wealth <in> 1 km cells" in head  # escaped in the source


def test_all_that_matters_is_on_the_page(html: str) -> None:
    text = _Page(html).text
    assert "238 of 240 clusters were used" in text
    for words in (
        "1 clusters : no valid pixels",
        "not among the features",
        "c0001",
        "SpatialBlocks",
        "block_km = 40",
        "weights",
    ):
        assert words in text
    for words in ("nightlights alone (ridge)", "nightlights alone (neighbours)", "within urban", "within rural"):
        assert words in text
    assert text.count("Under random folds") == 1


def test_a_repeat_gives_the_same_bytes(folder: Path, picture: Path, tmp_path: Path) -> None:
    for name in ("a.html", "b.html"):
        render_report([folder], tmp_path / name, maps=[(picture, "map")])
    assert sha256_of(tmp_path / "a.html") == sha256_of(tmp_path / "b.html")
    assert "/tmp" not in (tmp_path / "a.html").read_text().replace(str(tmp_path), "/tmp")


def _edited(folder: Path, to: Path, **changes: object) -> Path:
    shutil.copytree(folder, to)
    summary = json.loads((to / "scores.json").read_text()) | changes
    (to / "scores.json").write_text(json.dumps(summary))
    return to


def test_several_models_stand_side_by_side(folder: Path, tmp_path: Path) -> None:
    other = _edited(folder, tmp_path / "other_model")
    render_report([folder, other], tmp_path / "report.html", title="Two models")
    page = _Page((tmp_path / "report.html").read_text())
    assert "Models side by side" in page.text
    assert "Scores: other_model" in page.text
    assert len(page.images) == 6


def test_a_bad_model_is_called_one(folder: Path, tmp_path: Path) -> None:
    summary = json.loads((folder / "scores.json").read_text())
    scores = [row | {"R2": -0.1, "slope": 0.1} for row in summary["scores"]]
    coverage = {"nominal": 0.9, "measured": 0.7, "low": 0.6, "high": 0.8}
    changes = {
        "scores": scores,
        "coverage": coverage,
        "n": 60,
        "n_blocks": 8,
        "out_of_support": 30,
        "random_folds": None,
    }
    bad = _edited(folder, tmp_path / "bad", **changes)
    render_report([bad], tmp_path / "report.html")
    text = _Page((tmp_path / "report.html").read_text()).text
    assert "predicts no better than one figure for the whole survey would" in text
    for words in (
        "Only 60 clusters",
        "Only 8 independent blocks",
        "drawn towards the average",
        "held for 70% of held-out clusters, not for 90%",
        "30 of 60 clusters look unlike",
        "180 of 240 clusters could not be used",
    ):
        assert words in text
    assert "Under random folds" not in text


def test_without_undefined_numbers_in_words(country, tmp_path: Path) -> None:
    """Few blocks leave intervals empty; the page shows dashes, never nan or None."""
    from geopov.regression import GivenFolds

    clusters = country.clusters.assign(part=np.arange(240) % 4).drop(columns="urban")
    evaluate(
        WelfareRidge(),
        country.features,
        clusters,
        outcome="asset_wealth",
        splits=GivenFolds("part"),
        folder=tmp_path / "few",
        random_folds=False,
    )
    render_report([tmp_path / "few"], tmp_path / "report.html")
    text = _Page((tmp_path / "report.html").read_text()).text
    assert not re.search(r"\b(nan|NaN|None|null)\b", text)
    assert "No nightlights baseline was available" in text
    assert "too few blocks for an interval" in text


def test_bad_input_is_named(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    with pytest.raises(RegressionError, match=r"has no scores\.json"):
        render_report([tmp_path], out)
    with pytest.raises(RegressionError, match="no folder is given"):
        render_report([], out)
    with pytest.raises(RegressionError, match="no picture at"):
        render_report([folder], out, maps=[(tmp_path / "none.png", "map")])
    (tmp_path / "map.png").write_bytes(b"GIF89a")
    with pytest.raises(RegressionError, match="not a PNG"):
        render_report([folder], out, maps=[(tmp_path / "map.png", "map")])
    damaged = _edited(folder, tmp_path / "damaged")
    (damaged / "scores.json").write_text("{")
    with pytest.raises(RegressionError, match="damaged"):
        render_report([damaged], out)
    assert not out.exists()


@pytest.mark.skipif(not CHROMIUM, reason="no Chromium on this machine")
@pytest.mark.parametrize("width", [390, 1280])
def test_fits_the_screen(html: str, tmp_path: Path, width: int) -> None:
    # The page holds no script; the copy under test gets one that reports what overflows.
    probe = "<script>document.title = document.documentElement.scrollWidth + ' ' + document.images.length + ' ' + "
    probe += "[...document.images].filter(i => i.naturalWidth > 0 && i.width <= innerWidth).length</script></body>"
    page = tmp_path / "probe.html"
    frame = f'<iframe src="{page.name}" style="width:{width}px;height:900px;border:0"></iframe>'
    page.write_text(html.replace("</body>", probe))
    # Headless Chromium refuses narrow windows, a frame may be any width.
    copy_title = "<script>onload = () => { document.title = frames[0].document.title }</script>"
    (tmp_path / "frame.html").write_text(f"<body style='margin:0'>{frame}{copy_title}</body>")
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--allow-file-access-from-files", "--window-size=1300,950"]
    done = subprocess.run(
        [*command, "--dump-dom", (tmp_path / "frame.html").as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    found = re.search(r"<title>(\d+) (\d+) (\d+)</title>", done.stdout)
    assert found, done.stdout[-500:] + done.stderr[-500:]
    scroll_width, images, fitting = map(int, found.groups())
    assert scroll_width <= width
    assert images == fitting == 4
