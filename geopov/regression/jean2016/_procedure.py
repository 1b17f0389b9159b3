"""The computations behind :mod:`geopov.regression.jean2016`: what is divided how, and the two procedures."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from geopov._validation import ID_COLUMN
from geopov.errors import RegressionError
from geopov.regression._inputs import Floats, Ints, inner_splits
from geopov.regression.jean2016 import original
from geopov.regression.nested import nested_ridge
from geopov.regression.permutation import permutation_test, repeat_splits
from geopov.regression.sample import Sample
from geopov.regression.scores import score, score_table
from geopov.regression.splits import LeaveOneCountryOut, SpatialBlocks
from geopov.regression.subsets import countries

POOLED = "pooled"
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
N_COMPONENTS = 100
MIN_CLUSTERS = 50
_INNER_FOLDS = 5

COLUMNS = {
    "predictions": ("country", "cluster_id", "observed", "predicted"),
    "scores": ("country", "n", "r2", "r2_low", "r2_high", "r2_pooled", "R2"),
    "curves": ("predictor", "share", "n", "trials", "r2", "r2_lowest", "r2_highest"),
    "randomised": ("country", "n", "r2", "null_median", "null_95", "p_value"),
    "null": ("country", "trial", "r2"),
    "generalisation": ("trained_on", "tested_on", "n", "r2"),
}


@dataclass(frozen=True)
class Part:
    """Clusters that are evaluated together."""

    rows: Ints
    """(n,) row numbers in the sample."""
    pairs: list[tuple[Ints, Ints]]
    """Folds of spatial blocks, numbered within the part."""
    blocks: Ints
    """(n,)"""
    n_components: int
    """100, or half as many as the smallest inner training fold has clusters."""


@dataclass
class Study:
    """The jobs behind the figures; each adds rows to the tables."""

    sample: Sample
    n_trials: int
    splits: SpatialBlocks
    seed: int
    rows: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: {name: [] for name in COLUMNS})

    def __post_init__(self) -> None:
        """Divide everything before anything is fitted, so that too few blocks are known at once."""
        clusters = self.sample.clusters
        everyone = np.ones(len(clusters), dtype=bool)
        masks = countries(clusters)
        enough = {name: mask for name, mask in masks.items() if mask.sum() >= MIN_CLUSTERS}
        self.too_small = [name for name in masks if name not in enough]
        if not masks:
            known = clusters["country"].dropna().unique() if "country" in clusters else []
            enough = {str(known[0]) if len(known) else "all clusters": everyone}
        self.parts = {name: self._part(name, mask) for name, mask in enough.items()}
        self.everyone = self._part(POOLED, everyone)
        self.with_pooled = self.parts | ({POOLED: self.everyone} if len(masks) > 1 else {})
        self.poorest = {}
        for share in SHARES:
            mask = self.sample.y <= np.percentile(self.sample.y, 100 * share)
            if mask.sum() >= MIN_CLUSTERS:
                self.poorest[share] = self._part(f"the poorest {share:.0%}", mask)

    def _part(self, name: str, mask: NDArray[np.bool_]) -> Part:
        if mask.sum() < MIN_CLUSTERS:
            raise RegressionError(
                f"{name}: {int(mask.sum())} clusters can be used; expected at least {MIN_CLUSTERS} for figures."
            )
        clusters = self.sample.clusters[mask].reset_index(drop=True)
        try:
            pairs = list(self.splits.split(clusters))
        except RegressionError as error:
            raise RegressionError(f"{name}: {error}") from error
        rows, blocks = np.flatnonzero(mask), self.splits.block_ids(clusters)
        return Part(rows, pairs, blocks, _n_components(self.sample.X[rows], pairs, blocks))

    @functools.cached_property
    def rotated(self) -> Floats:
        """Features (n, at most n - 1) for the original, see :mod:`geopov.regression.jean2016.original`."""
        return original.reduce(self.sample.X)

    def jobs(self, procedure: str) -> list[Callable[[], None]]:
        """What there is to do for one procedure, in the order of the figures."""
        figures: Figures = Nested(self) if procedure == "nested" else Original(self)
        found: list[Callable[[], None]] = [functools.partial(figures.figure3, name) for name in self.parts]
        found += [functools.partial(figures.figure4_curves, share) for share in self.poorest]
        found += [functools.partial(figures.figure4_randomised, name) for name in self.with_pooled]
        if len(self.parts) > 1:
            found += [functools.partial(figures.figure5, name) for name in self.with_pooled]
        return found

    def add(self, table: str, procedure: str, **columns: Any) -> None:
        self.rows[table].append({"procedure": procedure, **columns})

    def add_predictions(self, procedure: str, name: str, predicted: Floats, r2: float | None = None) -> None:
        """Predictions and scores of one panel of figure 3."""
        part = self.parts[name]
        observed = self.sample.y[part.rows]
        ids = self.sample.clusters[ID_COLUMN].to_numpy()[part.rows]
        for cluster_id, truth, value in zip(ids, observed, predicted, strict=True):
            self.add("predictions", procedure, country=name, cluster_id=cluster_id, observed=truth, predicted=value)
        row = score_table(observed, {"model": predicted}, part.blocks, n_draws=1000, seed=self.seed).iloc[0]
        ends = {"r2_low": row["r2_pearson_low"], "r2_high": row["r2_pearson_high"]} if r2 is None else {}
        pooled = float(row["r2_pearson"])
        shown = {"r2": pooled if r2 is None else r2, "r2_pooled": pooled, "R2": float(row["R2"])}
        self.add("scores", procedure, country=name, n=len(observed), **shown, **ends)

    def add_curve(self, procedure: str, share: float, r2: dict[str, Floats]) -> None:
        for predictor, values in r2.items():
            spread = {"r2": values.mean(), "r2_lowest": values.min(), "r2_highest": values.max()}
            n = len(self.poorest[share].rows)
            self.add("curves", procedure, predictor=predictor, share=share, n=n, trials=len(values), **spread)

    def add_null(self, procedure: str, name: str, r2: float, null: Floats) -> None:
        for trial, value in enumerate(null):
            self.add("null", procedure, country=name, trial=trial, r2=value)
        quantiles = {"null_median": np.median(null), "null_95": np.quantile(null, 0.95)}
        p_value = (1 + np.count_nonzero(null >= r2)) / (1 + len(null))
        n = len(self.with_pooled[name].rows)
        self.add("randomised", procedure, country=name, n=n, r2=r2, **quantiles, p_value=p_value)

    def table(self, name: str, procedures: list[str]) -> pd.DataFrame:
        """The rows added, those of the first procedure first."""
        found = pd.DataFrame(self.rows[name], columns=["procedure", *COLUMNS[name]])
        order = found["procedure"].map({procedure: number for number, procedure in enumerate(procedures)})
        return found.iloc[np.argsort(order.to_numpy(), kind="stable")].reset_index(drop=True)


def _n_components(X: Floats, pairs: list[tuple[Ints, Ints]], groups: Ints) -> int:
    inner = [inner_splits(X[train], n_folds=_INNER_FOLDS, groups=groups[train]) for train, _ in pairs]
    smallest = min(len(train) for splits in inner for train, _ in splits)
    return max(1, min(N_COMPONENTS, int(X.shape[1]), smallest // 2))


class Figures(Protocol):
    """One procedure; each method adds rows to the tables of a study."""

    def figure3(self, name: str) -> None:
        """Predicted against observed in one country."""

    def figure4_curves(self, share: float) -> None:
        """r² of images and of nightlights among the poorest."""

    def figure4_randomised(self, name: str) -> None:
        """r² with images as they are, and reshuffled."""

    def figure5(self, name: str) -> None:
        """r² in every country of models trained in one."""


@dataclass(frozen=True)
class Nested:
    """Everything fitted inside training folds, places held out whole, r² of the pooled predictions."""

    study: Study

    def figure3(self, name: str) -> None:
        X, y, part = self._part(self.study.parts[name])
        fit = nested_ridge(X, y, part.pairs, groups=part.blocks)
        self.study.add_predictions("nested", name, fit.predicted[:, 0])

    def figure4_curves(self, share: float) -> None:
        study, part = self.study, self.study.poorest[share]
        clusters = study.sample.clusters.iloc[part.rows].reset_index(drop=True)
        n_repeats = max(1, study.n_trials // 30)

        def repeated(X: Floats, n_components: int | None) -> Floats:
            table = repeat_splits(
                X[part.rows], study.sample.y[part.rows], clusters, study.splits,
                n_repeats=n_repeats, seed=study.seed, n_components=n_components,
            )  # fmt: skip
            return table["r2_pearson"].to_numpy()

        found = {"images": repeated(study.sample.X, part.n_components)}
        if study.sample.lights is not None:
            found["nightlights"] = repeated(study.sample.lights, None)
        study.add_curve("nested", share, found)

    def figure4_randomised(self, name: str) -> None:
        study = self.study
        X, y, part = self._part(study.with_pooled[name])
        test = permutation_test(
            X, y, part.pairs,
            groups=part.blocks, n_permutations=study.n_trials, seed=study.seed, n_components=part.n_components,
        )  # fmt: skip
        study.add_null("nested", name, test.observed_r2, test.null_r2)

    def figure5(self, name: str) -> None:
        X, y, part = self._part(self.study.with_pooled[name])
        if name == POOLED:
            self._each_country_from_the_others(X, y)
            return
        fit = nested_ridge(X, y, part.pairs, groups=part.blocks, n_components=part.n_components)
        self._add(name, name, y, fit.predicted[:, 0])
        rest = np.setdiff1d(np.arange(len(self.study.sample.y)), part.rows)
        blocks = np.zeros(len(self.study.sample.y), dtype=np.int64)
        blocks[part.rows] = part.blocks
        abroad = nested_ridge(
            self.study.sample.X, self.study.sample.y, [(part.rows, rest)],
            groups=blocks, n_components=part.n_components,
        ).predicted[:, 0]  # fmt: skip
        for other, target in self.study.parts.items():
            if other != name:
                self._add(name, other, self.study.sample.y[target.rows], abroad[target.rows])
        self._add(name, POOLED, self.study.sample.y[rest], abroad[rest])

    def _each_country_from_the_others(self, X: Floats, y: Floats) -> None:
        study = self.study
        splits = LeaveOneCountryOut(tile_km=study.splits.tile_km)
        # Penalties are chosen by leaving countries out as well, unless that leaves none to choose between.
        if len(study.sample.clusters["country"].unique()) < 3:
            return
        groups, pairs = splits.block_ids(study.sample.clusters), list(splits.split(study.sample.clusters))
        predicted = nested_ridge(X, y, pairs, groups=groups, n_components=_n_components(X, pairs, groups)).predicted[
            :, 0
        ]
        for other, target in study.parts.items():
            self._add(POOLED, other, y[target.rows], predicted[target.rows])
        self._add(POOLED, POOLED, y, predicted)

    def _add(self, trained_on: str, tested_on: str, observed: Floats, predicted: Floats) -> None:
        r2 = score(observed, predicted)["r2_pearson"]
        names = {"trained_on": trained_on, "tested_on": tested_on}
        self.study.add("generalisation", "nested", **names, n=len(observed), r2=r2)

    def _part(self, part: Part) -> tuple[Floats, Floats, Part]:
        return self.study.sample.X[part.rows], self.study.sample.y[part.rows], part


@dataclass(frozen=True)
class Original:
    """As published, see :mod:`geopov.regression.jean2016.original`."""

    study: Study

    def figure3(self, name: str) -> None:
        rows = self.study.parts[name].rows
        found = original.figure3(original.reduce(self.study.rotated[rows]), self.study.sample.y[rows], self._rng(3))
        self.study.add_predictions("original", name, found.predicted, found.r2)

    def figure4_curves(self, share: float) -> None:
        study, part, rng = self.study, self.study.poorest[share], self._rng(4)
        y, trials = study.sample.y[part.rows], range(max(1, study.n_trials // 5))
        Z = original.reduce(study.rotated[part.rows], part.n_components)
        found = {"images": np.array([original.figure4_images(Z, y, rng) for _ in trials])}
        if study.sample.lights is not None:
            lights = study.sample.lights[part.rows]
            found["nightlights"] = np.array([original.figure4_lights(lights, y, rng) for _ in trials])
        study.add_curve("original", share, found)

    def figure4_randomised(self, name: str) -> None:
        study, part, rng = self.study, self.study.with_pooled[name], self._rng(5)
        y, Z = study.sample.y[part.rows], original.reduce(study.rotated[part.rows], part.n_components)
        r2 = original.figure4_randomised(Z, y, rng, shuffle=False)
        null = np.array([original.figure4_randomised(Z, y, rng) for _ in range(study.n_trials)])
        study.add_null("original", name, r2, null)

    def figure5(self, name: str) -> None:
        study, part = self.study, self.study.with_pooled[name]
        targets = {other: target.rows for other, target in study.with_pooled.items()}
        found = original.figure5_column(
            study.rotated, study.sample.y, targets, name=name,
            n_components=part.n_components, n_trials=max(1, study.n_trials // 10), rng=self._rng(6),
        )  # fmt: skip
        for other, r2 in found.items():
            names = {"trained_on": name, "tested_on": other}
            study.add("generalisation", "original", **names, n=len(targets[other]), r2=r2)

    def _rng(self, figure: int) -> np.random.Generator:
        return np.random.default_rng([self.study.seed, figure])
