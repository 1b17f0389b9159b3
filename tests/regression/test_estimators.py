"""scikit-learn's own battery on every estimator of the stage."""

from typing import Any

from sklearn.utils.estimator_checks import parametrize_with_checks

from geopov.regression.baselines import WelfareNeighbours
from geopov.regression.ridge import WelfareRidge


@parametrize_with_checks([WelfareRidge(), WelfareNeighbours()])
def test_scikit_learn_checks(estimator: Any, check: Any) -> None:
    check(estimator)
