"""Malawi's fifth Integrated Household Survey through its adapter; see GEOPOV_REAL_DATA in CONTRIBUTING."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from geopov.survey.design import aggregate_clusters
from geopov.survey.lsms import read_adapter, read_lsms
from geopov.survey.lsms.prices import Consumption, Deflator
from geopov.survey.poverty import fgt, shortfalls

pytestmark = pytest.mark.real

NAME = "malawi_ihs5_2019"


@pytest.fixture
def files(real_data):
    folder = real_data / "malawi"
    return {
        "households": folder / "ihs5_consumption_aggregate.dta",
        "locations": folder / "householdgeovariables_ihs5.dta",
    }


@pytest.fixture
def survey(files):
    """The file as it is."""
    return pd.read_stata(files["households"], convert_categoricals=False)


def test_poor_and_gap_of_every_household_are_the_files_own(files, survey):
    table = read_lsms(NAME, **files)
    assert len(table) == 2176
    assert table["household_id"].tolist() == survey["case_id"].tolist()
    found = shortfalls(table["consumption_mwk"], table["poverty_line"])
    assert (found["poor"] == survey["poor"]).all()
    assert int(found["poor"].sum()) == 486
    # gap_poor is in percent, of single precision.
    np.testing.assert_allclose(100 * found["poverty_gap"], survey["gap_poor"], atol=1e-5)
    np.testing.assert_allclose(100 * found["poverty_severity"], survey["gap2_poor"], atol=1e-5)
    people = table["weight"] * table["household_size"]
    headcount = fgt(table["consumption_mwk"], table["poverty_line"], weights=people, alpha=0)
    assert headcount == pytest.approx(0.3293, abs=5e-5)


def test_nominal_over_the_price_index_is_the_files_real_consumption(files, survey):
    adapter = read_adapter(NAME)
    nominal = adapter.model_copy(
        update={
            "consumption": Consumption(column="expagg", of="household", per="year", prices="nominal", currency="MWK"),
            "deflator": Deflator(column="price_indexL", base=100, period="national, April 2019"),
        }
    )
    table = read_lsms(nominal, **files)
    np.testing.assert_allclose(table["consumption_mwk"] * 365, survey["rexpaggpc"], rtol=4e-7)
    np.testing.assert_allclose(table["consumption_ae_mwk"] * 365 * survey["adulteq"], survey["rexpagg"], rtol=4e-7)


def test_areas_at_zero_and_the_household_without_a_location(files):
    table = read_lsms(NAME, **files)
    assert table["cluster_id"].nunique() == 137
    at_zero = (table["lon"] == 0) & (table["lat"] == 0)
    assert int(at_zero.sum()) == 112
    assert table.loc[at_zero, "cluster_id"].nunique() == 7
    assert table.loc[table["lon"].isna(), "household_id"].tolist() == ["105112100009"]
    clusters = aggregate_clusters(table, outcomes=["consumption_mwk"])
    assert len(clusters) == 130
    assert int(clusters["households"].sum()) == 2176 - 113


def test_urban_year_and_displacement(files, survey):
    table = read_lsms(NAME, **files)
    assert (table["urban"] == (survey["urban"] == 1)).all()
    assert table["year"].value_counts().to_dict() == {2019: 1412, 2020: 764}
    assert set(table.loc[table["urban"], "displacement_km"]) == {2.0}
    assert set(table.loc[~table["urban"], "displacement_km"]) == {5.0}
    assert table.attrs["files"][0] == {"file": "ihs5_consumption_aggregate.dta", "role": "households", "rows": 2176}
    assert table.attrs["notes"] == []
