from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from geopov.catalog.cache import Cache
from geopov.catalog.uris import CloudUri, HttpsUri, LocalUri, PypiUri, UriError, parse_uri, resolve_local

LETTERS = "abcXYZ019_"
SEGMENT = st.text(LETTERS + "-. ", min_size=1, max_size=12).filter(lambda s: s.strip(". ") != "")
NAME = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,8}[A-Za-z0-9])?", fullmatch=True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a/b.tif", LocalUri("a/b.tif", "a/b.tif")),
        ("/a/b.tif", LocalUri("/a/b.tif", "/a/b.tif")),
        ("./a:b.tif", LocalUri("./a:b.tif", "./a:b.tif")),
        ("file:///a/b%20c.tif", LocalUri("file:///a/b%20c.tif", "/a/b c.tif")),
        ("s3://bucket/a/b.tif", CloudUri("s3://bucket/a/b.tif", "/vsis3/bucket/a/b.tif")),
        ("gs://bucket/b.tif", CloudUri("gs://bucket/b.tif", "/vsigs/bucket/b.tif")),
        ("az://box/b.tif", CloudUri("az://box/b.tif", "/vsiaz/box/b.tif")),
        ("https://h.org/a/b%20c.tif?v=1", HttpsUri("https://h.org/a/b%20c.tif?v=1", "b c.tif")),
        (
            "pypi:Some_Data==1.0.post1!pkg/data/x.tif",
            PypiUri("pypi:Some_Data==1.0.post1!pkg/data/x.tif", "some-data==1.0.post1", "pkg/data/x.tif", "x.tif"),
        ),
    ],
)
def test_each_scheme_is_understood(text: str, expected: object) -> None:
    assert parse_uri(text) == expected


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"),
        ("a\nb", "control"),
        ("http://h.org/a.tif", "expected https"),
        ("ftp://h.org/a.tif", "unknown scheme 'ftp'"),
        ("https:///a.tif", "no URL"),
        ("https://h.org", "no file name"),
        ("https://h.org/folder/", "no file name"),
        ("https://h.org/..%2f..%2fetc", "no file name"),
        ("https://h.org/a b.tif", "no URL"),
        ("https://h.org:port/a.tif", "no URL"),
        ("https://me:secret@h.org/a.tif", "secrets"),
        ("https://h.org/a.tif#x", "fragment"),
        ("https://h.org/" + "a" * 300, "longer than"),
        ("file://host/a", "another host"),
        ("s3://bucket", "s3://bucket/key"),
        ("s3://bucket/../other/key", "s3://bucket/key"),
        ("pypi:data!x.tif", "NAME==VERSION"),
        ("pypi:data>=1.0!x.tif", "NAME==VERSION"),
        ("pypi:data==1.0", "NAME==VERSION"),
        ("pypi:--index-url==1.0!x.tif", "NAME==VERSION"),
        ("pypi:data==1.*!x.tif", "NAME==VERSION"),
        ("pypi:data==1.0!../x.tif", "no path inside a wheel"),
        ("pypi:data==1.0!/etc/passwd", "no path inside a wheel"),
        ("pypi:data==1.0!a\\..\\x", "no path inside a wheel"),
        ("pypi:data==1.0!folder/", "no path inside a wheel"),
        ("a/" + "b" * 300, "longer than"),
        ("a/\ud800.tif", "no file name can have"),
        ("pypi:data==1.0!\ud800", "no file name can have"),
        ("${HOME", "variable"),
        ("${9}/a", "variable"),
    ],
)
def test_what_is_wrong_is_named(text: str, says: str) -> None:
    with pytest.raises(UriError) as caught:
        parse_uri(text)
    assert says in str(caught.value)


def test_a_secret_is_not_repeated() -> None:
    with pytest.raises(UriError) as caught:
        parse_uri("https://me:hunter2@h.org/a.tif")
    assert "hunter2" not in str(caught.value)


# Building the table of all characters once takes Hypothesis a second.
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.text(max_size=60)
    | st.sampled_from(["https://", "pypi:a==1!", "s3://", "file:"]).flatmap(
        lambda s: st.text(max_size=30).map(s.__add__)
    )
)
def test_any_text_is_refused_or_lands_inside_the_cache(text: str) -> None:
    try:
        uri = parse_uri(text)
    except UriError:
        return
    assert uri.text == text
    if isinstance(uri, HttpsUri | PypiUri):
        cache = Path("/cache")
        placed = Cache(cache).place("ab" * 32, uri.filename)
        assert os.path.normpath(placed) == str(placed)
        assert placed.parent == cache / "ab" / ("ab" * 32)
    if isinstance(uri, PypiUri):
        assert not uri.requirement.startswith("-")
        assert os.path.normpath(uri.member) == uri.member


@given(NAME, st.lists(SEGMENT, min_size=1, max_size=4))
def test_the_parts_of_a_wheel_uri_come_back(name: str, parts: list[str]) -> None:
    member = "/".join(parts)
    uri = parse_uri(f"pypi:{name}==2.1!{member}")
    assert isinstance(uri, PypiUri)
    assert (uri.member, uri.filename) == (member, parts[-1])
    assert uri.requirement == parse_uri(f"pypi:{name.upper().replace('_', '-')}==2.1!x").requirement  # type: ignore[union-attr]


@given(st.lists(st.sampled_from(["a", "b", "..", "."]), min_size=1, max_size=8))
def test_a_relative_path_is_refused_exactly_when_it_climbs_out(parts: list[str]) -> None:
    uri = parse_uri("/".join(parts))
    assert isinstance(uri, LocalUri)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve() / "work"
        folder.mkdir()
        climbs_out = os.path.normpath("/".join(parts)).startswith("..")
        if climbs_out:
            with pytest.raises(UriError, match="leaves the work folder"):
                resolve_local(uri, folder=folder, root=folder)
        else:
            assert resolve_local(uri, folder=folder, root=folder).resolve().is_relative_to(folder)


def test_a_symbolic_link_out_is_refused_and_a_wider_root_lets_it_pass(tmp_path: Path) -> None:
    work, outside = tmp_path / "work", tmp_path / "outside"
    work.mkdir()
    outside.mkdir()
    (work / "link").symlink_to(outside)
    uri = LocalUri("link/secret.csv", "link/secret.csv")
    with pytest.raises(UriError, match="leaves the work folder"):
        resolve_local(uri, folder=work, root=work)
    assert resolve_local(uri, folder=work, root=tmp_path) == work / "link" / "secret.csv"


def test_variables_are_expanded_then_judged_as_written_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(text: str) -> Path:
        uri = parse_uri(text)
        assert isinstance(uri, LocalUri)
        return resolve_local(uri, folder=tmp_path, root=tmp_path)

    monkeypatch.setenv("DATA", "/data")
    monkeypatch.setenv("EMPTY", "")
    monkeypatch.delenv("UNSET", raising=False)
    assert resolve("${DATA}/a.tif") == Path("/data/a.tif")
    assert resolve("${UNSET:-sub}/a.tif") == tmp_path / "sub/a.tif"
    assert resolve("${EMPTY:-sub}/a.tif") == tmp_path / "sub/a.tif"
    with pytest.raises(UriError, match="environment variable UNSET"):
        resolve("${UNSET}/a.tif")
    with pytest.raises(UriError, match="leaves the work folder"):
        resolve("${UNSET:-..}/a.tif")
