from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from geopov.cli.catalog import app
from geopov.errors import CatalogError, OfflineError, SourceNotFoundError

DATA = b"n\n1\n"
SHA = hashlib.sha256(DATA).hexdigest()


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})


@pytest.fixture
def catalogue(write: Callable[..., Path], registry: Path, make_wheel: Callable[..., Path]) -> Path:
    make_wheel(registry, "some_data", [("data/t.csv", DATA)])
    return write(
        inner={"uri": "pypi:some-data==1.0!data/t.csv", "kind": "table", "sha256": SHA},
        local={"uri": "l.csv", "kind": "table", "sha256": SHA, "description": "in [bold]brackets"},
    )


def test_list_show_fetch_verify(catalogue: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (catalogue.parent / "l.csv").write_bytes(DATA)
    monkeypatch.chdir(catalogue.parent)  # where the catalogue is found without --catalog
    listed = run("list")
    assert listed.exit_code == 0, listed.output
    assert "inner" in listed.output
    assert "not fetched" in listed.output
    assert "in [bold]brackets" in run("show", "local").output
    assert run("verify").exit_code == 0, "not fetched is not wrong"

    fetched = run("fetch", "--all", "--cache", tmp_path / "elsewhere")
    assert fetched.exit_code == 0, fetched.output
    place = tmp_path / "elsewhere" / SHA[:2] / SHA / "t.csv"
    assert f"inner\t{place}\nlocal\t{catalogue.parent / 'l.csv'}\n" in fetched.stdout
    assert place.read_bytes() == DATA

    verified = run("verify", "--cache", tmp_path / "elsewhere")
    assert verified.exit_code == 0
    assert verified.output.count(" ok ") == 2


def test_what_is_wrong_ends_in_an_error_after_the_table(catalogue: Path) -> None:
    verified = run("verify", "--catalog", catalogue)
    assert isinstance(verified.exception, CatalogError)
    assert "missing" in verified.output
    assert "1 of 2 files are not what" in str(verified.exception)
    assert "local: missing: there is no file" in str(verified.exception)
    (catalogue.parent / "l.csv").write_bytes(b"changed")
    assert "wrong sha256" in str(run("verify", "local", "--catalog", catalogue).exception)


def test_offline_and_its_environment_variable(catalogue: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(run("fetch", "inner", "--offline", "--catalog", catalogue).exception, OfflineError)
    monkeypatch.setenv("GEOPOV_OFFLINE", "1")
    assert isinstance(run("fetch", "inner", "--catalog", catalogue).exception, OfflineError)
    monkeypatch.setenv("GEOPOV_OFFLINE", "0")
    assert run("fetch", "inner", "--catalog", catalogue).exit_code == 0
    assert run("fetch", "inner", "--offline", "--catalog", catalogue).exit_code == 0, "it is in the cache now"


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        (["fetch"], CatalogError, "--all"),
        (["fetch", "inner", "--all"], CatalogError, "--all"),
        (["fetch", "iner"], SourceNotFoundError, "did you mean 'inner'"),
        (["show", "nothing"], SourceNotFoundError, "it has inner, local"),
        (["verify", "locl"], SourceNotFoundError, "did you mean 'local'"),
    ],
)
def test_wrong_arguments(catalogue: Path, arguments: list[str], error: type[Exception], says: str) -> None:
    result = run(*arguments, "--catalog", catalogue)
    assert isinstance(result.exception, error)
    assert says in str(result.exception)


def test_no_catalogue_above(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    assert isinstance(run("list").exception, SourceNotFoundError)


@pytest.mark.parametrize("command", ["list", "show", "fetch", "verify"])
def test_help_shows_an_example(command: str) -> None:
    shown: Any = run(command, "--help")
    assert f"Example: geopov catalog {command}" in shown.output
