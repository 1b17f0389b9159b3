"""The sample files: in the documented layout, with the truth they claim, and the same bytes each time."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyproj import Geod
from sklearn.decomposition import PCA

from geopov.errors import SurveyError
from geopov.survey.files.microdata import open_microdata
from geopov.survey.lsms.read import read_lsms
from geopov.testing import write_dhs, write_lsms

HOUSING = ("hv201", "hv205", "hv213")


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def stata(path: Path) -> pd.DataFrame:
    return pd.read_stata(path, convert_categoricals=False)


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, ["RWGE61FL.ZIP", "RWHR61DT.ZIP"]),
        ({"version": "31", "country": "KE", "encoding": "cp1252"}, ["KEGE31FL.ZIP", "KEHR31DT.ZIP", "KEWI31DT.ZIP"]),
        ({"file_format": "SV", "members": True}, ["RWGE61FL.ZIP", "RWHR61SV.ZIP"]),
        (
            {"zipped": False, "version": "7A"},
            ["RWGE7AFL.cpg", "RWGE7AFL.dbf", "RWGE7AFL.prj", "RWGE7AFL.shp", "RWGE7AFL.shx", "RWHR7AFL.DTA"],
        ),
    ],
)
def test_dhs_files_repeat_bit_for_bit(tmp_path, options, names):
    for folder in ("a", "b"):
        write_dhs(tmp_path / folder, n_clusters=6, households=4, **options)
    write_dhs(tmp_path / "c", n_clusters=6, households=4, seed=1, **options)
    assert list(digests(tmp_path / "a")) == names
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    assert digests(tmp_path / "a")[names[-1]] != digests(tmp_path / "c")[names[-1]]


def test_dhs_zips_hold_what_the_distribution_holds(tmp_path):
    truth = write_dhs(tmp_path, n_clusters=4, households=2)
    assert zipfile.ZipFile(truth.household_file).namelist() == ["RWHR61FL.DTA"]
    members = zipfile.ZipFile(truth.position_file).namelist()
    assert members == [f"RWGE61FL.{suffix}" for suffix in ("shp", "shx", "dbf", "prj", "cpg")]
    assert truth.survey == "RW2014"


def test_household_recode_is_as_the_manual_has_it(tmp_path):
    truth = write_dhs(tmp_path, zipped=False, version="61")
    table, data = stata(truth.household_file), open_microdata(truth.household_file)
    assert (table["hv000"] == "RW6").all()
    assert table["hhid"].str.len().eq(12).all()
    assert table["hhid"].iloc[0] == "       1   1"
    assert table["hv005"].mean() == pytest.approx(1e6, rel=1e-4)
    assert (table["hv008"] == (table["hv007"] - 1900) * 12 + table["hv006"]).all()
    assert (table["hv021"] == table["hv001"]).all()
    assert set(table["hv025"]) == {1, 2}
    assert data.labels["hv271"] == "wealth index factor score (5 decimals)"
    assert data.value_labels["hv270"][5] == "richest"
    assert data.value_labels["hv201"][21] == "tube well or borehole"
    for name in (*HOUSING, "hv206", "hv212"):
        known = set(data.value_labels[name]) | {9 if name > "hv205" and name != "hv213" else 99}
        assert set(table[name].dropna()) <= known


@pytest.mark.parametrize(
    ("version", "absent", "year", "well"),
    [
        ("31", {"hv221", "hv226", "hv243a", "hv271"}, 96, "Public well"),
        ("41", {"hv243a", "hv243e", "hv270", "hv271"}, 2000, "Open well in yard/plot"),
        ("51", {"hv243e"}, 2007, None),
    ],
)
def test_phases_differ_in_variables_codes_and_years(tmp_path, version, absent, year, well):
    truth = write_dhs(tmp_path, zipped=False, version=version, n_clusters=10)
    data = open_microdata(truth.household_file)
    assert not absent & set(data.columns)
    assert data.read(["hv007"])["hv007"].unique().tolist() == [year]
    assert data.value_labels["hv201"].get(22) == well
    if truth.wealth_file is not None:
        index = stata(truth.wealth_file)
        assert index["whhid"].tolist() == truth.households["hhid"].tolist()
        assert index["wlthindf"].corr(truth.households["wealth"], method="spearman") > 0.85


def test_missing_is_coded_by_width_and_blank(tmp_path):
    truth = write_dhs(tmp_path, zipped=False, missing_share=0.2, members=True, name_missing=True)
    table = stata(truth.household_file)
    n = len(table)
    for name, code in (("hv206", 9), ("hv201", 99), ("hv204", 999), ("hv216", 99)):
        assert 0.05 < (table[name] == code).sum() / n < 0.15
        assert 0.05 < table[name].isna().sum() / n < 0.15
    assert (table["hv204"] == 998).any()
    assert table["hv108_01"].isin([97, 98, 99]).any()
    visitors = truth.households["visitors_only"]
    assert visitors.any()
    assert set(table.loc[visitors, "hv201"].dropna()) <= {97, 99}
    assert (table["hv012"] == 0).equals(visitors)
    assert open_microdata(truth.household_file).value_labels["hv201"][99] == "missing"
    lines = table[[f"hvidx_{line:02d}" for line in range(1, 13)]].notna().sum(axis=1)
    assert (lines == table["hv009"]).all()


def test_a_principal_component_finds_the_latent_wealth(tmp_path):
    """The oracle is scikit-learn's, on the answers alone; the file's own score must do as well."""
    truth = write_dhs(tmp_path, zipped=False, n_clusters=60)
    table = stata(truth.household_file)
    assets = table[["hv206", "hv207", "hv208", "hv209", "hv211", "hv212", "hv221", "hv243a", "hv243e"]] == 1
    found = PCA(1).fit_transform((assets - assets.mean()) / assets.std())[:, 0]
    wealth = truth.households["wealth"]
    assert abs(pd.Series(found).corr(wealth, method="spearman")) > 0.8
    assert table["hv271"].corr(wealth, method="spearman") > 0.9
    people = table["hv005"] * table["hv009"]
    shares = people.groupby(table["hv270"]).sum() / people.sum()
    np.testing.assert_allclose(shares, 0.2, atol=0.005)
    assert table.groupby("hv270")["hv271"].max().is_monotonic_increasing


def test_a_richer_country_owns_more(tmp_path):
    poor, rich = (
        stata(write_dhs(tmp_path / str(mean), zipped=False, wealth_mean=mean).household_file) for mean in (-1.0, 1.0)
    )
    for name in ("hv206", "hv208", "hv243a"):
        assert (rich[name] == 1).mean() > (poor[name] == 1).mean() + 0.2


def test_positions_are_displaced_by_the_rule(tmp_path):
    truth = write_dhs(tmp_path, zipped=False, n_clusters=400, households=1, not_located=3)
    points = gpd.read_file(truth.position_file)
    clusters = truth.clusters
    assert points.crs.to_epsg() == 4326
    assert points["DHSID"].tolist() == clusters["dhsid"].tolist()
    assert points["DHSID"].iloc[0] == "RW201400000001"
    assert points["DHSCLUST"].dtype == float
    lost = points["SOURCE"] == "MIS"
    assert lost.sum() == 3
    assert (points.loc[lost, ["LATNUM", "LONGNUM"]] == 0).all(axis=None)
    assert (lost == ~clusters["located"]).all()
    assert (points.loc[lost, "ALT_GPS"] == 9999).all()
    there = clusters[clusters["located"]]
    shown = points[clusters["located"]]
    _, _, metres = Geod(ellps="WGS84").inv(there["lon"], there["lat"], shown["LONGNUM"], shown["LATNUM"])
    np.testing.assert_allclose(metres / 1000, there["displaced_km"], atol=1e-6)
    urban = there["urban"].to_numpy()
    assert metres[urban].max() <= 2000
    assert metres[urban].mean() == pytest.approx(1000, rel=0.15)
    assert metres[~urban].max() <= 10_000
    assert np.mean(metres[~urban] > 5000) < 0.02
    assert metres[~urban].mean() == pytest.approx(2500, rel=0.12)


def test_accents_are_in_the_code_page_asked_for(tmp_path):
    truth = write_dhs(tmp_path, zipped=False, encoding="cp1252", n_clusters=10, households=2)
    raw = truth.household_file.read_bytes()
    assert "Cœur de l’Île".encode("cp1252") in raw
    assert "Équateur".encode() not in raw
    data = open_microdata(truth.household_file)
    assert data.value_labels["hv024"][1] == "Équateur"
    assert data.value_labels["hv024"][4] == "Cœur de l’Île"
    assert set(gpd.read_file(truth.position_file)["DHSREGNA"]) <= set(data.value_labels["hv024"].values())
    utf8 = write_dhs(tmp_path / "u", zipped=False, encoding="utf-8", n_clusters=10, households=2)
    assert "Équateur".encode() in utf8.household_file.read_bytes()


def test_spss_says_the_same_as_stata(tmp_path):
    spss = open_microdata(write_dhs(tmp_path / "s", zipped=False, file_format="SV", members=True).household_file)
    dta = stata(write_dhs(tmp_path / "d", zipped=False, members=True).household_file)
    assert set(spss.columns) == {name.upper() for name in dta}
    table = spss.read(list(dta.columns))
    pd.testing.assert_frame_equal(table.astype(dta.dtypes), dta)
    assert spss.value_labels["HV025"] == {1: "urban", 2: "rural"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"version": "21"}, "phase 3 to 7"),
        ({"version": ""}, "phase 3 to 7"),
        ({"file_format": "SD"}, "expected DT, or SV"),
        ({"file_format": "SV", "encoding": "cp1252"}, "expected DT, or SV"),
        ({"not_located": 50}, "cannot be"),
        ({"households": 0}, "cannot be"),
    ],
)
def test_what_cannot_be_written_is_said(tmp_path, options, message):
    with pytest.raises(SurveyError, match=message):
        write_dhs(tmp_path, **options)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    n_clusters=st.integers(1, 12),
    households=st.integers(1, 6),
    seed=st.integers(0, 2**32),
    version=st.sampled_from(["31", "41", "52", "61", "7A"]),
)
def test_any_size_and_seed_makes_whole_files(tmp_path, n_clusters, households, seed, version):
    truth = write_dhs(
        tmp_path, n_clusters=n_clusters, households=households, seed=seed, version=version, zipped=False, not_located=0
    )
    table = stata(truth.household_file)
    assert len(table) == n_clusters * households == len(truth.households)
    assert not table.duplicated(["hv001", "hv002"]).any()
    points = gpd.read_file(truth.position_file)
    assert points["LONGNUM"].between(28.9, 30.9).all()
    assert points["LATNUM"].between(-2.8, -1.1).all()


@pytest.mark.parametrize("locations", ["household", "ea"])
def test_lsms_files_give_back_their_truth(tmp_path, locations):
    truth = write_lsms(tmp_path, locations=locations, not_located=2, not_placed=1)
    found = read_lsms(truth.adapter_file, households=truth.household_file, locations=truth.location_file)
    households = truth.households
    assert found["household_id"].tolist() == households["case_id"].tolist()
    np.testing.assert_allclose(found["consumption_mwk"], households["real"])
    assert ((found["consumption_mwk"] < found["poverty_line"]) == households["poor"]).all()
    people = found["weight"] * found["household_size"]
    assert (people * (found["consumption_mwk"] < found["poverty_line"])).sum() / people.sum() == pytest.approx(
        truth.headcount
    )
    assert (people * found["consumption_mwk"]).sum() / people.sum() == pytest.approx(truth.mean)
    assert found["lon"].isna().sum() == (~households["placed"]).sum() == (1 if locations == "household" else 16)
    at_zero = households["ea_id"].isin(truth.clusters.loc[~truth.clusters["located"], "ea_id"])
    assert at_zero.sum() == 32
    assert ((found["lon"] == 0) & (found["lat"] == 0)).equals(at_zero)


def test_lsms_repeats_and_its_least_adapter_has_ten_lines(tmp_path):
    truth = write_lsms(tmp_path / "a", whole_adapter=False)
    write_lsms(tmp_path / "b", whole_adapter=False)
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    assert len(truth.adapter_file.read_text().splitlines()) == 10
    found = read_lsms(truth.adapter_file, households=truth.household_file, locations=truth.location_file)
    np.testing.assert_allclose(found["consumption_mwk"], truth.households["nominal"])
    assert open_microdata(truth.household_file).labels["hh_weight"] == "household sampling weight"


def test_lsms_that_cannot_be(tmp_path):
    with pytest.raises(SurveyError, match="ask for fewer"):
        write_lsms(tmp_path, n_clusters=2, not_located=2, not_placed=1)
