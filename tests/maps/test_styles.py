"""Class limits are round, labels speak the unit, and any data gets classes that cover it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from matplotlib import colormaps
from matplotlib.colors import to_rgb

from geopov.errors import MapError
from geopov.maps import PRODUCTS, make_style, style_of
from geopov.maps.styles import interval_width, make_interval_style


def test_density_has_round_limits():
    style = make_style("density", np.geomspace(2, 9_000, 1000))
    assert style.unit == "people per km²"
    assert style.edges == (3, 10, 30, 100, 300, 1000, 3000)
    assert (style.labels[0], style.labels[-1]) == ("under 3", "over 3,000")


def test_logged_density_is_labelled_in_people():
    values = np.log(np.geomspace(8, 1200, 1000))
    style = make_style("log_density", values)
    assert style.labels == (
        *("under 10", "10 to 20", "20 to 50", "50 to 100"),
        *("100 to 200", "200 to 500", "500 to 1,000", "over 1,000"),
    )
    np.testing.assert_allclose(style.edges, np.log([10, 20, 50, 100, 200, 500, 1000]))
    # 4.6 is the logarithm of 99.5 people.
    assert style.labels[int(np.searchsorted(style.edges, 4.6))] == "50 to 100"


def test_wealth_steps_are_equal():
    style = make_style("asset_wealth", np.linspace(-1.3, 1.7, 1000))
    assert style.edges == (-1, -0.5, 0, 0.5, 1, 1.5)
    assert style.labels[:3] == ("under −1", "−1 to −0.5", "−0.5 to 0")


def test_a_narrow_range_of_consumption_has_equal_steps():
    style = make_style("log_consumption", np.log(np.linspace(1.1, 4.9, 1000)))
    assert style.labels[:3] == ("under 1.5", "1.5 to 2", "2 to 2.5")
    assert style.unit == "PPP USD per person per day"


def test_uninhabited_cells_are_a_class_of_their_own():
    style = make_style("generic", np.concatenate([np.zeros(900), np.arange(1, 101)]), unit="people", title="Count")
    assert style.labels[:2] == ("0", "0 to 13")
    assert (style.title, style.unit) == ("Count", "people")


def test_shares_are_labelled_in_percent():
    style = make_style("headcount", np.linspace(0.11, 0.78, 1000))
    assert style.edges == (0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
    assert style.legend[:2] == ("under 20 % of people", "20 to 30 % of people")
    # 7 percent is the double nearest to 0.07, so that a cell of 0.07 is not above it.
    assert make_style("poverty_gap", np.linspace(0.051, 0.099, 1000)).edges[:2] == (0.06, 0.07)


@pytest.mark.parametrize(("name", "unit"), [("people", "people per cell"), ("poor", "poor people per cell")])
def test_counts_have_classes_by_magnitude(name, unit):
    style = make_style(name, np.concatenate([np.zeros(100), np.geomspace(0.2, 9_000, 1000)]))
    assert style.edges == (1, 10, 100, 1000)
    assert style.legend[0] == f"under 1 {unit}"


@pytest.mark.parametrize("values", [[1.0, 5.0], [3.0], [1.0, 2.0, 2.0]])
def test_quintiles_are_the_same_five_classes_on_every_map(values):
    style = make_style("quintile", np.array(values))
    assert style.categories == (1, 2, 3, 4, 5)
    assert style.labels == ("1 (poorest fifth)", "2", "3", "4", "5 (richest fifth)")
    assert (style.low, style.high) == (1, 5)
    drawn = style.rgba(np.array([[1.0, 2, 3, 4, 5]]))[0, :, :3]
    np.testing.assert_allclose(drawn, [to_rgb(colour) for colour in style.colours])


def test_support_has_two_classes():
    style = make_style("in_support", np.array([0.0, 1.0]))
    assert style.categories == (0, 1)
    assert style.legend == ("unlike the surveyed places", "like the surveyed places")
    np.testing.assert_allclose(style.rgba(np.array([[0.0]]))[0, 0, :3], to_rgb(style.colours[0]))


@pytest.mark.parametrize("name", ["headcount", "quintile", "in_support"])
def test_the_unit_of_the_file_does_not_replace_that_of_the_labels(make_map, name):
    path = make_map({"value": np.array([[0.0, 0.4], [0.6, 1.0]])}, units="share of people", tags={"style": name})
    assert style_of(path).unit == PRODUCTS[name].unit


# Viénot, Brettel and Mollon (1999), Color Res. Appl. 24:243, as DaltonLens computes it for sRGB: linear RGB as seen
# without the red or the green cones.
DICHROMATS = {
    "protanope": np.array([[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]]),
    "deuteranope": np.array([[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]]),
}


def lightness(colours):
    """CIE L* of linear RGB."""
    y = np.clip(colours @ [0.2126, 0.7152, 0.0722], 0, 1)
    return np.where(y > 216 / 24389, 116 * np.cbrt(y) - 16, y * 24389 / 27)


@pytest.mark.parametrize("name", PRODUCTS)
@pytest.mark.parametrize("vision", ["usual", *DICHROMATS])
def test_classes_are_told_apart_in_any_vision(name, vision):
    colours = np.array([to_rgb(colour) for colour in make_style(name, np.geomspace(1e-3, 1, 2000)).colours])
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    steps = np.diff(lightness(linear @ DICHROMATS[vision].T if vision in DICHROMATS else linear))
    assert (steps > 2).all() or (steps < -2).all()


def test_a_constant_map_has_one_class():
    style = make_style("asset_wealth", np.full(9, 1.23456))
    assert style.edges == ()
    assert style.labels == ("about 1.235",)


def test_colours_follow_the_values_and_nodata_is_transparent():
    style = make_style("asset_wealth", np.linspace(-1.3, 1.7, 100))
    rgba = style.rgba(np.array([[-5, -1.0, -0.99, 9, np.nan]]))
    assert rgba.shape == (1, 5, 4)
    np.testing.assert_allclose(rgba[0, 0, :3], to_rgb(style.colours[0]))
    # On a limit a value belongs to the class below, as in QGIS.
    np.testing.assert_allclose(rgba[0, 1, :3], to_rgb(style.colours[0]))
    np.testing.assert_allclose(rgba[0, 2, :3], to_rgb(style.colours[1]))
    np.testing.assert_allclose(rgba[0, 3, :3], to_rgb(style.colours[-1]))
    assert rgba[0, 4, 3] == 0


@pytest.mark.parametrize("name", PRODUCTS)
def test_ramps_are_ordered_by_lightness(name):
    colours = colormaps[PRODUCTS[name].ramp](np.linspace(0, 1, 9))[:, :3]
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    steps = np.diff(linear @ [0.2126, 0.7152, 0.0722])
    assert (steps > 0).all() or (steps < 0).all()


numbers = st.floats(-1e9, 1e9, allow_subnormal=False)


@settings(max_examples=200, deadline=None)
@given(name=st.sampled_from(sorted(PRODUCTS)), values=hnp.arrays(float, st.integers(1, 60), elements=numbers))
def test_any_values_get_classes(name, values):
    style = make_style(name, values)
    assert len(style.colours) == len(style.labels) == len(style.edges) + 1 <= 10
    assert list(style.edges) == sorted(set(style.edges))
    assert len(set(style.labels)) == len(style.labels)
    assert all(math.isfinite(edge) for edge in style.edges)
    assert style.rgba(values[None]).shape == (1, len(values), 4)


def test_relative_products_compare_ends_of_the_interval():
    lower, upper = np.array([1.0, 2.0, 0.0]), np.array([4.0, 4.0, 1.0])
    np.testing.assert_array_equal(interval_width("density", lower, upper), [4, 2, np.nan])
    np.testing.assert_allclose(interval_width("log_density", np.log([1.0, 2]), np.log([4.0, 4])), [4, 2])
    np.testing.assert_array_equal(interval_width("asset_wealth", lower, upper), [3, 2, 1])
    np.testing.assert_allclose(interval_width("headcount", np.array([0.1, 0.5]), np.array([0.35, 0.5])), [25, 0])


def test_interval_styles_say_what_they_measure():
    style = make_interval_style("log_density", np.linspace(1.05, 12, 500), level="90%")
    assert style.unit == "upper ÷ lower end of the 90% interval"
    assert style.labels[-1] == "over ×10"
    style = make_interval_style("asset_wealth", np.linspace(0.1, 1, 500))
    assert style.unit == "width of the interval, index (no unit)"
    style = make_interval_style("headcount", np.linspace(5, 40, 500), unit="share of people", level="90%")
    assert style.unit == "width of the 90% interval, percentage points"


@pytest.mark.parametrize("maker", [make_style, make_interval_style])
def test_wrong_style_or_no_values(maker):
    with pytest.raises(MapError, match="no style 'rainbow'; expected one of asset_wealth"):
        maker("rainbow", np.arange(3.0))
    with pytest.raises(MapError, match="nodata"):
        maker("density", np.full(3, np.nan))


def test_a_map_brings_its_style(density):
    path = density()
    assert style_of(path).name == "log_density"
    assert style_of(path, style="asset_wealth").name == "asset_wealth"
    generic = style_of(path, style="generic", band=2)
    assert (generic.title, generic.unit) == ("lower", "ln(people/km²)")
    with pytest.raises(MapError, match="no band 9; it has 4: mean, lower, upper, in_support"):
        style_of(path, band=9)


@pytest.mark.parametrize(("name", "lower", "upper"), [("asset_wealth", -1.0, 0.688), ("density", 10.0, 93.7)])
def test_one_width_for_all_cells_is_one_class(name: str, lower: float, upper: float) -> None:
    mean = np.random.default_rng(0).uniform(-2, 2, (20, 20))
    low = (mean + lower if name == "asset_wealth" else np.exp(mean) * lower).astype("float32")
    high = (mean + upper if name == "asset_wealth" else np.exp(mean) * upper).astype("float32")
    width = interval_width(name, low, high)
    assert len(np.unique(width)) == 1
    assert len(make_interval_style(name, width).labels) == 1
