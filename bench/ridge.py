"""Nested cross-validation of ridge regression beside GridSearchCV, RidgeCV and himalaya, 5 x 5 folds, 30 penalties.

    python bench/ridge.py [--quick]

GridSearchCV is ``GridSearchCV(make_pipeline(StandardScaler(), Ridge()))`` in each outer fold, on the inner folds and
penalties that ours has; predictions and penalties are compared. RidgeCV chooses by leave-one-out on features that are
standardised once an outer fold, and himalaya on the same inner folds but likewise standardised once, so that their
penalties may be others. "Clipped" is ours as it is by default, held-out features kept within the training range. "x
product" is the time in multiples of one matrix product of all rows, the smaller of X'X and XX'. Ours runs its folds
side by side on one BLAS thread each. GridSearchCV has one BLAS thread too, since two made it slower (103 s against 67 s
at n = 1,000, p = 4,096); the other peers and the product have all that BLAS takes (one with --quick, whose matrices are
too small for more). Ratios are medians over rounds in which all take their turn; peers that need
more than 20 s have one turn. himalaya, if installed, runs where n is 2,000 at most. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from geopov.regression.nested import nested_ridge

try:
    from himalaya import kernel_ridge, ridge
except ImportError:
    kernel_ridge = ridge = None

SIZES = ((1000, 4096), (20000, 512), (5000, 2048))
QUICK = ((200, 800), (2000, 64), (400, 200))
SLOW_S = 20.0
# It is made for many outcomes and forms a matrix of validation by training rows for every penalty: 10 GB and more than
# ten minutes at n = 20,000.
HIMALAYA_MOST = 2000

Pairs = list[tuple[np.ndarray, np.ndarray]]


class Problem:
    """Features as a network makes them: positive, correlated, of falling variance, with many near zero."""

    def __init__(self, n: int, p: int) -> None:
        rng = np.random.default_rng(0)
        rank = 60
        factors = rng.normal(size=(n, rank)) * np.arange(1, rank + 1) ** -0.5
        self.X = np.maximum(factors @ rng.normal(size=(rank, p)) + 0.7 * rng.normal(size=(n, p)) - 0.5, 0)
        self.X *= rng.lognormal(sigma=1.0, size=p)
        self.y = factors @ rng.normal(size=rank) + 0.8 * rng.normal(size=n)
        self.y /= self.y.std()
        self.groups = rng.integers(0, min(200, n // 4), n)
        self.pairs: Pairs = list(GroupKFold(5).split(self.X, self.y, self.groups))
        self.alphas = n * p * np.logspace(-6, 1, 30)

    def inner(self, train: np.ndarray) -> Pairs:
        """Inner folds of training rows, whole groups held out."""
        return list(GroupKFold(5).split(train, groups=self.groups[train]))

    def nested(self, *, extrapolate: bool) -> tuple[np.ndarray, np.ndarray]:
        """Held-out predictions and penalties of ours."""
        found = nested_ridge(
            self.X, self.y, self.pairs, groups=self.groups, alphas=self.alphas, extrapolate=extrapolate
        )
        return found.predicted[:, 0], found.alpha[:, 0]

    def each_fold(self, fit: Callable[[np.ndarray], tuple[Any, float]]) -> tuple[np.ndarray, np.ndarray]:
        """Held-out predictions and penalties of a model that is fitted fold by fold."""
        predicted, alphas = np.empty(len(self.y)), []
        for train, test in self.pairs:
            model, alpha = fit(train)
            predicted[test] = model.predict(self.X[test])
            alphas.append(alpha)
        return predicted, np.array(alphas)

    def grid_search(self, train: np.ndarray) -> tuple[Any, float]:
        """A fitted model and its penalty."""
        search = GridSearchCV(
            make_pipeline(StandardScaler(), Ridge()),
            {"ridge__alpha": self.alphas},
            cv=self.inner(train),
            scoring="neg_mean_squared_error",
        )
        with threadpool_limits(limits=1, user_api="blas"):
            search.fit(self.X[train], self.y[train])
        return search, search.best_params_["ridge__alpha"]

    def ridge_cv(self, train: np.ndarray) -> tuple[Any, float]:
        """A fitted model and its penalty."""
        model = make_pipeline(StandardScaler(), RidgeCV(self.alphas)).fit(self.X[train], self.y[train])
        return model, model[-1].alpha_

    def himalaya(self, train: np.ndarray) -> tuple[Any, float]:
        """A fitted model and its penalty."""
        cv = self.inner(train)
        if self.X.shape[1] > len(train):  # himalaya's own advice
            last = kernel_ridge.KernelRidgeCV(self.alphas, kernel="linear", cv=cv)
        else:
            last = ridge.RidgeCV(self.alphas, cv=cv)
        centre = self.y[train].mean()  # KernelRidgeCV has no intercept
        model = make_pipeline(StandardScaler(), last).fit(self.X[train], self.y[train] - centre)
        return _Shifted(model, centre), float(np.atleast_1d(last.best_alphas_)[0])

    def product(self) -> None:
        """The yardstick."""
        X = self.X
        np.matmul(X.T, X) if X.shape[1] < len(X) else np.matmul(X, X.T)


class _Shifted:
    def __init__(self, model: Any, shift: float) -> None:
        self.model, self.shift = model, shift

    def predict(self, X: np.ndarray) -> np.ndarray:
        return self.model.predict(X) + self.shift


def compare(n: int, p: int, *, rounds: int) -> dict[str, float | bool]:
    """Print a table for one size; the ratio, the cost in products and the agreement with GridSearchCV."""
    problem = Problem(n, p)
    contenders: dict[str, Callable[[], Any]] = {
        "one product": problem.product,
        "geopov": lambda: problem.nested(extrapolate=True),
        "geopov, clipped": lambda: problem.nested(extrapolate=False),
        "GridSearchCV": lambda: problem.each_fold(problem.grid_search),
        "RidgeCV, leave-one-out": lambda: problem.each_fold(problem.ridge_cv),
    }
    if ridge is not None and n <= HIMALAYA_MOST:
        contenders["himalaya"] = lambda: problem.each_fold(problem.himalaya)
    times: dict[str, list[float]] = {name: [] for name in contenders}
    results = {}
    problem.nested(extrapolate=True)  # starts the libraries' threads and buffers
    for _ in range(rounds):
        for name, work in contenders.items():
            if times[name] and times[name][0] > SLOW_S:
                continue
            start = time.perf_counter()
            results[name] = work()
            times[name].append(time.perf_counter() - start)
    median = {name: statistics.median(values) for name, values in times.items()}
    predicted, alphas = results["GridSearchCV"]
    print(
        f"\nn = {n}, p = {p}: {'':12}{'seconds':>9}{'geopov is':>12}{'x product':>11}{'largest difference':>20}  alphas"
    )
    for name, seconds in median.items():
        line = f"  {name:26}{seconds:12.3f}{seconds / median['geopov']:11.1f}x{seconds / median['one product']:11.1f}"
        if name != "one product":
            difference = np.abs(results[name][0] - predicted).max()
            equal = "equal" if np.array_equal(results[name][1], alphas) else "other"
            line += f"{difference:20.1e}  {equal}"
        print(line, flush=True)
    return {
        "ratio": median["GridSearchCV"] / median["geopov"],
        "products": median["geopov"] / median["one product"],
        "difference": float(np.abs(results["geopov"][0] - predicted).max()),
        "equal": bool(np.array_equal(results["geopov"][1], alphas)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes")
    options = parser.parse_args()
    print("Differences are from GridSearchCV's predictions, in standard deviations of the outcome.")
    with threadpool_limits(limits=1 if options.quick else None, user_api="blas"):
        found = {f"n{n}_p{p}": compare(n, p, rounds=3) for n, p in (QUICK if options.quick else SIZES)}
    result: dict[str, Any] = {name: round(case["ratio"], 1) for name, case in found.items()}
    result["max_abs_diff"] = max(case["difference"] for case in found.values())
    result["alphas_equal"] = all(case["equal"] for case in found.values())
    result["products"] = {name: round(case["products"], 1) for name, case in found.items()}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
