"""The page stands alone, says what was found, and fits a phone; JSON and Parquet hold the same."""

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
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from geopov._validation import sha256_of
from geopov.errors import RegressionError
from geopov.regression import GivenFolds, SpatialBlocks, WelfareRidge, evaluate, render_report
from geopov.regression.report.format import COLUMNS
from geopov.regression.scores import SCORES

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
)
# The map, two scatters, the residuals, the scores, the curve, the bias by decile, the permutation test.
N_IMAGES = 8


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

    def all(self, *tags: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.elements if tag in tags]


@pytest.fixture(scope="module")
def folder(country, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report") / "wealth"
    features = country.features.isel(cluster=slice(2, None)).assign_attrs(
        dropped='[{"cluster_id": "c0001", "reason": "no valid pixels"}]', provenance='{"weights": "abc"}'
    )
    east = country.clusters.geometry.x > 29.5
    evaluate(
        WelfareRidge(),
        features,
        country.clusters.assign(country=np.where(east, "Uganda", "Rwanda"), year=2014),
        outcome="asset_wealth",
        splits=SpatialBlocks(block_km=40),
        folder=folder,
        baseline=country.lights,
        unit="index",
        n_permutations=20,
        n_repeats=4,
        imagery_years=[2019],
    )
    return folder


@pytest.fixture(scope="module")
def summary(folder: Path) -> dict:
    return json.loads((folder / "scores.json").read_text())


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("picture") / "map.png"
    figure = Figure(figsize=(9, 6))
    figure.add_subplot().imshow(np.arange(60.0).reshape(6, 10))
    figure.savefig(path)
    return path


@pytest.fixture(scope="module")
def report(folder: Path, picture: Path) -> Path:
    path = folder.parent / "report.html"
    render_report([folder], path, maps=[(picture, "Wealth <in> 1 km cells")])
    return path


@pytest.fixture(scope="module")
def html(report: Path) -> str:
    return report.read_text()


def _edited(folder: Path, to: Path, **changes: object) -> Path:
    shutil.copytree(folder, to)
    summary = json.loads((to / "scores.json").read_text()) | changes
    (to / "scores.json").write_text(json.dumps(summary))
    return to


def _rendered(folder: Path, to: Path) -> _Page:
    render_report([folder], to)
    return _Page(to.read_text())


def test_nothing_is_fetched_and_nothing_runs(html: str) -> None:
    page = _Page(html)
    assert not re.search(r"(https?:)?//[a-z]", re.sub(r"base64,[A-Za-z0-9+/=]+", "", html))
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in page.elements}
    assert all((image["src"] or "").startswith("data:image/png;base64,") for image in page.all("img"))
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert "@import" not in html
    assert "url(" not in html


def test_figures_are_pictures_with_a_description(html: str) -> None:
    images = _Page(html).all("img")
    assert len(images) == N_IMAGES
    for image in images:
        pixels = imread(io.BytesIO(base64.b64decode((image["src"] or "").split(",")[1])))
        assert min(pixels.shape[:2]) > 300
        assert np.ptp(pixels[..., :3]) > 0.5
        assert len(image["alt"] or "") > 10
    assert len({image["alt"] for image in images}) == N_IMAGES


def test_a_screen_reader_finds_its_way(html: str) -> None:
    page = _Page(html)
    assert page.all("html")[0]["lang"] == "en"
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert max(np.diff(levels)) <= 1, "a heading skips a level"
    assert all(cell.get("scope") in ("col", "row") for cell in page.all("th"))
    assert len(page.all("caption")) == len(page.all("table")) == 6
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {link["href"] for link in page.all("a")} == {f"#{name}" for name in ids}
    boxes = [attributes for attributes in page.all("div") if attributes.get("class") == "scroll"]
    assert all(box.get("tabindex") == "0" and box.get("aria-label") for box in boxes)


def test_first_screen_says_how_good_and_how_sure(html: str, summary: dict) -> None:
    head = _Page(html.split("</header>")[0]).text
    rows = {row["predictor"]: row for row in summary["scores"] if row["subset"] == "all"}
    assert "238 survey clusters" in head
    assert f"accounts for {rows['model']['R2']:.0%} of the differences between clusters" in head
    assert f"accounts for {rows[summary['baseline']]['R2']:.0%} of the differences." in head
    assert f"± {summary['half_width_median']:.2f} index" in head
    assert f"held for {summary['coverage']['measured']:.0%} of those held out" in head
    assert "Survey (2014) and images (2019) lie up to 5 years apart" in head
    assert "Wealth <in> 1 km cells" in head  # escaped in the source
    assert not re.search(r"R²|r²|RMSE|kriging|ridge|conformal|bootstrap", head), "no jargon on the first screen"


def test_all_that_matters_is_on_the_page(html: str, summary: dict) -> None:
    text = _Page(html).text
    assert summary["verdict"] in text
    assert summary["leakage"]["text"] in text
    assert summary["block_advice"]["text"] in text
    for words in (
        "238 of 240 clusters were used",
        "1 clusters : no valid pixels",
        "not among the features",
        "c0001",
        "SpatialBlocks",
        "block_km = 40",
        "weights",
        "mean of 2 countries",
        "reshuffled among the clusters 20 times",
        "divided into folds 4 times along other lines",
        "Ways of de-shrinking",
        "arXiv:2508.01341",
    ):
        assert words in text, words
    assert text.count("Under random folds") == 1
    for label in summary["baselines"].values():
        assert text.count(label) >= 2, f"{label} stands in the table of scores and in that of differences"


def test_the_tables_show_the_scores(html: str, summary: dict) -> None:
    """Every score of the model, with its interval, as the summary has it."""
    row = next(row for row in summary["scores"] if row["subset"] == "all" and row["predictor"] == "model")
    line = re.search(r'<tr class="model"><th scope="row">model</th>(.*?)</tr>', html, re.DOTALL)
    assert line is not None
    cells = re.findall(r"<td>(\S+?)<br><small>(\S+) to (\S+)</small></td>", line.group(1).replace("−", "-"))
    found = [tuple(map(float, cell)) for cell in cells]
    assert set(COLUMNS) == set(SCORES)
    expected = [(row[name], row[f"{name}_low"], row[f"{name}_high"]) for name in COLUMNS]
    np.testing.assert_allclose(found, expected, atol=0.0051)


def test_json_and_parquet_hold_the_same(report: Path, folder: Path, summary: dict) -> None:
    content = json.loads(report.with_suffix(".json").read_text())
    (run,) = content["runs"]
    assert content["maps"] == ["Wealth <in> 1 km cells"]
    assert run["name"] == folder.name
    assert run["summary"] == summary
    text = _Page(report.read_text()).text
    for sentence in [answer["text"] for answer in run["answers"]] + [warning["text"] for warning in run["warnings"]]:
        assert sentence in text
    table = pd.read_parquet(report.with_suffix(".parquet"))
    columns = ["run", "subset", "predictor", "score", "value", "low", "high", "n", "n_blocks"]
    assert list(table.columns) == columns
    assert len(table) == len(summary["scores"]) * len(SCORES)
    one = table[(table["subset"] == "rural") & (table["predictor"] == "nightlights_knn")].set_index("score")
    source = next(r for r in summary["scores"] if r["subset"] == "rural" and r["predictor"] == "nightlights_knn")
    for name in SCORES:
        assert one.loc[name, ["value", "low", "high"]].tolist() == [source[name + end] for end in ("", "_low", "_high")]


def test_a_repeat_gives_the_same_bytes(folder: Path, picture: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        render_report([folder], tmp_path / name / "report.html", maps=[(picture, "map")])
    for suffix in (".html", ".json", ".parquet"):
        first, second = (tmp_path / name / f"report{suffix}" for name in ("a", "b"))
        assert sha256_of(first) == sha256_of(second), suffix
        assert b"/tmp" not in first.read_bytes()
    assert len(list((tmp_path / "a").iterdir())) == 3, "nothing else is left"


def test_several_models_stand_side_by_side(folder: Path, tmp_path: Path) -> None:
    other = _edited(folder, tmp_path / "other_model", permutation=None)
    render_report([folder, other], tmp_path / "report.html", title="Two models")
    page = _Page((tmp_path / "report.html").read_text())
    assert "Models side by side" in page.text
    assert "Scores: other_model" in page.text
    assert len(page.all("img")) == 2 * (N_IMAGES - 1) - 1
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert set(pd.read_parquet(tmp_path / "report.parquet")["run"]) == {"wealth", "other_model"}


OPTIONAL = {
    "permutation": "reshuffled among",
    "repeats": "Other divisions",
    "random_folds": "Under random folds",
    "years": "lie up to 5 years apart",
    "coverage_by": "Coverage of the intervals",
    "half_width_range": "eight in ten",
    "shrinkage": "Ways of de-shrinking",
    "bias_by_decile": "tenth of the clusters by survey",
    "curve": "Among the lowest",
    "block_advice": "Residuals",
    "leakage": "so that overlaps could not be looked for",
    "features": "abc",
}


def test_what_a_run_lacks_is_left_out(folder: Path, summary: dict, html: str, tmp_path: Path) -> None:
    assert all(words in _Page(html).text for words in OPTIONAL.values())
    bare = _edited(folder, tmp_path / "bare")
    kept = {name: value for name, value in summary.items() if name not in OPTIONAL}
    (bare / "scores.json").write_text(json.dumps(kept))
    text = _rendered(bare, tmp_path / "bare.html").text
    assert not [name for name, words in OPTIONAL.items() if words in text]
    assert not re.search(r"\b(nan|NaN|None|null|Undefined)\b", text)
    empty = _edited(folder, tmp_path / "empty", **dict.fromkeys(("permutation", "repeats", "random_folds", "years")))
    assert "Years. Survey: not recorded" in _rendered(empty, tmp_path / "empty.html").text


def test_without_undefined_numbers_in_words(country, tmp_path: Path) -> None:
    """Few blocks leave intervals empty; the page shows dashes, never nan or None."""
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
    text = _rendered(tmp_path / "few", tmp_path / "report.html").text
    assert not re.search(r"\b(nan|NaN|None|null|Undefined)\b", text)
    assert "No nightlights baseline was available" in text
    assert "too few independent blocks to say whether the model is better" in text
    assert "there are no parts to score" in text


def test_bad_input_is_named(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    with pytest.raises(RegressionError, match=r"has no scores\.json"):
        render_report([tmp_path], out)
    with pytest.raises(RegressionError, match="no folder is given"):
        render_report([], out)
    with pytest.raises(RegressionError, match=r"name an \.html file"):
        render_report([folder], tmp_path / "report.json")
    with pytest.raises(RegressionError, match="no picture at"):
        render_report([folder], out, maps=[(tmp_path / "none.png", "map")])
    (tmp_path / "map.png").write_bytes(b"GIF89a")
    with pytest.raises(RegressionError, match="not a PNG"):
        render_report([folder], out, maps=[(tmp_path / "map.png", "map")])
    damaged = _edited(folder, tmp_path / "damaged")
    (damaged / "scores.json").write_text("{")
    with pytest.raises(RegressionError, match="damaged"):
        render_report([damaged], out)
    (damaged / "scores.json").write_text('{"n": 3}')
    with pytest.raises(RegressionError, match="has no outcome, unit"):
        render_report([damaged], out)
    assert not list(tmp_path.glob("report.*"))


_PROBE = """<script>onload = () => { document.title = JSON.stringify({
  width: document.documentElement.scrollWidth, images: document.images.length,
  fitting: [...document.images].filter(i => i.naturalWidth > 0 && i.getBoundingClientRect().right <= innerWidth).length,
  answers: document.querySelector('.answers').getBoundingClientRect().bottom,
  map: document.querySelector('.hero figure').getBoundingClientRect().bottom,
  note: document.querySelector('.note').getBoundingClientRect().bottom,
  scrolling: [...document.querySelectorAll('.scroll')].filter(box => box.scrollWidth > box.clientWidth).length }) }
</script></body>"""


def _measured(html: str, folder: Path, *, width: int) -> dict[str, float]:
    """What a real browser makes of the page in a window of so many pixels."""
    # The page holds no script; the copy under test gets one that reports what it measures.
    (folder / "probe.html").write_text(html.replace("</body>", _PROBE))
    frame = f'<iframe src="probe.html" style="width:{width}px;height:800px;border:0"></iframe>'
    copy_title = "<script>onload = () => { document.title = frames[0].document.title }</script>"
    # Headless Chromium refuses narrow windows, a frame may be any width.
    (folder / "frame.html").write_text(f"<body style='margin:0'>{frame}{copy_title}</body>")
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    command += [f"--user-data-dir={folder / 'profile'}", "--allow-file-access-from-files", "--window-size=1300,950"]
    command += ["--hide-scrollbars", "--dump-dom", (folder / "frame.html").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    found = re.search(r"<title>(\{.*?\})</title>", done.stdout)
    assert found, done.stdout[-500:] + done.stderr[-500:]
    return json.loads(found.group(1))


@pytest.mark.skipif(not CHROMIUM, reason="no Chromium on this machine")
@pytest.mark.parametrize("width", [390, 1280])
def test_fits_the_screen(html: str, tmp_path: Path, width: int) -> None:
    measured = _measured(html, tmp_path, width=width)
    assert measured["width"] <= width
    assert measured["images"] == measured["fitting"] == N_IMAGES
    assert measured["answers"] <= 800, "the three answers stand on the first screen"
    if width == 1280:
        assert max(measured["map"], measured["note"]) <= 800, "so do the map and the warnings"
    else:
        assert measured["scrolling"] >= 4, "wide tables scroll in their own boxes"
