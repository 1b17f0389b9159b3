from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from geopov.catalog import open_catalog
from geopov.catalog.models import SourceRecord, read_records
from geopov.errors import CatalogError, SourceNotFoundError

SHA = "ab" * 32
GOOD = f"""
lights:
  uri: https://h.org/lights.tif
  sha256: {SHA.upper()}
  kind: raster
  licence: CC BY 4.0
  citation: Somebody (2020).
  year: 2020
  crs: EPSG:4326
  nodata: -3.4e38
  units: nW/cm²/sr
  bands: [radiance]
"""


@pytest.fixture
def read(tmp_path: Path) -> Callable[[str | bytes], dict[str, SourceRecord]]:
    def read_text(text: str | bytes) -> dict[str, SourceRecord]:
        path = tmp_path / "c.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_records(path)

    return read_text


Read = Callable[[str | bytes], dict[str, SourceRecord]]


def test_a_right_entry_is_read(read: Read) -> None:
    record = read(GOOD)["lights"]
    assert record.uri == ("https://h.org/lights.tif",)
    assert record.checksums == (SHA,)
    assert record.nodata == -3.4e38
    assert record.units == ("nW/cm²/sr",)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("licence:", "lisence:", "entry 'lights': the key 'lisence' is unknown; did you mean 'licence'?"),
        ("licence:", "lisence:", "entry 'lights': the key 'licence' is missing"),
        ("year: 2020", "year: 2020\n  colour: red", "known keys are uri, kind"),
        ("year: 2020", 'year: "2020"', "year: '2020' does not fit; expected a valid integer"),
        ("year: 2020", "year: 20200", "less than or equal to 2100"),
        ("year: 2020", "year: 2020\n  2: two", "'2'"),
        ("EPSG:4326", "EPSG:4", "crs: 'EPSG:4' is no CRS"),
        ("EPSG:4326", "4326", "crs: 4326 does not fit"),
        ("nodata: -3.4e38\n", "\n", "the key 'nodata' is missing; a raster needs it (null where there is none)"),
        ("nodata: -3.4e38", "nodata: none", "nodata: 'none' does not fit"),
        ("nodata: -3.4e38", "nodata: true", "nodata: True does not fit"),
        ("nodata: -3.4e38", "nodata: [1, 2]", "nodata lists 2 values for 1 bands"),
        ("kind: raster", "kind: image", "kind: 'image' does not fit; expected 'raster'"),
        ("[radiance]", "[1]", "bands: 1 does not fit"),
        ("[radiance]", "[a, a]", "bands: 'a' stands more than once"),
        ("[radiance]", "[]", "bands is empty"),
        ("licence: CC BY 4.0", "licence: ' '", "licence is empty"),
        ("units: nW/cm²/sr", "units: [a, b]", "units lists 2 values for 1 bands"),
        (SHA.upper(), "abc", "sha256: 'abc' is not 64 hexadecimal digits"),
        (f"sha256: {SHA.upper()}", "sha256: null", "is fetched, so it needs one"),
        (SHA.upper(), f"[{SHA}, {SHA}]", "sha256 lists 2 values for 1 URIs"),
        ("https://h.org/lights.tif", "s3://bucket/lights.tif", "read in place"),
        ("https://h.org/lights.tif", "http://h.org/lights.tif", "uri: 'http://h.org/lights.tif' is not encrypted"),
        ("https://h.org/lights.tif", "[a.tif, a.tif]", "'a.tif' stands more than once"),
        ("https://h.org/lights.tif", "https://h.org/lights.shp", "one part of a shapefile"),
        ("lights:", "my lights:", "a name is made of letters"),
        ("lights:", "2014:", "a name is made of letters"),
        ("year: 2020", "year: 2020\n  year: 2021", "entry 'lights': the key 'year' stands twice, in lines 8 and 9"),
        ("\nlights:", "\nlights: {}\nlights:", "the name 'lights' stands twice, in lines 2 and 3"),
    ],
)
def test_what_is_wrong_is_named(read: Read, old: str, new: str, says: str) -> None:
    assert GOOD.count(old) == 1
    with pytest.raises(CatalogError) as caught:
        read(GOOD.replace(old, new))
    assert says in str(caught.value)


def test_all_problems_are_told_at_once(read: Read) -> None:
    with pytest.raises(CatalogError) as caught:
        read(
            GOOD.replace("year: 2020", "yaer: 2020")
            + GOOD.replace("lights:", "b:").replace("EPSG:4326", "x")
            + "c: 1\n"
        )
    message = str(caught.value)
    assert "has 4 problems" in message
    for part in ("'yaer'", "'year' is missing", "'x' is no CRS", "entry 'c': it is 1"):
        assert part in message


@pytest.mark.parametrize(
    "text",
    ["", "[]", "1", "{}", "a: [", "a: b: c", "!!python/object/apply:os.system ['true']", "? [a]\n: b", b"\xff\xfe\x00"],
)
def test_what_is_no_catalogue_is_refused(read: Read, text: str | bytes) -> None:
    with pytest.raises(CatalogError):
        read(text)


def test_aliases_do_not_make_a_message_explode(read: Read) -> None:
    levels = "\n".join(f"x{i}: &x{i} [{', '.join([f'*x{i - 1}'] * 9)}]" for i in range(1, 40))
    with pytest.raises(CatalogError) as caught:
        read(f"x0: &x0 [lol]\n{levels}\nsource: {{uri: *x39, kind: *x39}}\n")
    assert len(str(caught.value)) < 20_000


def test_a_missing_or_huge_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceNotFoundError, match="there is no catalogue"):
        open_catalog(tmp_path / "none.yaml")
    with pytest.raises(CatalogError, match="cannot be read"):
        open_catalog(tmp_path)
    huge = tmp_path / "huge.yaml"
    with huge.open("wb") as stream:
        stream.truncate(5 << 20)
    with pytest.raises(CatalogError, match="larger than 4 MiB"):
        open_catalog(huge)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text("ab:/.!=${}", max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner, max_size=3),
    max_leaves=5,
)


# PROJ takes a third of a second to find out that it knows no CRS of some name.
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from([*SourceRecord.model_fields, "other"]), VALUES))
def test_any_entry_is_read_or_refused_with_its_name(tmp_path: Path, entry: dict[str, object]) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump({"source": entry}))
    message = ""
    try:
        assert set(read_records(path)) == {"source"}
    except CatalogError as error:
        message = str(error)
    assert not message or "entry 'source'" in message or "not readable as YAML" in message
