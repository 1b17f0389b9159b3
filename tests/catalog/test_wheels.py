from __future__ import annotations

import hashlib
import io
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from geopov.catalog import open_catalog
from geopov.catalog.cache import Cache
from geopov.catalog.wheels import extract_member
from geopov.errors import CatalogError, ChecksumError, OfflineError, SourceNotFoundError

A, B = b"first member", b"second member"


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def entry(member: str, data: bytes, wheel: str = "some-data==1.0") -> dict[str, Any]:
    return {"uri": f"pypi:{wheel}!{member}", "kind": "table", "sha256": sha(data)}


def files_under(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def pip_runs(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The command lines of the subprocesses that are started; they do run."""
    import subprocess

    commands: list[list[str]] = []

    class Recorded(subprocess.Popen):  # type: ignore[type-arg]
        def __init__(self, command: list[str], **options: Any) -> None:
            commands.append(command)
            super().__init__(command, **options)

    monkeypatch.setattr(subprocess, "Popen", Recorded)
    return commands


def test_members_of_one_wheel_are_taken_from_one_download(
    write: Callable[..., Path],
    registry: Path,
    make_wheel: Callable[..., Path],
    tmp_path: Path,
    pip_runs: list[list[str]],
) -> None:
    make_wheel(registry, "some_data", [("some_data/a.bin", A), ("some_data/b.bin", B), ("some_data/unwanted", b"c")])
    path = write(a=entry("some_data/a.bin", A), b=entry("some_data/b.bin", B, "Some_Data==1.0"))
    catalog = open_catalog(path)
    fetched = catalog.fetch_many()
    assert {name: paths[0].read_bytes() for name, paths in fetched.items()} == {"a": A, "b": B}
    assert len(pip_runs) == 1
    assert pip_runs[0][-1] == "some-data==1.0"
    places = [f"{sha(data)[:2]}/{sha(data)}/{name}.bin" for name, data in (("a", A), ("b", B))]
    assert files_under(tmp_path / "cache") == sorted([".work/some-data==1.0.lock", *places])
    # Offline, what is there is served; it was checked without pip.
    assert open_catalog(path, offline=True).fetch_many() == fetched
    assert len(pip_runs) == 1


def test_offline_mode_names_every_source_that_is_missing(
    write: Callable[..., Path], registry: Path, make_wheel: Callable[..., Path]
) -> None:
    make_wheel(registry, "some_data", [("a.bin", A), ("b.bin", B)])
    path = write(a=entry("a.bin", A), b=entry("b.bin", B), c=entry("c.bin", b"c"))
    open_catalog(path)["a"].fetch()
    with pytest.raises(OfflineError, match="does not hold b, c"):
        open_catalog(path, offline=True).fetch_many()


def test_a_wrong_hash_leaves_nothing(
    write: Callable[..., Path], registry: Path, make_wheel: Callable[..., Path], tmp_path: Path
) -> None:
    make_wheel(registry, "some_data", [("a.bin", A)])
    with pytest.raises(ChecksumError, match=f"has sha256 {sha(A)}, expected {sha(B)}"):
        open_catalog(write(a=entry("a.bin", B)))["a"].fetch()
    assert files_under(tmp_path / "cache") == [".work/some-data==1.0.lock"]


def test_a_missing_member_names_close_ones(
    write: Callable[..., Path], registry: Path, make_wheel: Callable[..., Path]
) -> None:
    make_wheel(registry, "some_data", [("some_data/resources/lights_2025.tif", A), ("some_data/towns.csv", B)])
    catalog = open_catalog(
        write(a=entry("some_data/lights_2025.tif", A), b=entry("some_data/town.csv", B), c=entry("zzz", b"c"))
    )
    with pytest.raises(SourceNotFoundError, match=r"close to it are some_data/resources/lights_2025.tif"):
        catalog["a"].fetch()
    with pytest.raises(SourceNotFoundError, match=r"close to it are some_data/towns.csv"):
        catalog["b"].fetch()
    with pytest.raises(SourceNotFoundError, match="close to it are no members"):
        catalog["c"].fetch()


@pytest.mark.parametrize("wheel", ["some-data==2.0", "nothing-of-the-kind==1.0"])
def test_a_missing_wheel_is_named(
    write: Callable[..., Path], registry: Path, make_wheel: Callable[..., Path], wheel: str
) -> None:
    make_wheel(registry, "some_data", [("a.bin", A)])
    with pytest.raises(SourceNotFoundError, match=f"'a': pip could not download {wheel}: .*No matching distribution"):
        open_catalog(write(a=entry("a.bin", A, wheel)))["a"].fetch()


def test_nothing_that_is_downloaded_or_lies_about_is_executed(
    write: Callable[..., Path],
    registry: Path,
    make_wheel: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    marker = tmp_path / "executed"
    code = f"open({str(marker)!r}, 'w').close()\n".encode()
    make_wheel(registry, "some_data", [("some_data/__init__.py", code), ("some_data.pth", code), ("a.bin", A)])
    # A source distribution that brings its own build backend is run by a pip that is let.
    sdist = {
        "pyproject.toml": b'[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n',
        "backend.py": code,
        "PKG-INFO": b"Metadata-Version: 2.1\nName: built\nVersion: 1.0\n",
    }
    with tarfile.open(registry / "built-1.0.tar.gz", "w:gz") as archive:
        for name, data in sdist.items():
            info = tarfile.TarInfo(f"built-1.0/{name}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pip.py").write_bytes(code)
    catalog = open_catalog(write(a=entry("a.bin", A), b=entry("a.bin", A + b"!", "built==1.0")))
    assert catalog["a"].fetch()[0].read_bytes() == A
    with pytest.raises(SourceNotFoundError, match=r"built==1.0"):
        catalog["b"].fetch()
    assert not marker.exists()


def test_without_pip_the_remedy_is_named(
    write: Callable[..., Path], registry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pip", None)
    with pytest.raises(CatalogError, match=r"no pip to download it. Run: .* -m ensurepip"):
        open_catalog(write(a=entry("a.bin", A)))["a"].fetch()


@pytest.mark.parametrize(("version", "bar"), [("23.0.1", "off"), ("24.1", "raw"), ("100.0.dev0", "raw")])
def test_progress_is_asked_of_pips_that_can_tell_it(
    write: Callable[..., Path],
    registry: Path,
    make_wheel: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    pip_runs: list[list[str]],
    version: str,
    bar: str,
) -> None:
    make_wheel(registry, "some_data", [("a.bin", A)])
    monkeypatch.setattr("importlib.metadata.version", {"pip": version}.__getitem__)
    assert open_catalog(write(a=entry("a.bin", A)))["a"].fetch()[0].read_bytes() == A
    assert pip_runs[0][pip_runs[0].index("--progress-bar") + 1] == bar


def test_what_a_killed_run_left_is_cleared(
    write: Callable[..., Path], registry: Path, make_wheel: Callable[..., Path], tmp_path: Path
) -> None:
    make_wheel(registry, "some_data", [("a.bin", A)])
    left = tmp_path / "cache" / ".work" / "some-data==1.0"
    left.mkdir(parents=True)
    (left / "some_data-1.0-py2-none-any.whl").write_bytes(b"half a wheel")
    assert open_catalog(write(a=entry("a.bin", A)))["a"].fetch()[0].read_bytes() == A
    assert not left.exists()


class TestHostileArchives:
    @pytest.fixture
    def extract(self, tmp_path: Path) -> Callable[[Path, str, bytes], Path]:
        def extract_to(wheel: Path, member: str, data: bytes) -> Path:
            target = tmp_path / "cache" / "x" / "out.bin"
            (tmp_path / "cache").mkdir(exist_ok=True)
            extract_member(wheel, member, target, sha256=sha(data), source="a", cache=Cache(tmp_path / "cache"))
            return target

        return extract_to

    def test_a_bomb_is_not_unpacked(
        self, extract: Callable[..., Path], make_wheel: Callable[..., Path], tmp_path: Path
    ) -> None:
        zeros = bytes(64 << 20)
        wheel = make_wheel(tmp_path, "bomb", [("zeros.bin", zeros)])
        assert wheel.stat().st_size < 100_000
        with pytest.raises(CatalogError, match=r"would unpack [\d,]+ bytes to 67,108,864"):
            extract(wheel, "zeros.bin", zeros)
        assert not (tmp_path / "cache" / "x").exists()

    def test_a_size_that_lies_does_not_help(
        self, extract: Callable[..., Path], make_wheel: Callable[..., Path], tmp_path: Path
    ) -> None:
        zeros = bytes(64 << 20)
        wheel = make_wheel(tmp_path, "bomb", [("zeros.bin", zeros)])
        size = len(zeros).to_bytes(4, "little")
        wheel.write_bytes(wheel.read_bytes().replace(size, (1000).to_bytes(4, "little")))
        with pytest.raises(CatalogError, match="cannot be unpacked"):
            extract(wheel, "zeros.bin", zeros)
        assert files_under(tmp_path / "cache") == []

    def test_a_repeated_member_is_refused(
        self, extract: Callable[..., Path], make_wheel: Callable[..., Path], tmp_path: Path
    ) -> None:
        wheel = make_wheel(tmp_path, "twice", [("a.bin", A), ("a.bin", B)])
        with pytest.raises(CatalogError, match="stands 2 times"):
            extract(wheel, "a.bin", B)

    def test_a_member_that_climbs_out_can_neither_be_named_nor_written(
        self, make_wheel: Callable[..., Path], registry: Path, write: Callable[..., Path], tmp_path: Path
    ) -> None:
        make_wheel(registry, "some_data", [("../../../evil.bin", A), ("good.bin", B)])
        with pytest.raises(CatalogError, match="no path inside a wheel"):
            open_catalog(write(a=entry("../../../evil.bin", A)))
        open_catalog(write(b=entry("good.bin", B)))["b"].fetch()
        assert not list(tmp_path.rglob("evil.bin"))

    def test_the_name_in_the_archive_does_not_choose_the_place(
        self, extract: Callable[..., Path], make_wheel: Callable[..., Path], tmp_path: Path
    ) -> None:
        wheel = make_wheel(tmp_path, "climbs", [("../evil.bin", A)])
        assert extract(wheel, "../evil.bin", A).read_bytes() == A
        assert not list(tmp_path.rglob("evil.bin"))

    @pytest.mark.parametrize("damage", ["truncated", "no archive", "flipped bit"])
    def test_a_damaged_wheel_is_told(
        self, extract: Callable[..., Path], make_wheel: Callable[..., Path], tmp_path: Path, damage: str
    ) -> None:
        data = bytes(range(256)) * 40
        wheel = make_wheel(tmp_path, "damaged", [("a.bin", data)])
        whole = bytearray(wheel.read_bytes())
        if damage == "flipped bit":
            whole[60] ^= 255
        wheel.write_bytes({"truncated": whole[:100], "no archive": b"", "flipped bit": whole}[damage])
        with pytest.raises(CatalogError, match="cannot be unpacked"):
            extract(wheel, "a.bin", data)

    def test_an_encrypted_member_is_told(
        self, extract: Callable[..., Path], make_wheel: Callable[..., Path], tmp_path: Path
    ) -> None:
        wheel = make_wheel(tmp_path, "secret", [("a.bin", A)])
        raw = bytearray(wheel.read_bytes())
        central = raw.index(b"PK\x01\x02")
        raw[6] |= 1  # the flag in the member's own header
        raw[central + 8] |= 1
        wheel.write_bytes(raw)
        assert zipfile.ZipFile(wheel).infolist()[0].flag_bits & 1
        with pytest.raises(CatalogError, match=r"cannot be unpacked: .*encrypted"):
            extract(wheel, "a.bin", A)
