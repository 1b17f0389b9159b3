"""Stata, SPSS and SAS files: what they hold, piece by piece, with pandas and ReadStat's own writers as oracles."""

from __future__ import annotations

import ctypes
import datetime as dt
from pathlib import Path

import numpy as np
import pandas as pd
import pyreadstat
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyreadstat import _readstat_writer

from geopov.errors import SurveyError
from geopov.survey.files.microdata import open_microdata
from geopov.survey.files.tables import read_table

STRING, DOUBLE = 0, 5  # readstat_type_t
LABELS = {"HHID": "Case identification", "hv025": "Type of place of residence", "hv009": "Number of members"}
RESIDENCE = {1: "urban", 2: "rural", 9: "missing"}


def recode() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "HHID": ["   1  1", "   1  2", "   2  7"],
            "hv025": [1.0, 2.0, 9.0],
            "hv009": [3.0, np.nan, 12.0],
            "hv005": [1234567.0, 2.5e6, 1.0],
        }
    )


class ReadStat:
    """The C writers of ReadStat inside pyreadstat, which writes .sas7bdat and .sas7bcat but shows it to no one."""

    def __init__(self) -> None:
        self.library = ctypes.CDLL(_readstat_writer.__file__)
        for name in ("writer_init", "add_variable", "add_label_set"):
            getattr(self.library, f"readstat_{name}").restype = ctypes.c_void_p
        self.pieces: list[bytes] = []
        sink = ctypes.CFUNCTYPE(ctypes.c_ssize_t, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p)
        self.sink = sink(lambda data, n, _: self.pieces.append(ctypes.string_at(data, n)) or n)
        self.writer = ctypes.c_void_p(self.library.readstat_writer_init())
        self.call("set_data_writer", self.writer, self.sink)

    def call(self, name: str, *arguments: object) -> None:
        code = getattr(self.library, f"readstat_{name}")(*arguments)
        assert not code, f"readstat_{name} answers {code}"

    def make(self, name: str, *arguments: object) -> ctypes.c_void_p:
        return ctypes.c_void_p(getattr(self.library, f"readstat_{name}")(self.writer, *arguments))

    def save(self, path: Path) -> Path:
        self.call("end_writing", self.writer)
        self.library.readstat_writer_free(self.writer)
        path.write_bytes(b"".join(self.pieces))
        return path


def write_sas(path: Path, table: pd.DataFrame, *, labels: dict[str, str], formats: dict[str, str]) -> Path:
    sas = ReadStat()
    variables = []
    for name in table.columns:
        kind, width = (DOUBLE, 8) if pd.api.types.is_numeric_dtype(table[name]) else (STRING, 20)
        variable = sas.make("add_variable", name.encode(), kind, ctypes.c_size_t(width))
        sas.library.readstat_variable_set_label(variable, labels.get(name, "").encode())
        sas.library.readstat_variable_set_format(variable, formats.get(name, "").encode())
        variables.append((variable, kind))
    sas.call("begin_writing_sas7bdat", sas.writer, None, ctypes.c_long(len(table)))
    for row in table.itertuples(index=False):
        sas.call("begin_row", sas.writer)
        for (variable, kind), value in zip(variables, row, strict=True):
            if value != value:
                sas.call("insert_missing_value", sas.writer, variable)
            elif kind == STRING:
                sas.call("insert_string_value", sas.writer, variable, str(value).encode())
            else:
                sas.call("insert_double_value", sas.writer, variable, ctypes.c_double(value))
        sas.call("end_row", sas.writer)
    return sas.save(path)


def write_catalogue(path: Path, sets: dict[str, dict[int, str]]) -> Path:
    sas = ReadStat()
    for name, codes in sets.items():
        labels = sas.make("add_label_set", DOUBLE, name.encode())
        for code, text in codes.items():
            sas.library.readstat_label_double_value(labels, ctypes.c_double(code), text.encode())
    sas.call("begin_writing_sas7bcat", sas.writer, None)
    return sas.save(path)


@pytest.fixture(params=[".dta", ".sav", ".sas7bdat", ".DTA"])
def recode_file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / f"RWHR61FL{request.param}"
    if request.param.lower() == ".dta":
        pyreadstat.write_dta(recode(), path, column_labels=LABELS, variable_value_labels={"hv025": RESIDENCE})
    elif request.param == ".sav":
        pyreadstat.write_sav(recode(), path, column_labels=LABELS, variable_value_labels={"hv025": RESIDENCE})
    else:
        write_sas(path, recode(), labels=LABELS, formats={"hv025": "HV025F"})
        write_catalogue(path.with_suffix(".sas7bcat"), {"HV025F": RESIDENCE})
    return path


def test_what_a_file_has_and_all_of_it_read(recode_file: Path) -> None:
    data = open_microdata(recode_file)
    assert data.path == recode_file
    assert data.columns == ("HHID", "hv025", "hv009", "hv005")
    assert (data.n_rows, data.encoding, data.notes) == (3, "UTF-8", ())
    assert data.labels == LABELS
    assert data.value_labels == {"hv025": RESIDENCE}
    for table in (data.read(), read_table(recode_file)):
        pd.testing.assert_frame_equal(table, recode(), check_dtype=False)


@pytest.mark.parametrize("rows", [1, 2, 3, 100, None])
def test_chunks_have_the_columns_asked_for_as_they_were_asked_for(recode_file: Path, rows: int | None) -> None:
    pieces = list(open_microdata(recode_file).chunks(["HV009", "hhid", "hv009"], rows=rows))
    assert [len(piece) for piece in pieces] == {1: [1, 1, 1], 2: [2, 1]}.get(rows or 3, [3])
    table = pd.concat(pieces)
    assert table.columns.tolist() == ["HV009", "hhid", "hv009"]
    assert table.index.tolist() == [0, 1, 2]
    np.testing.assert_array_equal(table["HV009"], [3, np.nan, 12])
    np.testing.assert_array_equal(table["hv009"], [3, np.nan, 12])
    assert table["hhid"].tolist() == recode()["HHID"].tolist()


def test_columns_are_found_whatever_their_case(recode_file: Path) -> None:
    data = open_microdata(recode_file)
    assert (data.find("HV025"), data.find("hhid"), data.find("hv999")) == ("hv025", "HHID", None)
    with pytest.raises(SurveyError, match=r"RWHR61FL.* has no column 'hv999'; it has HHID, hv025"):
        data.read(["hv025", "hv999"])
    with pytest.raises(SurveyError, match=r"no column of .* is named"):
        next(data.chunks([]))
    with pytest.raises(SurveyError, match="rows is 0; expected at least one"):
        next(data.chunks(["hv025"], rows=0))


def test_missing_values_of_each_program_are_nan(tmp_path: Path) -> None:
    table = pd.DataFrame({"a": [1.0, 2.0, np.nan], "b": ["a", "", "c"]})
    pyreadstat.write_sav(table, tmp_path / "a.sav", missing_ranges={"a": [2]})
    found = open_microdata(tmp_path / "a.sav").read()
    np.testing.assert_array_equal(found["a"], [1, np.nan, np.nan])
    assert found["b"].tolist() == ["a", "", "c"]
    tagged = pd.DataFrame({"a": [1.0, "a", "z"]}, dtype=object)
    pyreadstat.write_dta(
        tagged, tmp_path / "a.dta", missing_user_values={"a": ["a", "z"]},
        variable_value_labels={"a": {1: "yes", "a": "refused"}},
    )  # fmt: skip
    data = open_microdata(tmp_path / "a.dta")
    np.testing.assert_array_equal(data.read()["a"], [1, np.nan, np.nan])
    assert data.value_labels == {"a": {1: "yes"}}


def test_whole_numbers_are_whole_where_none_is_missing(tmp_path: Path) -> None:
    table = pd.DataFrame({"a": np.array([1, 2], "int8"), "b": [1.5, 2.5], "c": ["x", "y"]})
    table.to_stata(tmp_path / "a.dta", write_index=False)
    found = read_table(tmp_path / "a.dta")
    assert found.dtypes.tolist() == ["int64", "float64", table["c"].dtype]
    pd.testing.assert_frame_equal(found, table, check_dtype=False)


def test_stata_dates_are_pandas_dates(tmp_path: Path) -> None:
    days = pd.to_datetime(["2014-10-31", None, "1958-02-28"])
    starts = pd.to_datetime(["2014-10-01", "1950-01-01", "1960-04-01"])
    table = pd.DataFrame({"td": days, "tc": days + pd.Timedelta("1h"), "tm": starts, "tq": starts, "n": [1, 2, 3]})
    kinds = {name: name for name in ("td", "tc", "tm", "tq")}
    table.to_stata(tmp_path / "a.dta", write_index=False, convert_dates=kinds)
    found, expected = read_table(tmp_path / "a.dta"), pd.read_stata(tmp_path / "a.dta")
    for name in kinds:
        assert found[name].astype("datetime64[ns]").equals(expected[name].astype("datetime64[ns]")), name
        assert found[name].notna().sum() == 3 - (name in ("td", "tc")), name


def test_a_date_of_no_calendar_does_not_spoil_the_file(tmp_path: Path) -> None:
    table = pd.DataFrame({"d": [1e12, 5.0, np.nan], "m": [1e9, 0.0, -1.0]})
    pyreadstat.write_dta(table, tmp_path / "a.dta", variable_format={"d": "%td", "m": "%tm"})
    found = open_microdata(tmp_path / "a.dta").read()
    assert found["d"].isna().tolist() == [True, False, True]
    assert found["d"][1] == pd.Timestamp("1960-01-06")
    assert found["m"].isna().tolist() == [True, False, False]
    assert found["m"][2] == pd.Timestamp("1959-12-01")


def test_dates_of_spss_and_sas(tmp_path: Path) -> None:
    day, moment = dt.date(2014, 10, 4), dt.datetime(2014, 10, 4, 12, 30)
    pyreadstat.write_sav(pd.DataFrame({"d": [day, None], "t": [moment, None], "n": [1.0, 2.0]}), tmp_path / "a.sav")
    seconds = 20_000 * 86_400 + 45_000.0
    sas = pd.DataFrame({"d": [20_000.0, np.nan], "t": [seconds, np.nan], "n": [1.0, 2.0]})
    write_sas(tmp_path / "a.sas7bdat", sas, labels={}, formats={"d": "DATE9", "t": "DATETIME", "n": "BEST12"})
    for name in ("a.sav", "a.sas7bdat"):
        found = open_microdata(tmp_path / name).read()
        assert found["d"][0] == pd.Timestamp(day), name
        assert found["t"][0] == pd.Timestamp(moment), name
        assert found[["d", "t"]].isna().sum().tolist() == [1, 1], name
        assert found["n"].tolist() == [1, 2], name


REGION = "Côte d’Œuvre"


def stata_of(path: Path, text: str, encoding: str, version: int) -> Path:
    """A Stata file whose label, value label and one value are the bytes of ``text`` in some encoding."""
    stand_in = "#" * len(text.encode(encoding))
    table = pd.DataFrame({"region": [1, 2], "name": [stand_in, "plain"]})
    table.to_stata(
        path, write_index=False, version=version, variable_labels={"region": stand_in},
        value_labels={"region": {1: stand_in}},
    )  # fmt: skip
    path.write_bytes(path.read_bytes().replace(stand_in.encode(), text.encode(encoding)))
    return path


@pytest.mark.parametrize(
    ("text", "encoding", "version", "noted"),
    [
        (REGION, "utf-8", 118, False),
        (REGION, "cp1252", 114, False),
        # Stata 13 and older have no UTF-8, Stata 14 and later nothing else; converters write both all the same.
        (REGION, "utf-8", 114, False),
        (REGION, "cp1252", 118, True),
        ("Nord\x81Est é", "latin-1", 117, True),
        ("Nord\x81Est é", "latin-1", 118, True),
    ],
)
def test_text_of_stata_in_whatever_encoding(
    tmp_path: Path, text: str, encoding: str, version: int, noted: bool
) -> None:
    data = open_microdata(stata_of(tmp_path / "a.dta", text, encoding, version))
    assert data.labels == {"region": text}
    assert data.value_labels == {"region": {1: text}}
    assert data.read()["name"].tolist() == [text, "plain"]
    assert data.encoding == {"utf-8": "UTF-8", "cp1252": "CP1252", "latin-1": "LATIN1"}[encoding]
    assert bool(data.notes) == noted
    if noted:
        assert data.notes == (f"a.dta has labels that are not in its encoding; read as {data.encoding}.",)


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        # One value in UTF-8, one in Windows-1252.
        (["été.".encode(), b"\xe9t\xe9..."], ["été.", "été..."]),
        # Fields of six bytes: one that holds its text, one that ends within its last character.
        (["né à".encode(), "née é".encode()[:6]], ["né à", "née "]),
        ([b"caf\xe9..", b"....\xe9\xe9"], ["café..", "....éé"]),
    ],
)
def test_text_is_decoded_value_by_value(tmp_path: Path, stored: list[bytes], expected: list[str]) -> None:
    pd.DataFrame({"name": ["@" * 6, "#" * 6]}).to_stata(tmp_path / "a.dta", write_index=False, version=118)
    raw = (tmp_path / "a.dta").read_bytes()
    (tmp_path / "a.dta").write_bytes(raw.replace(b"@" * 6, stored[0]).replace(b"#" * 6, stored[1]))
    assert open_microdata(tmp_path / "a.dta").read()["name"].tolist() == expected


def declare(path: Path, encoding: bytes) -> None:
    """Replace the UTF-8 that a .sav declares by name (record 7.20) or a .sas7bdat by a code at byte 70."""
    raw = path.read_bytes()
    if path.suffix == ".sav":
        utf8 = b"\x05\x00\x00\x00UTF-8"
        assert raw.count(utf8) == 1
        raw = raw.replace(utf8, len(encoding).to_bytes(4, "little") + encoding)
    else:
        raw = raw[:70] + encoding + raw[71:]
    path.write_bytes(raw)


@pytest.mark.parametrize(
    ("name", "code"),
    [("a.sav", b"windows-1251"), ("a.sav", b"ISO-8859-1"), ("a.sav", b"nonsense"), ("a.sas7bdat", b"\x3e")],
)
def test_utf8_that_declares_something_else(tmp_path: Path, name: str, code: bytes) -> None:
    table = pd.DataFrame({"region": [1.0], "name": ["Équateur"]})
    if name == "a.sav":
        pyreadstat.write_sav(table, tmp_path / name, column_labels={"region": "Région"})
    else:
        write_sas(tmp_path / name, table, labels={"region": "Région"}, formats={})
    declare(tmp_path / name, code)
    data = open_microdata(tmp_path / name)
    assert data.labels == {"region": "Région"}
    assert data.read()["name"].tolist() == ["Équateur"]
    assert data.encoding == "UTF-8"
    # ReadStat says nothing of a name that iconv does not know.
    assert any("labels that are not in its encoding" in note for note in data.notes) == (code != b"nonsense")


@pytest.mark.parametrize(
    ("name", "encoding", "code"), [("a.sav", "koi8-r", b"KOI8-R"), ("a.sas7bdat", "cp1251", b"\x3d")]
)
def test_the_declared_encoding_is_used_where_text_is_no_utf8(tmp_path, name, encoding, code) -> None:
    text = "Регион"
    stand_in = "#" * len(text)
    table = pd.DataFrame({"region": [1.0], "name": [stand_in]})
    if name == "a.sav":
        pyreadstat.write_sav(table, tmp_path / name, column_labels={"region": stand_in})
    else:
        write_sas(tmp_path / name, table, labels={"region": stand_in}, formats={})
    declare(tmp_path / name, code)
    raw = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(raw.replace(stand_in.encode(), text.encode(encoding)))
    data = open_microdata(tmp_path / name)
    assert data.labels == {"region": text}
    assert data.read()["name"].tolist() == [text]
    assert not [note for note in data.notes if "encoding" in note]


def test_names_beyond_ascii_and_names_that_differ_by_case(tmp_path: Path) -> None:
    pyreadstat.write_dta(pd.DataFrame({"hv025": [1.0], "HV025": [2.0]}), tmp_path / "a.dta")
    assert open_microdata(tmp_path / "a.dta").read(["HV025"])["HV025"].tolist() == [2]
    with pytest.raises(SurveyError, match="hv025, HV025, which differ only by case"):
        open_microdata(tmp_path / "a.dta").find("Hv025")
    table = pd.DataFrame({"größe": [1.0], "名前": ["x"]})
    for name, write in (("a.dta", pyreadstat.write_dta), ("a.sav", pyreadstat.write_sav)):
        write(table, tmp_path / name)
        data = open_microdata(tmp_path / name)
        assert data.columns == ("größe", "名前")
        assert next(data.chunks(["名前", "GRÖßE"])).columns.tolist() == ["名前", "GRÖßE"]


def test_the_catalogue_of_sas_beside_the_file(tmp_path: Path) -> None:
    path = write_sas(tmp_path / "HR.sas7bdat", recode(), labels={}, formats={"hv025": "HV025F"})
    without = "HR.sas7bdat comes without value labels: "
    assert open_microdata(path).notes == (without + "0 catalogues (.sas7bcat) lie beside it.",)
    for name in ("formats", "hr"):
        whole = write_catalogue(tmp_path / f"{name}.sas7bcat", {"HV025F": {1: name}}).read_bytes()
        data = open_microdata(path)
        assert data.value_labels == {"hv025": {1: name}}
        assert data.notes == ()
    (tmp_path / "hr.sas7bcat").write_bytes(whole[:3000])
    data = open_microdata(path)
    assert data.value_labels == {}
    assert data.notes[0].startswith(without + "hr.sas7bcat cannot be read")
    pd.testing.assert_frame_equal(data.read(), recode(), check_dtype=False)


def test_a_file_that_does_not_say_how_many_rows_it_has(tmp_path: Path) -> None:
    path = tmp_path / "a.sav"
    pyreadstat.write_sav(recode(), path)
    raw = path.read_bytes()
    # The number of cases of the file header record (PSPP, System File Format), -1 where the writer did not know it.
    path.write_bytes(raw[:80] + b"\xff\xff\xff\xff" + raw[84:])
    data = open_microdata(path)
    assert data.n_rows == 3
    assert [len(piece) for piece in data.chunks(["hv025"], rows=2)] == [2, 1]


def test_a_file_without_rows(tmp_path: Path) -> None:
    pyreadstat.write_dta(recode()[:0], tmp_path / "a.dta")
    data = open_microdata(tmp_path / "a.dta")
    assert data.n_rows == 0
    assert list(data.chunks(["hv025"])) == []
    assert data.read().columns.tolist() == recode().columns.tolist()
    with pytest.raises(SurveyError, match=r"a.dta has no rows"):
        read_table(tmp_path / "a.dta")


@pytest.mark.parametrize("share", [0.0, 0.2, 0.6, 0.99])
@pytest.mark.parametrize("suffix", [".dta", ".sav", ".sas7bdat"])
def test_a_file_cut_short(tmp_path: Path, suffix: str, share: float) -> None:
    table = pd.DataFrame({"a": np.arange(5000.0), "t": ["some text"] * 5000})
    path = tmp_path / f"a{suffix}"
    if suffix == ".sas7bdat":
        write_sas(path, table, labels={}, formats={})
    else:
        (pyreadstat.write_dta if suffix == ".dta" else pyreadstat.write_sav)(table, path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(SurveyError, match=rf"a\{suffix} (cannot be read as \{suffix}: .* Is it whole|ends after)"):
        open_microdata(path).read()


def test_files_that_are_no_microdata(tmp_path: Path) -> None:
    (tmp_path / "a.dta").write_text("<html>Please log in</html>")
    with pytest.raises(SurveyError, match=r"a.dta cannot be read as .dta: .* Is it whole"):
        open_microdata(tmp_path / "a.dta")
    with pytest.raises(SurveyError, match=r"b.sav is not there; check the path"):
        open_microdata(tmp_path / "b.sav")
    with pytest.raises(SurveyError, match=r"c.csv is no microdata that can be read; expected one of .dta, .sav"):
        open_microdata(tmp_path / "c.csv")


@settings(deadline=None, max_examples=50)
@given(
    numbers=st.lists(st.one_of(st.none(), st.floats(-1e300, 1e300)), min_size=1, max_size=12),
    texts=st.lists(st.text("aé€ж名 ", max_size=6).map(str.rstrip), min_size=12, max_size=12),
    rows=st.integers(1, 13),
)
def test_what_was_written_comes_back_in_chunks_of_any_length(tmp_path_factory, numbers, texts, rows) -> None:
    table = pd.DataFrame({"n": pd.Series(numbers, dtype=float), "t": texts[: len(numbers)]})
    folder = tmp_path_factory.mktemp("chunks")
    pyreadstat.write_dta(table, folder / "a.dta")
    pyreadstat.write_sav(table, folder / "a.sav", row_compress=True)
    for name in ("a.dta", "a.sav"):
        found = pd.concat(open_microdata(folder / name).chunks(["T", "N"], rows=rows))
        np.testing.assert_array_equal(found["N"], table["n"], strict=False)
        assert found["T"].tolist() == table["t"].tolist()
