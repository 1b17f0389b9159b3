"""The subcommands write what they say, where they say."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from geopov.cli.maps import app
from geopov.errors import MapError
from geopov.maps import render, style_of, write_qml

runner = CliRunner()


def test_render_writes_beside_the_map_or_where_told(density, tmp_path):
    path = density()
    result = runner.invoke(app, ["render", str(path), "--width-px", "600", "--title", "Nepal"])
    assert result.exit_code == 0, result.output
    assert result.output.strip() == str(path.with_suffix(".png"))
    expected = render(path, tmp_path / "expected.png", title="Nepal", width_px=600)
    assert path.with_suffix(".png").read_bytes() == expected.read_bytes()
    runner.invoke(app, ["render", str(path), "-o", str(tmp_path / "b.png"), "--width-px", "600", "--title", "Nepal"])
    assert (tmp_path / "b.png").read_bytes() == expected.read_bytes()


def test_style_writes_a_qml(density, tmp_path):
    path = density()
    result = runner.invoke(app, ["style", str(path), "--style", "asset_wealth", "--band", "2"])
    assert result.exit_code == 0, result.output
    expected = write_qml(style_of(path, style="asset_wealth", band=2), tmp_path / "expected.qml", band=2)
    assert path.with_suffix(".qml").read_bytes() == expected.read_bytes()


def test_info_shows_bands_units_crs_and_layout(density):
    result = runner.invoke(app, ["info", str(density())], env={"COLUMNS": "160"})
    assert result.exit_code == 0, result.output
    for part in ("90 x 60", "EPSG:32645", "Cloud Optimized", "yes", "in_support", "ln(people/km²)", "log_density"):
        assert part in result.output


def test_errors_come_through(tmp_path):
    result = runner.invoke(app, ["info", str(tmp_path / "nowhere.tif")])
    assert isinstance(result.exception, MapError)


@pytest.mark.parametrize("command", ["render", "style", "info"])
def test_help_has_an_example(command):
    assert "Example: geopov maps" in runner.invoke(app, [command, "--help"]).output
