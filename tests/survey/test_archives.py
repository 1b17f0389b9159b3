"""Zips, folders and files behind one list; every way a zip can lie is made here."""

from __future__ import annotations

import stat
import struct
import zipfile
import zlib
from pathlib import Path

import geopandas as gpd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import Point

from geopov.errors import SurveyError
from geopov.survey.files.archives import open_files


def write_zip(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def craft_zip(
    path: Path,
    packed: bytes,
    *,
    name: bytes = b"RWHR61FL.DTA",
    size: int,
    crc: int = 0,
    method: int = 8,
    flags: int = 0,
    unix_mode: int = 0,
    copies: int = 1,
) -> Path:
    """A zip by hand (APPNOTE.TXT 4.3.7, 4.3.12, 4.3.16) whose headers say what they are told to.

    ``copies`` members of different names share the same bytes, as an overlapping bomb has them.
    """
    names = [name if i == 0 else b"%d" % i + name for i in range(copies)]
    # Sizes that do not fit 32 bits stand in a Zip64 field (4.5.3).
    big = size >= 2**32
    extra = struct.pack("<HHQQ", 1, 16, size, len(packed)) if big else b""
    sizes = (2**32 - 1, 2**32 - 1) if big else (len(packed), size)
    common = struct.pack("<HHHHHIII", 45, flags, method, 0, 0x21, crc, *sizes)
    local = b"PK\x03\x04" + common + struct.pack("<HH", len(name), len(extra)) + name + extra + packed
    centre = b"".join(
        b"PK\x01\x02" + struct.pack("<H", (3 << 8) | 45) + common
        + struct.pack("<HHHHHII", len(each), len(extra), 0, 0, 0, unix_mode << 16, 0) + each + extra
        for each in names
    )  # fmt: skip
    end = b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, copies, copies, len(centre), len(local), 0)
    path.write_bytes(local + centre + end)
    return path


def deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush()


def zeros(megabytes: int) -> bytes:
    """Deflated zeros without deflating them: one block that ends on a byte, again and again."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    first = packer.compress(bytes(2**20)) + packer.flush(zlib.Z_FULL_FLUSH)
    again = packer.compress(bytes(2**20)) + packer.flush(zlib.Z_FULL_FLUSH)
    return first + again * (megabytes - 1) + packer.flush()


def test_folders_files_and_zips_are_one_list(tmp_path: Path) -> None:
    folder = tmp_path / "surveys"
    (folder / "Rwanda").mkdir(parents=True)
    write_zip(folder / "Rwanda" / "RWHR61DT.ZIP", {"RWHR61FL.DTA": b"recode", "docs/RWHR61FL.MAP": b"map"})
    (folder / "notes.txt").write_bytes(b"n")
    alone = tmp_path / "RWGE61FL.csv"
    alone.write_bytes(b"gps!")
    with open_files([folder, str(alone)]) as files:
        assert [(file.name, file.origin, file.size) for file in files] == [
            ("notes.txt", "notes.txt", 1),
            ("RWHR61FL.DTA", "Rwanda/RWHR61DT.ZIP/RWHR61FL.DTA", 6),
            ("RWHR61FL.MAP", "Rwanda/RWHR61DT.ZIP/docs/RWHR61FL.MAP", 3),
            ("RWGE61FL.csv", "RWGE61FL.csv", 4),
        ]
        assert [file.suffix for file in files] == [".txt", ".dta", ".map", ".csv"]
        assert files[3].path() == alone
        assert files[1].path().read_bytes() == b"recode"
        assert files[1].path().name == "RWHR61FL.DTA"


def test_nothing_is_unpacked_unless_asked_and_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    write_zip(tmp_path / "a.zip", {"one.dta": b"1", "two.dta": b"2"})

    def unpacked() -> list[str]:
        return [path.name for path in scratch.rglob("*") if path.is_file()]

    with open_files(tmp_path / "a.zip") as files:
        assert unpacked() == []
        written = files[1].path()
        assert unpacked() == ["two.dta"]
        before = written.stat().st_mtime_ns
        assert files[1].path() == written
        assert written.stat().st_mtime_ns == before
    assert list(scratch.iterdir()) == []
    with pytest.raises(SurveyError, match=r"a.zip/one.dta was asked for after open_files ended"):
        files[0].path()


def test_clutter_is_passed_over_in_folders_and_zips(tmp_path: Path) -> None:
    (tmp_path / "__MACOSX").mkdir()
    for name in (".DS_Store", "Thumbs.db", "__MACOSX/x.dta", "._x.dta", "x.dta"):
        (tmp_path / name).write_bytes(b"x")
    write_zip(tmp_path / "z.zip", {"__MACOSX/._y.dta": b"x", "in/.DS_Store": b"x", "in/y.dta": b"y", "empty/": b""})
    with open_files(tmp_path) as files:
        assert [file.origin for file in files] == ["x.dta", "z.zip/in/y.dta"]


def test_a_zip_inside_a_zip_is_opened_and_a_third_is_not(tmp_path: Path) -> None:
    inner = write_zip(tmp_path / "RWHR61DT.ZIP", {"RWHR61FL.DTA": b"recode"}).read_bytes()
    bulk = write_zip(tmp_path / "bulk.zip", {"RWHR61DT.ZIP": inner, "readme.txt": b"r"})
    with open_files([bulk]) as files:
        assert [file.origin for file in files] == ["bulk.zip/RWHR61DT.ZIP/RWHR61FL.DTA", "bulk.zip/readme.txt"]
        assert files[0].path().read_bytes() == b"recode"
    write_zip(tmp_path / "all.zip", {"bulk.zip": bulk.read_bytes()})
    with pytest.raises(SurveyError, match=r"all.zip/bulk.zip/RWHR61DT.ZIP is a zip in a zip in a zip"):
        open_files([tmp_path / "all.zip"]).__enter__()


def test_the_same_member_name_in_two_zips_is_two_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_zip(tmp_path / f"{name}.zip", {"HR.DTA": name.encode()})
    with open_files(tmp_path) as files:
        assert [file.path().read_bytes() for file in files] == [b"a", b"b"]
        assert [file.name for file in files] == ["HR.DTA", "HR.DTA"]


def test_a_file_reached_twice_counts_once(tmp_path: Path) -> None:
    zipped = write_zip(tmp_path / "a.zip", {"HR.DTA": b"x"})
    (tmp_path / "above").symlink_to(tmp_path)
    with open_files([tmp_path, zipped]) as files:
        assert [file.origin for file in files] == ["a.zip/HR.DTA"]


def test_linked_folders_are_walked_and_dead_links_named(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "HR.DTA").write_bytes(b"x")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "rwanda").symlink_to(tmp_path / "elsewhere")
    with open_files(tmp_path / "data") as files:
        assert [file.origin for file in files] == ["rwanda/HR.DTA"]
    (tmp_path / "data" / "gone.dta").symlink_to(tmp_path / "nowhere")
    with pytest.raises(SurveyError, match=r"gone.dta is no file, or a link to nowhere"):
        open_files(tmp_path / "data").__enter__()


@pytest.mark.parametrize(("main", "sibling"), [("shp", "DBF"), ("SHP", "dbf"), ("shp", "dbf")])
def test_a_shapefile_comes_with_its_siblings(tmp_path: Path, main: str, sibling: str) -> None:
    points = gpd.GeoDataFrame({"DHSCLUST": [7.0]}, geometry=[Point(30, -2)], crs="EPSG:4326")
    points.to_file(tmp_path / "RWGE61FL.shp")
    members = {
        f"gps/RWGE61FL.{main if end == 'shp' else sibling if end == 'dbf' else end}": (
            tmp_path / f"RWGE61FL.{end}"
        ).read_bytes()
        for end in ("shp", "shx", "dbf", "prj", "cpg")
    }
    zipped = write_zip(tmp_path / "RWGE61FL.ZIP", {**members, "gps/other.dbf": b"", "RWGE61FL.dbf": b""})
    with open_files(zipped) as files:
        (shape,) = [file for file in files if file.suffix == ".shp"]
        found = gpd.read_file(shape.path())
        assert sorted(p.suffix.lower() for p in shape.path().parent.iterdir()) == [
            ".cpg", ".dbf", ".prj", ".shp", ".shx",
        ]  # fmt: skip
    assert found["DHSCLUST"].tolist() == [7.0]
    assert found.crs == "EPSG:4326"


def test_a_sas_file_comes_with_the_catalogues_beside_it(tmp_path: Path) -> None:
    zipped = write_zip(tmp_path / "s.zip", {"HR.SAS7BDAT": b"1", "formats.sas7bcat": b"2", "x/other.sas7bcat": b"3"})
    with open_files(zipped) as files:
        (table,) = [file for file in files if file.suffix == ".sas7bdat"]
        assert sorted(path.name for path in table.path().parent.iterdir()) == ["HR.SAS7BDAT", "formats.sas7bcat"]


@pytest.mark.parametrize("flagged", [True, False])
def test_names_beyond_ascii(tmp_path: Path, flagged: bool) -> None:
    data = b"recode"
    # macOS writes UTF-8 without the flag that says so; other programs cp437, the standard's default.
    craft_zip(
        tmp_path / "a.zip", data, name="Ménage.dta".encode(), size=6, crc=zlib.crc32(data), method=0,
        flags=0x800 if flagged else 0,
    )  # fmt: skip
    craft_zip(tmp_path / "b.zip", data, name="Ménage.dta".encode("cp437"), size=6, crc=zlib.crc32(data), method=0)
    with open_files([tmp_path / "a.zip", tmp_path / "b.zip"]) as files:
        assert [file.name for file in files] == ["Ménage.dta", "Ménage.dta"]
        assert [file.path().read_bytes() for file in files] == [data, data]


def test_backslashes_are_folders(tmp_path: Path) -> None:
    craft_zip(tmp_path / "a.zip", b"x", name=b"Rwanda\\HR.DTA", size=1, crc=zlib.crc32(b"x"), method=0)
    with open_files(tmp_path / "a.zip") as files:
        assert [(file.name, file.origin) for file in files] == [("HR.DTA", "a.zip/Rwanda/HR.DTA")]


@pytest.mark.parametrize("sources", [[], ["no/such.zip"]])
def test_sources_that_are_not_there(sources: list[str]) -> None:
    with pytest.raises(SurveyError, match=r"no file is given|no/such.zip is not there"):
        open_files(sources).__enter__()


def test_a_folder_without_files(tmp_path: Path) -> None:
    with pytest.raises(SurveyError, match="there is no file in"):
        open_files(tmp_path).__enter__()


@pytest.mark.parametrize("kept", [0, 1, 10, 200, -1, -30])
def test_a_truncated_zip(tmp_path: Path, kept: int) -> None:
    whole = write_zip(tmp_path / "a.zip", {"HR.DTA": bytes(range(256)) * 4}, zipfile.ZIP_STORED).read_bytes()
    (tmp_path / "a.zip").write_bytes(whole[:kept])
    with pytest.raises(SurveyError, match=r"a.zip cannot be read: .* cut short, or no zip: download it again"):
        open_files(tmp_path / "a.zip").__enter__()


def test_what_is_no_zip(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_text("<html>Please log in</html>")
    with pytest.raises(SurveyError, match=r"a.zip cannot be read: File is not a zip file. It is cut short, or no zip"):
        open_files(tmp_path / "a.zip").__enter__()


@pytest.mark.parametrize(
    "name", ["../evil.dta", "in/../../evil.dta", "/etc/evil.dta", "..\\evil.dta", "C:\\evil.dta", "\\evil.dta", "."]
)
def test_members_that_leave_their_folder(tmp_path: Path, name: str) -> None:
    craft_zip(tmp_path / "a.zip", b"x", name=name.encode(), size=1, crc=zlib.crc32(b"x"), method=0)
    with pytest.raises(SurveyError, match="would be written outside its folder; do not trust it"):
        open_files(tmp_path / "a.zip").__enter__()
    assert not list(tmp_path.parent.glob("evil*"))


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_members_that_are_no_files(tmp_path: Path, kind: int) -> None:
    craft_zip(tmp_path / "a.zip", b"/etc/passwd", size=11, method=0, unix_mode=kind | 0o777)
    with pytest.raises(SurveyError, match="is a link or a device, no file"):
        open_files(tmp_path / "a.zip").__enter__()


def test_an_encrypted_zip(tmp_path: Path) -> None:
    craft_zip(tmp_path / "a.zip", b"x" * 13, size=1, method=0, flags=0x1)
    with pytest.raises(SurveyError, match=r"is encrypted \('RWHR61FL.DTA'\); unpack it with its password"):
        open_files(tmp_path / "a.zip").__enter__()


@pytest.mark.parametrize("honest", [True, False])
def test_a_bomb_of_ten_gigabytes(tmp_path: Path, honest: bool) -> None:
    packed = zeros(10_000) if honest else deflate(b"x")
    assert zlib.decompressobj(-15).decompress(packed, 2**21) == (bytes(2**21) if honest else b"x")
    craft_zip(tmp_path / "a.zip", packed, size=10_000 * 2**20)
    assert (tmp_path / "a.zip").stat().st_size < 2**24
    with pytest.raises(SurveyError, match=r"a.zip/RWHR61FL.DTA packs 9.77 GiB into \d+ bytes, as a zip bomb does"):
        open_files(tmp_path / "a.zip").__enter__()


def test_a_bomb_of_members_that_share_their_bytes(tmp_path: Path) -> None:
    data = bytes(range(256)) * 400_000
    packed = deflate(data)
    assert len(data) < 500 * len(packed)
    craft_zip(tmp_path / "a.zip", packed, size=len(data), crc=zlib.crc32(data), copies=100)
    with pytest.raises(SurveyError, match=r"a.zip packs 9.5\d? GiB into \d+ bytes, as a zip bomb does"):
        open_files(tmp_path / "a.zip").__enter__()


@pytest.mark.parametrize("megabytes", [1, 64])
def test_a_member_that_inflates_past_what_it_declares(tmp_path: Path, megabytes: int) -> None:
    craft_zip(tmp_path / "a.zip", zeros(megabytes), size=1000, crc=zlib.crc32(bytes(megabytes << 20)))
    with open_files(tmp_path / "a.zip") as files:
        for _ in range(2):
            with pytest.raises(SurveyError, match=r"a.zip/RWHR61FL.DTA is larger than the 1000 bytes it declares"):
                files[0].path()


def test_a_member_shorter_than_it_declares(tmp_path: Path) -> None:
    craft_zip(tmp_path / "a.zip", deflate(b"abc"), size=10, crc=zlib.crc32(b"abc"))
    with open_files(tmp_path / "a.zip") as files, pytest.raises(SurveyError, match="ends after 3 of 10 bytes"):
        files[0].path()


def test_a_damaged_member_is_no_file_half_written(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", {"HR.DTA": b"recode" * 1000, "b.dta": b"b"}, zipfile.ZIP_STORED)
    path.write_bytes(path.read_bytes().replace(b"recode", b"rec0de", 1))
    with open_files(path) as files:
        with pytest.raises(SurveyError, match=r"a.zip/HR.DTA cannot be read: Bad CRC-32.* It is damaged: download"):
            files[0].path()
        other = files[1].path()
        assert [each.name for each in other.parent.iterdir()] == ["b.dta"]


def test_a_damaged_stream(tmp_path: Path) -> None:
    craft_zip(tmp_path / "a.zip", b"\xff" * 50, size=100)
    with open_files(tmp_path / "a.zip") as files, pytest.raises(SurveyError, match=r"cannot be read: .*damaged"):
        files[0].path()


def test_packing_that_is_not_read(tmp_path: Path) -> None:
    # Windows packs what is over 2 GiB with method 9, Deflate64.
    craft_zip(tmp_path / "a.zip", b"xx", size=100, method=9)
    with open_files(tmp_path / "a.zip") as files, pytest.raises(SurveyError, match="packed in a way not read here"):
        files[0].path()


def test_limits_of_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_zip(tmp_path / "a.zip", {"a.dta": bytes(600), "b.dta": bytes(500)})
    with pytest.raises(SurveyError, match="over the limit of"):
        open_files(path, max_bytes=1000).__enter__()
    with open_files(path, max_bytes=1100) as files:
        monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 550}))
        with pytest.raises(SurveyError, match="set TMPDIR to a folder on a larger disk"):
            files[0].path()
        assert files[1].path().stat().st_size == 500


def test_two_members_of_one_name(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("HR.DTA", b"1")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("HR.DTA", b"2")
    with pytest.raises(SurveyError, match=r"two members named 'HR.DTA'"):
        open_files(tmp_path / "a.zip").__enter__()


def test_a_member_that_is_a_file_and_a_folder(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", {"a": b"1", "a/b": b"2"})
    with open_files(path) as files:
        assert files[0].path().read_bytes() == b"1"
        with pytest.raises(SurveyError, match=r"a.zip/a/b cannot be unpacked"):
            files[1].path()


@settings(max_examples=40, deadline=None)
@given(
    members=st.dictionaries(
        st.from_regex(r"[a-zé]{1,5}(/[A-Z0-9]{1,5})?\.(dta|DTA|sav)", fullmatch=True),
        st.binary(max_size=300),
        min_size=1,
        max_size=5,
    ),
    method=st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]),
)
def test_every_member_comes_back_byte_for_byte(tmp_path_factory, members, method) -> None:
    path = write_zip(tmp_path_factory.mktemp("zip") / "a.zip", members, method)
    with open_files(path) as files:
        assert {file.origin.removeprefix("a.zip/"): file.path().read_bytes() for file in files} == members
        assert [file.size for file in files] == [file.path().stat().st_size for file in files]


@settings(deadline=None)
@given(position=st.integers(0, 10**6), byte=st.integers(0, 255))
def test_a_zip_with_one_byte_changed_reads_right_or_is_an_error(tmp_path_factory, position, byte) -> None:
    data = bytes(range(200)) * 3
    path = write_zip(tmp_path_factory.mktemp("zip") / "a.zip", {"HR.DTA": data})
    raw = bytearray(path.read_bytes())
    raw[position % len(raw)] = byte
    path.write_bytes(raw)
    try:
        with open_files(path) as files:
            found = [file.path().read_bytes() for file in files]
    except SurveyError:
        return
    assert found == [data]
