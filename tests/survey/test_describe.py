"""What is in files, told before anything is run; and the pictures of their clusters."""

from __future__ import annotations

import json
import shutil
import struct
import zipfile

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from matplotlib.image import imread

from geopov.errors import SurveyError
from geopov.survey.describe import clusters_in, describe_files, draw_clusters, text_map
from geopov.survey.lsms.adapter import read_adapter
from geopov.testing import write_dhs, write_lsms


@pytest.fixture
def rwanda(tmp_path):
    return write_dhs(tmp_path / "rw", n_clusters=12, households=5, missing_share=0.1)


@pytest.fixture
def unpacked(tmp_path):
    return write_dhs(tmp_path / "rw", n_clusters=12, households=5, zipped=False)


def rewrite(path, change):
    table = pd.read_stata(path, convert_categoricals=False)
    change(table).to_stata(path, write_index=False, version=118)


def only(paths):
    (description,) = describe_files(paths)
    return description


def points_at(lon, lat, **columns):
    ids = [f"c{number}" for number in range(len(lon))]
    return gpd.GeoDataFrame({"cluster_id": ids, **columns}, geometry=gpd.points_from_xy(lon, lat), crs="EPSG:4326")


def test_a_dhs_survey_in_its_zips(rwanda):
    positions, households = describe_files(rwanda.folder)
    assert (households.kind, households.what) == ("dhs_households", "DHS household recode")
    assert (households.survey, households.country, households.version) == ("RW2014", "Rwanda", "61")
    assert (households.rows, households.columns) == (60, 37)
    assert households.file == "RWHR61DT.ZIP/RWHR61FL.DTA"
    assert households.source == str(rwanda.household_file)
    assert households.problems == ()
    assert "60 households in 12 clusters" in households.facts
    assert positions.kind == "dhs_positions"
    assert (positions.survey, positions.rows, positions.crs, positions.datum) == ("RW2014", 12, "WGS 84", "WGS84")
    lost = rwanda.clusters.loc[~rwanda.clusters["located"], "cluster"].astype(str)
    assert positions.problems == (
        f"rows at 0, 0, which stands for no position (left out later): 2 ({', '.join(lost)})",
    )
    command = f"geopov survey dhs {rwanda.household_file} {rwanda.position_file} -o rw2014.parquet"
    assert positions.next_step == households.next_step == command


def test_missing_shares_count_special_codes_and_blanks(rwanda, tmp_path):
    with zipfile.ZipFile(rwanda.household_file) as archive:
        archive.extractall(tmp_path)
    table = pd.read_stata(tmp_path / "RWHR61FL.DTA", convert_categoricals=False)
    missing = {variable.name: variable.missing for variable in only(rwanda.household_file).variables}
    assert missing["hv206"] == pytest.approx((~table["hv206"].isin([0, 1])).mean())
    assert missing["hv206"] > 0
    assert missing["hv201"] == pytest.approx((table["hv201"].isna() | table["hv201"].isin([97, 98, 99])).mean())
    assert missing["hv204"] == pytest.approx((table["hv204"].isna() | table["hv204"].isin([998, 999])).mean())
    assert missing["hv001"] == 0


def test_descriptions_are_json(rwanda, tmp_path):
    write_lsms(tmp_path / "lsms")
    described = [each.to_dict() for each in describe_files([rwanda.folder, tmp_path / "lsms"])]
    again = json.loads(json.dumps(described, allow_nan=False))
    assert [each["file"] for each in again] == [each["file"] for each in described]
    assert {"name", "column", "label", "required", "missing"} == set(again[0]["variables"][0])


def test_what_a_phase_lacks_and_what_else_it_brings(tmp_path):
    write_dhs(tmp_path, version="41", country="KE", encoding="cp1252", n_clusters=5, households=3)
    positions, households, wealth = describe_files(tmp_path)
    absent = [variable.name for variable in households.variables if variable.column is None]
    assert absent == ["hv243a", "hv243c", "hv243e", "hv270", "hv271"]
    assert households.encoding == positions.encoding == "CP1252"
    assert households.survey == "KE2000"
    assert (wealth.kind, wealth.what) == ("dhs_wealth", "DHS wealth index")
    files = [tmp_path / name for name in ("KEHR41DT.ZIP", "KEGE41FL.ZIP", "KEWI41DT.ZIP")]
    command = f"geopov survey dhs {' '.join(map(str, files))} -o ke2000.parquet"
    assert {each.next_step for each in (positions, households, wealth)} == {command}
    assert "give it with the HR and GE files" in only(files[2]).next_step


def test_a_recode_that_is_not_needed(tmp_path):
    pd.DataFrame({"v001": [1.0], "v005": [1e6]}).to_stata(tmp_path / "RWIR61FL.DTA", write_index=False)
    described = only(tmp_path / "RWIR61FL.DTA")
    assert (described.kind, described.what) == ("dhs_other", "DHS women's recode")
    assert described.next_step.startswith("not used")


def test_years_of_two_digits(tmp_path):
    truth = write_dhs(tmp_path, version="31", year=1992, n_clusters=3, households=2, not_located=0)
    described = only(truth.household_file)
    assert (described.year, described.survey) == (1992, "RW1992")
    assert "interviewed in 1992" in described.facts


def test_half_a_survey_says_what_to_get(rwanda):
    assert only(rwanda.household_file).next_step.startswith("get RWGE61FL.ZIP too")
    assert only(rwanda.position_file).next_step.startswith("get RWHR61DT.ZIP too")


def test_files_of_two_surveys_are_not_paired(rwanda, tmp_path):
    kenya = write_dhs(tmp_path / "ke", country="KE", n_clusters=3, households=2)
    households, positions = describe_files([rwanda.household_file, kenya.position_file])
    assert "get RWGE61FL.ZIP" in households.next_step
    assert "get KEHR61DT.ZIP" in positions.next_step


def test_releases_are_paired_with_their_own_and_else_by_phase(tmp_path):
    first = write_dhs(tmp_path / "a", version="61", year=2010, n_clusters=3, households=2)
    second = write_dhs(tmp_path / "b", version="6A", year=2014, n_clusters=3, households=2)
    both = describe_files([first.folder, second.folder])
    assert {each.next_step.split()[-1] for each in both} == {"rw2010.parquet", "rw2014.parquet"}
    (mixed, _) = describe_files([first.household_file, second.position_file])
    assert mixed.next_step.startswith(f"geopov survey dhs {first.household_file} {second.position_file}")


def test_a_file_of_another_survey(unpacked, tmp_path):
    wrong = tmp_path / "KEHR61FL.DTA"
    shutil.copy(unpacked.household_file, wrong)
    assert any("hv000 says RW: the file of another survey" in problem for problem in only(wrong).problems)


def test_a_recode_is_known_by_its_columns_too(unpacked, tmp_path):
    renamed = tmp_path / "households.dta"
    shutil.copy(unpacked.household_file, renamed)
    described = only(renamed)
    assert (described.kind, described.survey, described.version) == ("dhs_households", "RW2014", None)
    both = describe_files([renamed, unpacked.position_file])
    assert both[0].next_step == f"geopov survey dhs {renamed} {unpacked.position_file} -o rw2014.parquet"


def test_duplicates_and_zero_weights_are_counted(unpacked):
    def spoil(table):
        table = table.astype({"hv005": float})
        table.loc[[3, 4], "hv005"] = [0.0, np.nan]
        return pd.concat([table, table.iloc[[7]]])

    rewrite(unpacked.household_file, spoil)
    problems = only(unpacked.household_file).problems
    repeated = unpacked.households["hhid"].iloc[7].strip()
    assert f"households that stand twice: 1 ({repeated})" in problems
    assert "households without a weight (hv005) above zero: 2" in problems


def test_clusters_of_one_file_only_are_named(unpacked):
    rewrite(unpacked.household_file, lambda table: table.assign(hv001=table["hv001"].replace(12, 99)))
    described = {each.kind: each for each in describe_files(unpacked.folder)}
    assert "clusters that are not in RWGE61FL.shp: 1 (99)" in described["dhs_households"].problems
    assert "clusters that are not in RWHR61FL.DTA: 1 (12)" in described["dhs_positions"].problems


def test_a_shapefile_without_prj(unpacked):
    unpacked.position_file.with_suffix(".prj").unlink()
    described = only(unpacked.position_file)
    assert described.crs is None
    assert "no .prj: the CRS is taken from DATUM" in described.problems


def test_another_datum(unpacked):
    table = gpd.read_file(unpacked.position_file)
    table.assign(DATUM="ARC1960").to_file(unpacked.position_file)
    assert "DATUM is ARC1960, not WGS84: positions will be transformed" in only(unpacked.position_file).problems


def test_one_damaged_zip_does_not_hide_the_rest(rwanda):
    whole = rwanda.household_file.read_bytes()
    (rwanda.folder / "RWIR61DT.ZIP").write_bytes(whole[: len(whole) // 2])
    described = {each.file: each for each in describe_files(rwanda.folder)}
    bad = described["RWIR61DT.ZIP"]
    assert bad.kind == "unreadable"
    assert "cut short" in bad.problems[0]
    assert described["RWHR61DT.ZIP/RWHR61FL.DTA"].next_step.startswith("geopov survey dhs")
    points = clusters_in(rwanda.folder)
    assert len(points) == 10
    assert "RWIR61DT.ZIP" in points.attrs["notes"][0]


def test_a_file_given_twice_is_described_once(rwanda):
    assert len(describe_files([rwanda.position_file, rwanda.folder, rwanda.position_file])) == 2


def test_interviews_over_two_years_are_named_by_the_first(unpacked):
    rewrite(unpacked.household_file, lambda table: table.assign(hv007=np.where(table["hv001"] < 5, 2015, 2014)))
    described = only(unpacked.household_file)
    assert (described.survey, described.facts[-1]) == ("RW2014", "interviewed in 2014 to 2015")


def test_a_calendar_of_its_own(tmp_path):
    truth = write_dhs(tmp_path, country="NP", year=2073, n_clusters=2, households=2, not_located=0)
    assert only(truth.household_file).year == 2016


def test_what_is_no_table_is_said_to_be_none(tmp_path):
    (tmp_path / "RWHR61FL.MAP").write_text("a map of columns")
    (tmp_path / "broken.dta").write_bytes(b"not Stata")
    broken, other = sorted(describe_files(tmp_path), key=lambda each: each.file, reverse=True)
    assert (other.kind, other.next_step) == ("other", "")
    assert broken.kind == "unreadable"


def test_a_path_that_is_not_there(tmp_path):
    with pytest.raises(SurveyError, match="is not there"):
        describe_files(tmp_path / "nothing")
    with pytest.raises(SurveyError, match="no file"):
        describe_files(tmp_path)


@pytest.fixture
def malawi(tmp_path):
    """Files with the columns of the shipped adapter of Malawi, and one household identifier repeated."""
    adapter = read_adapter("malawi_ihs5_2019")
    columns = {name: [1.0, 2.0, 3.0, 4.0] for name in adapter.columns}
    columns |= {adapter.household[0]: ["1", "2", "3", "3"], adapter.cluster[0]: ["a", "a", "b", "c"]}
    columns |= {adapter.weight: [10.0, 20.0, 0.0, 10.0], adapter.size: [1.0, 2.0, 3.0, 4.0]}
    pd.DataFrame(columns).to_stata(tmp_path / "aggregate.dta", write_index=False)
    place = {adapter.household[0]: ["1", "2", "3", "4"], adapter.cluster[0]: ["a", "a", "b", "c"]}
    place |= {adapter.coordinates.lon: [34.0, 0.0, 0.0, 35.0], adapter.coordinates.lat: [-11.0, 0.0, 0.0, -12.0]}
    pd.DataFrame(place).to_stata(tmp_path / "places.dta", write_index=False)
    return tmp_path


def test_lsms_files_are_known_by_the_columns_of_an_adapter(malawi):
    households, places = describe_files(malawi)
    assert (households.kind, places.kind) == ("lsms_households", "lsms_locations")
    assert households.adapters == places.adapters == ("malawi_ihs5_2019",)
    assert households.country == "Malawi"
    assert "4 households that stand for 90 people" in households.facts
    assert "rows that repeat the household or area of another: 1 (3)" in households.problems
    assert any(problem.startswith("households without a weight (hh_wgt)") for problem in households.problems)
    assert places.problems == ("rows at 0, 0, which stands for no position (left out later): 2 (a, b)",)
    command = f"--households {malawi / 'aggregate.dta'} --locations {malawi / 'places.dta'} -o clusters.parquet"
    assert households.next_step == places.next_step == f"geopov survey lsms malawi_ihs5_2019 {command}"
    assert "--households FILE" in only(malawi / "places.dta").next_step
    assert "--locations FILE" in only(malawi / "aggregate.dta").next_step


def test_lsms_ids_that_a_float_cannot_hold(malawi):
    path = malawi / "places.dta"
    rewrite(path, lambda table: table.assign(case_id=[2.0**60, 1.0, 2.0, 3.0]))
    assert "case_id is a float of more digits than a float holds: ids may have been rounded" in only(path).problems


def test_lsms_places_are_one_an_area(malawi):
    points = clusters_in(malawi)
    assert points["cluster_id"].tolist() == ["a", "c"]
    assert points.geometry.x.tolist() == [34.0, 35.0]
    # The second household of a has no position, but its neighbour has: no cluster is lost by it.
    assert [row["id"] for row in points.attrs["dropped"]] == ["b"]


def test_a_survey_that_no_adapter_knows(tmp_path):
    truth = write_lsms(tmp_path)
    described = only(truth.household_file)
    assert described.kind == "table"
    assert "adapter of ten lines" in described.next_step


def test_clusters_and_tables(tmp_path):
    points = points_at([27.0, 28.0], [-29.0, -30.0], year=[2014, 2014], country=["Lesotho", "Lesotho"])
    points.to_parquet(tmp_path / "clusters.parquet")
    described = only(tmp_path / "clusters.parquet")
    assert (described.kind, described.crs, described.next_step) == ("clusters", "WGS 84", "")
    assert (described.country, described.year) == ("Lesotho", 2014)
    table = tmp_path / "points.csv"
    pd.DataFrame({"ea": [1, 2], "Longitude": [27.0, 0.0], "Latitude": [-29.0, 0.0]}).to_csv(table, index=False)
    described = only(table)
    assert (described.kind, described.encoding, described.rows) == ("table", "UTF-8", 2)
    assert described.problems == ("rows at 0, 0, which stands for no position (left out later): 1",)
    assert described.next_step == (
        f"geopov survey points {table} --id COLUMN --lon Longitude --lat Latitude -o clusters.parquet"
    )


def test_a_table_without_rows(tmp_path):
    pd.DataFrame({"hv001": [], "hv005": []}).to_csv(tmp_path / "empty.csv", index=False)
    described = only(tmp_path / "empty.csv")
    assert (described.rows, described.problems) == (0, ("it has no rows",))


def test_a_csv_in_an_old_code_page(tmp_path):
    path = tmp_path / "r.csv"
    path.write_bytes("région;n\nHaut-Uélé;1\n".encode("cp1252"))
    assert only(path).encoding == "CP1252"


def test_clusters_of_two_surveys_together(rwanda, tmp_path):
    kenya = write_dhs(tmp_path / "ke", country="KE", n_clusters=5, households=2, bounds=(36, -2, 38, 1))
    points = clusters_in([rwanda.folder, kenya.folder])
    assert points.crs.to_epsg() == 4326
    expected = pd.concat([truth.clusters[truth.clusters["located"]] for truth in (rwanda, kenya)])
    assert points["cluster_id"].tolist() == expected["dhsid"].tolist()
    np.testing.assert_allclose(points.geometry.x, expected["lon_displaced"])
    assert set(points["survey"]) == {"RW2014", "KE2014"}
    assert points.loc[points["urban"], "displacement_km"].eq(2).all()
    assert len(points.attrs["dropped"]) == 4
    assert len(clusters_in([rwanda.position_file, rwanda.folder])) == 10


def test_no_positions_is_an_empty_table_and_a_bad_file_a_note(rwanda, tmp_path):
    assert len(clusters_in(rwanda.household_file)) == 0
    (tmp_path / "x.zip").write_bytes(b"PK\x03\x04 cut")
    points = clusters_in([tmp_path / "x.zip", rwanda.position_file])
    assert len(points) == 10
    assert "x.zip" in points.attrs["notes"][0]


def test_text_map_by_hand():
    """Four points near one another in the south-west, one town in the north-east."""
    points = points_at([10.0, 10.0, 10.0, 10.0, 12.0], [0.0, 0.0, 0.0, 0.0, 1.0], urban=[False] * 4 + [True])
    lines = text_map(points, width=60).splitlines()
    assert lines[1].startswith("1.1°N │")
    rows = [line[line.index("│") + 1 : -1] for line in lines if line.endswith("│")]
    assert "▫" in rows[0][-3:]
    assert "●" in rows[-1][:3]
    assert sum(len(row.replace(" ", "")) for row in rows) == 2
    assert "rural 4:  1-2 ·   3 •   over 3 ●" in lines
    assert any(line.split()[0] == "9.9°E" for line in lines)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    where=st.lists(st.tuples(st.floats(-179, 179), st.floats(-89, 89)), min_size=1, max_size=60, unique=True),
    width=st.integers(40, 120),
    kinds=st.booleans(),
)
def test_text_map_fits_and_shows_something(where, width, kinds):
    points = points_at(*(list(each) for each in zip(*where, strict=True)))
    points = points[~((points.geometry.x == 0) & (points.geometry.y == 0))]
    if len(points) == 0:
        return
    if kinds:
        points["urban"] = np.arange(len(points)) % 3 == 0
    lines = text_map(points, width=width).splitlines()
    assert max(map(len, lines)) <= max(width, 44)
    assert len(lines) <= 42
    rows = [line for line in lines if line.endswith("│")]
    assert len({line.index("│") for line in rows}) == 1
    assert 1 <= sum(symbol in "·•●▫▪■" for row in rows for symbol in row) <= len(points)


def test_text_map_refuses(tmp_path):
    with pytest.raises(SurveyError, match="40 columns"):
        text_map(points_at([1.0], [2.0]), width=20)
    with pytest.raises(SurveyError, match="empty"):
        text_map(points_at([], []))


def test_picture_repeats_and_shows_the_outcome(tmp_path):
    rng = np.random.default_rng(0)
    lon, lat = 27 + rng.random(80), -30 + rng.random(80)
    points = points_at(lon, lat, urban=lon > 27.7, wealth=lon, displacement_km=np.where(lon > 27.7, 2.0, 5.0))
    points.loc[0, "wealth"] = np.nan
    for name in ("a", "b"):
        draw_clusters(points, tmp_path / f"{name}.png", title="Lesotho", outcome="wealth", unit="index")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    image = imread(tmp_path / "a.png")[..., :3]
    assert image.shape[1] == round(18 / 2.54 * 200)
    map_part = image[:, : int(image.shape[1] * 0.8)]
    yellow = (map_part[..., 0] > 0.85) & (map_part[..., 1] > 0.8) & (map_part[..., 2] < 0.3)
    violet = (map_part[..., 0] < 0.35) & (map_part[..., 1] < 0.1) & (map_part[..., 2] > 0.25)
    # Wealth rises to the east: its colours do, too.
    assert np.flatnonzero(violet.any(axis=0)).mean() < np.flatnonzero(yellow.any(axis=0)).mean()


@pytest.mark.parametrize("columns", [{}, {"urban": [True, False, False]}, {"displacement_km": [2.0, 5.0, 5.0]}])
def test_picture_of_few_clusters(tmp_path, columns):
    points = points_at([27.0, 27.1, 27.05], [-29.0, -29.2, -29.1], **columns)
    draw_clusters(points, tmp_path / "few.png", title="Few", left_out=2, width_cm=10)
    header = (tmp_path / "few.png").read_bytes()[:24]
    assert header[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", header[16:24])
    assert 0.5 < height / width < 2


def test_picture_refuses(tmp_path):
    points = points_at([1.0], [2.0], name=["x"], empty=[np.nan])
    with pytest.raises(SurveyError, match=r"must end in \.png"):
        draw_clusters(points, tmp_path / "a.jpg", title="")
    with pytest.raises(SurveyError, match="no column of numbers"):
        draw_clusters(points, tmp_path / "a.png", title="", outcome="name")
    with pytest.raises(SurveyError, match="no column 'wealth'"):
        draw_clusters(points, tmp_path / "a.png", title="", outcome="wealth")
    with pytest.raises(SurveyError, match="nothing to colour"):
        draw_clusters(points, tmp_path / "a.png", title="", outcome="empty")
    assert not list(tmp_path.iterdir())
