"""The tiles that move each filter of a network most (Jean et al. 2016, figure 2).

Imports torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.linalg
import torch

from geopov._validation import some
from geopov.errors import FeatureError
from geopov.features._prefetch import prefetch
from geopov.features.explanation.watch import WatchedNetwork
from geopov.features.extract import Tiles

__all__ = ["Activations", "check_filters", "choose_filters", "measure", "strongest"]

# Of latitude, on a sphere; near enough to tell whether two tiles overlap.
_M_PER_DEGREE = 111_195

ProgressCallback = Callable[[int, int], None]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Activations:
    """How strongly every filter responds to every tile.

    Attributes
    ----------
    peak, mean : float32 array (tile, filter)
        Greatest and mean response within the tile, its context aside; NaN where a tile has too few valid pixels.
    outputs : float32 array (tile, logit) or None
        Of the head, where the network has one.
    """

    peak: Floats
    mean: Floats
    outputs: Floats | None


def measure(
    network: WatchedNetwork, tiles: Tiles, *, batch_size: int = 64, progress: ProgressCallback | None = None
) -> Activations:
    """Run all tiles through the network once.

    Parameters
    ----------
    network : WatchedNetwork
        Whose layer's map is looked at.
    tiles : TileSet
        With the context that the network expects.
    batch_size : int
        Tiles read at once.
    progress : callable, optional
        Called with (tiles done, tiles in all).

    Raises
    ------
    FeatureError
        If the tiles have another context, or none has enough valid pixels.
    """
    expected = network.extractor.context_px
    if tiles.spec.context_px != expected:
        raise FeatureError(
            f"the tiles have context_px={tiles.spec.context_px}, but the network was set up for {expected}."
        )
    arrays: list[Floats] = []
    done = 0
    for batch in prefetch(tiles.iter_batches(batch_size)):
        images, enough = network.images(batch.data, batch.valid)
        if enough.any():
            found = _measured(network, images[torch.from_numpy(enough)], share=network.share(batch.data))
            arrays = arrays or [np.full((len(tiles), part.shape[1]), np.nan, np.float32) for part in found]
            for array, part in zip(arrays, found, strict=True):
                array[batch.positions[enough]] = part
        done += len(batch.positions)
        if progress is not None:
            progress(done, len(tiles))
    if not arrays:
        raise FeatureError(f"none of the {len(tiles)} tiles has enough valid pixels; do the scenes cover them?")
    return Activations(arrays[0], arrays[1], arrays[2] if network.head is not None else None)


def _measured(network: WatchedNetwork, images: torch.Tensor, *, share: float) -> list[Floats]:
    maps, outputs = network.look(images, share=share)
    rows, columns = (_middle(int(n), share) for n in maps.shape[2:])
    inner = maps[:, :, rows, columns]
    found = [inner.amax((2, 3)), inner.mean((2, 3))]
    if outputs is not None:
        found.append(outputs)
    return [np.asarray(part.numpy(), dtype=np.float32) for part in found]


def _middle(n: int, share: float) -> slice:
    """Of ``n`` cells those whose centre lies in the middle ``share`` of them; the middle one or two at least."""
    left = min(round(n * (1 - share) / 2), (n - 1) // 2)
    return slice(left, n - left)


def strongest(
    values: npt.NDArray[np.floating[Any]],
    n: int,
    *,
    ties: npt.NDArray[np.floating[Any]] | None = None,
    places: npt.NDArray[np.float64] | None = None,
    apart_m: float = 0.0,
) -> list[int]:
    """Positions of the ``n`` greatest values, the greatest first.

    Parameters
    ----------
    values : float array (tile,)
        NaN is none.
    n : int
        How many; fewer where there are fewer.
    ties : float array (tile,), optional
        Decides between equal values, as where responses are capped; what is equal in both goes by position.
    places : float array (tile, 2), optional
        Longitude and latitude of the tiles' centres.
    apart_m : float
        Leave out a tile whose centre is less than this from that of a stronger one, in longitude and in latitude: a
        square tile of that side overlaps it, and would show the same ground again.
    """
    order = np.lexsort((-(values if ties is None else ties), -values))
    chosen: list[int] = []
    for position in order[np.isfinite(values[order])]:
        if len(chosen) == n:
            break
        if places is None or not _overlaps(places[position], places[chosen], apart_m):
            chosen.append(int(position))
    return chosen


def _overlaps(place: npt.NDArray[np.float64], others: npt.NDArray[np.float64], apart_m: float) -> bool:
    east = (others[:, 0] - place[0] + 180) % 360 - 180
    steps = np.stack([east * np.cos(np.radians(place[1])), others[:, 1] - place[1]])
    return bool((np.abs(steps) * _M_PER_DEGREE < apart_m).all(axis=0).any())


def choose_filters(mean: Floats, n: int, *, weights: Floats | None = None) -> list[int]:
    """Filters worth looking at.

    Without a head they stand for the main ways in which tiles differ: one for each end of each leading principal
    component of the standardised responses, the filter that goes with it most closely. With a head they are those that
    speak most for each of its outputs in turn: weight times standard deviation over the tiles.

    Parameters
    ----------
    mean : float32 array (tile, filter)
        Mean responses.
    n : int
        How many; fewer where fewer respond.
    weights : float32 array (logit, filter), optional
        Of the head.
    """
    responses = mean[np.isfinite(mean).all(axis=1)].astype(np.float64)
    spread = responses.std(axis=0)
    alive = np.flatnonzero(spread > 1e-6 * np.max(spread))
    if weights is not None:
        rankings = weights[:, alive] * spread[alive]
    else:
        standard = (responses[:, alive] - responses[:, alive].mean(axis=0)) / spread[alive]
        rankings = _components(standard, n_components=-(-n // 2))
    chosen: list[int] = []
    for turn in range(n):
        # Every turn takes, for the next of the rankings, the best filter that is not taken yet.
        left = [i for i in np.argsort(-rankings[turn % len(rankings)], kind="stable") if int(alive[i]) not in chosen]
        if left:
            chosen.append(int(alive[left[0]]))
    return chosen


def _components(standard: npt.NDArray[np.float64], *, n_components: int) -> npt.NDArray[np.float64]:
    """Correlation of each filter with both ends of each leading component, (2 x component, filter)."""
    n = standard.shape[1]
    first = max(n - n_components, 0)
    _, vectors = scipy.linalg.eigh(standard.T @ standard / len(standard), subset_by_index=(first, n - 1))
    leading = vectors.T[::-1]
    # An eigenvector has no sign of its own.
    greatest = leading[np.arange(len(leading)), np.abs(leading).argmax(axis=1)]
    leading = leading * np.sign(greatest)[:, None]
    return np.stack([leading, -leading], axis=1).reshape(-1, n)


def check_filters(filters: Sequence[int], n_filters: int) -> list[int]:
    """Raise unless ``filters`` are different numbers of filters, counted from 0 as features are named."""
    wrong = [f for f in filters if isinstance(f, bool) or not isinstance(f, int) or not 0 <= f < n_filters]
    if wrong or not filters or len(set(filters)) != len(filters):
        raise FeatureError(
            f"filters is {some(filters, 12) or 'empty'}; expected different numbers from 0 to {n_filters - 1}."
        )
    return list(filters)
