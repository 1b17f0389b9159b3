from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from geopov.errors import FeatureError
from geopov.features.nightlights.classes import JEAN_2016_EDGES, LightsClasses


def test_given_edges_of_jean_et_al():
    classes = LightsClasses.given(JEAN_2016_EDGES)

    assert classes.assign([0, 2.99, 3, 34.9, 35, 63]).tolist() == [0, 0, 1, 1, 2, 2]
    assert classes.names == ["below 3", "3 to 35", "35 and above"]
    assert classes.to_dict() == {"method": "given", "edges": [3.0, 35.0], "names": classes.names}


def test_a_mixture_parts_where_components_are_equally_likely(rng):
    # Equal weights and spreads part half-way; by hand for weights 3:1, at the middle + s² ln(3) / distance.
    equal = np.concatenate([rng.normal(0, 1, 20_000), rng.normal(8, 1, 20_000)])
    unequal = np.concatenate([rng.normal(0, 1, 30_000), rng.normal(6, 1, 10_000)])

    assert LightsClasses.fit_mixture(equal, n=2).edges == pytest.approx([4.0], abs=0.05)
    assert LightsClasses.fit_mixture(unequal, n=2).edges == pytest.approx([3 + np.log(3) / 6], abs=0.05)


def test_a_mixture_finds_the_dark_the_dim_and_the_bright(rng):
    radiance = np.concatenate([np.zeros(6000), rng.lognormal(0, 0.4, 3000), rng.lognormal(3.5, 0.4, 1000)])

    classes = LightsClasses.fit_mixture(radiance, scale="log")

    assert np.bincount(classes.assign(radiance)).tolist() == pytest.approx([6000, 3000, 1000], rel=0.03)
    assert classes.assign([0.0]).tolist() == [0]
    assert classes == LightsClasses.fit_mixture(rng.permutation(radiance), scale="log")


def test_quantiles_are_equal_in_size_and_give_the_dark_a_class_of_their_own(rng):
    spread = rng.permutation(np.arange(900.0))
    mostly_dark = np.concatenate([np.zeros(800), rng.uniform(1, 9, 200)])

    assert np.bincount(LightsClasses.quantiles(spread).assign(spread)).tolist() == [300, 300, 300]
    classes = LightsClasses.quantiles(mostly_dark)
    assert np.bincount(classes.assign(mostly_dark)).tolist() == [800, 100, 100]


@given(arrays(float, st.integers(3, 60), elements=st.floats(0, 1e4, width=32)), st.integers(2, 4))
@settings(max_examples=60, deadline=None)
def test_classes_rise_with_light(values, n):
    try:
        classes = LightsClasses.quantiles(values, n=n)
    except FeatureError:
        return
    assigned = classes.assign(np.sort(values))

    assert (np.diff(assigned) >= 0).all()
    assert set(assigned.tolist()) == set(range(n))


def test_what_cannot_be_parted_is_told():
    with pytest.raises(FeatureError, match="1 different values"):
        LightsClasses.quantiles(np.zeros(50))
    with pytest.raises(FeatureError, match="too few values for 3 classes"):
        LightsClasses.quantiles([0, 0, 0, 1, 1, 1, 2], n=3) and LightsClasses.quantiles(
            [0, 0, 0, 0, 0, 1, 2, 2, 2], n=3
        )
    with pytest.raises(FeatureError, match="ascending"):
        LightsClasses.given([35, 3])
    with pytest.raises(FeatureError, match="ascending"):
        LightsClasses.given([])
    with pytest.raises(FeatureError, match="missing"):
        LightsClasses.given([3]).assign([np.nan, 1])
    with pytest.raises(FeatureError, match="at least two"):
        LightsClasses.fit_mixture([1, 2, 3], n=1)
    with pytest.raises(FeatureError, match="0 or more"):
        LightsClasses.fit_mixture([-2.0, 1, 3], scale="log")
