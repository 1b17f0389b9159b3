"""`geopov survey dhs|lsms|adapters` on files in the documented layouts, and on files that are wrong."""

from __future__ import annotations

import shutil
import zipfile

import geopandas as gpd
import numpy as np
import pandas as pd
import pyreadstat
import pytest
from scipy.stats import spearmanr
from typer.testing import CliRunner

from geopov.cli.survey import app
from geopov.errors import SurveyError
from geopov.survey import dropped, read_clusters
from geopov.testing import write_dhs, write_lsms


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return " ".join(result.output.split())


@pytest.fixture(scope="module")
def rwanda(tmp_path_factory):
    return write_dhs(tmp_path_factory.mktemp("rwanda"), n_clusters=30, households=12, members=True)


def test_two_phases_of_two_countries_become_one_table(rwanda, tmp_path):
    kenya = write_dhs(
        tmp_path / "ke", country="KE", version="41", year=2003, n_clusters=25, seed=3, encoding="cp1252", households=12
    )
    out = tmp_path / "clusters.parquet"
    printed = run("dhs", rwanda.household_file, rwanda.position_file, kenya.folder, "-o", out)
    clusters = read_clusters(out)
    assert clusters["survey"].value_counts().to_dict() == {"RW2014": 28, "KE2003": 23}
    assert clusters["country"].unique().tolist() == ["Kenya", "Rwanda"]
    left_out = dropped(clusters)
    assert (left_out["source"] == "clusters").sum() == 4
    assert "Spearman" in printed
    assert "loading" in printed

    truth = pd.concat([rwanda.clusters, kenya.clusters]).set_index("dhsid")["wealth"].reindex(clusters["cluster_id"])
    for survey in ("RW2014", "KE2003"):
        own = (clusters["survey"] == survey).to_numpy()
        for measure in ("asset_wealth", "asset_wealth_country", "iwi"):
            assert spearmanr(truth[own], clusters.loc[own, measure]).statistic > 0.8, (survey, measure)
        assert spearmanr(truth[own], clusters.loc[own, "deprivation"]).statistic < -0.7

    assert set(clusters.loc[clusters["urban"], "displacement_km"]) == {2.0}
    assert set(clusters.loc[~clusters["urban"], "displacement_km"]) == {5.0}
    gpkg = gpd.read_file(out.with_suffix(".gpkg"), layer="clusters")
    assert gpkg["cluster_id"].tolist() == clusters["cluster_id"].tolist()
    dictionary = pd.read_csv(out.with_suffix(".dictionary.csv"), index_col="column")
    assert set(dictionary.index) == set(clusters.columns)
    assert dictionary["description"].notna().all()


def test_a_repeat_gives_the_same_bytes_whatever_the_order(rwanda, tmp_path):
    one, two = tmp_path / "one" / "c.parquet", tmp_path / "two" / "c.parquet"
    run("dhs", rwanda.household_file, rwanda.position_file, "-o", one)
    run("dhs", rwanda.position_file, rwanda.household_file, "-o", two)
    for suffix in (".parquet", ".gpkg", ".dictionary.csv", ".dropped.csv"):
        assert one.with_suffix(suffix).read_bytes() == two.with_suffix(suffix).read_bytes(), suffix


def test_years_and_households_can_be_limited(rwanda, tmp_path):
    out = tmp_path / "clusters.parquet"
    arguments = ["dhs", rwanda.folder, "-o", out, "--imagery-year", 2017, "--nightlights-year", 2014]
    printed = run(*arguments)
    assert "Median years between survey and nearest image" in printed
    assert set(read_clusters(out)["imagery_gap"]) == {3}
    with pytest.raises(SurveyError, match="more than 2 years"):
        run(*arguments, "--max-year-gap", 2)
    with pytest.raises(SurveyError, match="needs a year to compare with"):
        run("dhs", rwanda.folder, "-o", out, "--max-year-gap", 2)
    with pytest.raises(SurveyError, match="no cluster is left"):
        run("dhs", rwanda.folder, "-o", out, "--min-households", 13)


def test_lsms_with_ten_lines_of_yaml(tmp_path):
    survey = write_lsms(tmp_path / "in", whole_adapter=False)
    assert len(survey.adapter_file.read_text().splitlines()) <= 10
    out = tmp_path / "clusters.parquet"
    files = ["--households", survey.household_file, "--locations", survey.location_file, "-o", out]
    run("lsms", survey.adapter_file, *files)
    clusters = read_clusters(out)
    assert len(clusters) == len(survey.clusters) - 1
    assert {"consumption_mwk", "log_consumption_mwk", "mean_log_consumption_mwk"} <= set(clusters.columns)
    assert (clusters["mean_log_consumption_mwk"] < clusters["log_consumption_mwk"]).all()


def test_lsms_in_ppp_with_a_line(tmp_path):
    survey = write_lsms(tmp_path / "in")
    out = tmp_path / "clusters.parquet"
    arguments = ["lsms", survey.adapter_file, "--households", survey.household_file]
    arguments += ["--locations", survey.location_file, "-o", out]
    printed = run(*arguments)
    assert f"{survey.headcount:.3f}" in printed
    run(*arguments, "--direct", tmp_path / "direct.csv", "--by", "region")
    direct = pd.read_csv(tmp_path / "direct.csv")
    assert list(direct.columns) == ["area", "estimate", "variance", "n", "psus"]
    assert direct["n"].sum() == len(survey.households)
    poor = survey.households.assign(people=survey.households["weight"] * survey.households["size"])
    for region, part in poor.groupby("region"):
        (estimate,) = direct.loc[direct["area"].astype(str) == str(region), "estimate"]
        assert estimate == pytest.approx(np.average(part["poor"], weights=part["people"]))
    with pytest.raises(SurveyError, match="--direct and --by go together"):
        run(*arguments, "--by", "region")
    with pytest.raises(SurveyError, match="by 'province'"):
        run(*arguments, "--direct", tmp_path / "x.csv", "--by", "province")
    ppp = ["--ppp-factor", 250, "--ppp-year", 2017, "--cpi-ratio", 1.2, "--ppp-source", "made up for this test"]
    run(*arguments, *ppp, "--line-ppp-usd", 2.15)
    clusters = read_clusters(out)
    national = read_clusters_of(survey, tmp_path)
    np.testing.assert_allclose(clusters["consumption"], national["consumption_mwk"] / (250 * 1.2))
    households = survey.households.assign(poor=survey.households["real"] / 300 < 2.15)
    people = households["weight"] * households["size"]
    expected = (people * households["poor"]).groupby(households["ea_id"]).sum() / people.groupby(
        households["ea_id"]
    ).sum()
    expected.index = expected.index.astype(str)
    whole = households.groupby("ea_id")["placed"].all()
    for cluster in clusters.loc[clusters["cluster_id"].isin(whole[whole].index.astype(str))].itertuples():
        assert cluster.headcount == pytest.approx(expected[cluster.cluster_id])
    with pytest.raises(SurveyError, match="has no PPP conversion"):
        run(*arguments, "--line-ppp-usd", 2.15)
    with pytest.raises(SurveyError, match="--ppp-source is missing"):
        run(*arguments, *ppp[:-2])


def read_clusters_of(survey, tmp_path):
    out = tmp_path / "national.parquet"
    files = ["--households", survey.household_file, "--locations", survey.location_file]
    run("lsms", survey.adapter_file, *files, "-o", out)
    return read_clusters(out)


def test_adapters_say_whether_they_were_checked():
    printed = CliRunner().invoke(app, ["adapters"], env={"COLUMNS": "240"}).output
    assert sum(line.count("not checked") for line in printed.splitlines()) >= 10
    assert any("malawi_ihs5" in line and " checked" in line for line in printed.splitlines())


# ---- what is wrong with files, and what is said of it


def _truncated(survey, folder):
    whole = survey.household_file.read_bytes()
    (folder / survey.household_file.name).write_bytes(whole[: len(whole) // 2])
    shutil.copy(survey.position_file, folder)
    return [folder], "truncated|no zip|damaged"


def _climbing(survey, folder):
    shutil.copy(survey.position_file, folder)
    with zipfile.ZipFile(folder / survey.household_file.name, "w") as archive:
        archive.writestr("../RWHR61FL.DTA", b"x")
    return [folder], r"\.\./"


def _bomb(survey, folder):
    """A zip whose directory promises ten gigabytes, as zeros would pack them."""
    shutil.copy(survey.position_file, folder)
    path = folder / survey.household_file.name
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("RWHR61FL.DTA", bytes(10_000_000))
    content = path.read_bytes()
    path.write_bytes(content.replace((10_000_000).to_bytes(4, "little"), (0xFFFF0000).to_bytes(4, "little")))
    return [folder], "bomb|compress|more than"


def _without_prj(survey, folder):
    shutil.copy(survey.household_file, folder)
    with zipfile.ZipFile(survey.position_file) as archive:
        archive.extractall(folder)
    places = next(folder.glob("*.shp"))
    table = gpd.read_file(places).assign(DATUM="")
    table.to_file(places)
    places.with_suffix(".prj").unlink()
    return [folder], r"\.prj"


def _twice(survey, folder):
    shutil.copy(survey.position_file, folder)
    _change(survey, folder, lambda table: pd.concat([table, table.head(3)]))
    return [folder], "more than once|twice"


def _of_another_survey(survey, folder):
    shutil.copy(survey.position_file, folder)
    _change(survey, folder, lambda table: table.assign(hv000="KE6"))
    return [folder], "KE"


def _no_recode(survey, folder):
    shutil.copy(survey.household_file, folder)
    shutil.copy(survey.position_file, folder)
    _change(survey, folder, lambda table: table.drop(columns=["hv001"]))
    return [folder], "hv001"


def _without_positions(survey, folder):
    shutil.copy(survey.household_file, folder)
    return [folder], "RWGE61FL.ZIP"


def _nothing(survey, folder):
    (folder / "readme.txt").write_text("nothing here")
    return [folder], "no household recode"


def _change(survey, folder, change):
    """The household recode with its table changed, under the same name."""
    with zipfile.ZipFile(survey.household_file) as archive:
        name = next(name for name in archive.namelist() if name.lower().endswith(".dta"))
        source = folder / "whole.dta"
        source.write_bytes(archive.read(name))
    table, meta = pyreadstat.read_dta(source)
    source.unlink()
    numbers = [column for column in table if column not in ("hhid", "hv000")]
    table[numbers] = table[numbers].apply(pd.to_numeric)
    changed = folder / "changed.dta"
    pyreadstat.write_dta(change(table), changed, column_labels=None, variable_value_labels=meta.variable_value_labels)
    with zipfile.ZipFile(folder / survey.household_file.name, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(changed, name)
    changed.unlink()


@pytest.mark.parametrize(
    "spoil",
    [
        _truncated,
        _climbing,
        _bomb,
        _without_prj,
        _twice,
        _of_another_survey,
        _no_recode,
        _without_positions,
        _nothing,
    ],
)
def test_wrong_files_are_named_and_nothing_is_written(spoil, rwanda, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    sources, said = spoil(rwanda, folder)
    before = sorted(path.name for path in tmp_path.rglob("*"))
    with pytest.raises(SurveyError, match=said):
        run("dhs", *sources, "-o", tmp_path / "clusters.parquet")
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


def test_a_cluster_number_stored_as_a_fraction_is_the_same_cluster(rwanda, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    shutil.copy(rwanda.position_file, folder)
    _change(rwanda, folder, lambda table: table.assign(hv001=table["hv001"].astype(float)))
    out, as_it_is = tmp_path / "float.parquet", tmp_path / "whole.parquet"
    run("dhs", folder, "-o", out)
    run("dhs", rwanda.folder, "-o", as_it_is)
    pd.testing.assert_frame_equal(pd.DataFrame(read_clusters(out)), pd.DataFrame(read_clusters(as_it_is)))


def test_the_wrong_file_for_an_adapter_is_named(tmp_path):
    survey = write_lsms(tmp_path / "in")
    with pytest.raises(SurveyError, match="malawi_ihs5"):
        run(
            "lsms", "malawi_ihs5_2019", "--households", survey.household_file,
            "--locations", survey.location_file, "-o", tmp_path / "c.parquet",
        )  # fmt: skip
    assert not (tmp_path / "c.parquet").exists()
