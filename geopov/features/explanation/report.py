"""From a network and tiles to picture sheets and the tables behind them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from geopov._validation import ID_COLUMN, atomic_path
from geopov.errors import FeatureError
from geopov.features._input import Band, centre, shown_bands
from geopov.features.explanation.sheet import Floats, Panel, Row, draw_sheet, pictures
from geopov.features.extract import Tiles
from geopov.features.extractor import Extractor

if TYPE_CHECKING:
    import torch

    from geopov.features.explanation.activations import Activations
    from geopov.features.explanation.grad_cam import Target
    from geopov.features.explanation.watch import WatchedNetwork

__all__ = ["ReadableTiles", "explain"]

ProgressCallback = Callable[[int, int], None]
Picked = Callable[..., list[int]]
"""From the scores of all tiles to the positions of those to show."""


class _Batch(Protocol):
    @property
    def data(self) -> npt.NDArray[Any]: ...

    @property
    def valid(self) -> npt.NDArray[np.bool_]: ...


class ReadableTiles(Tiles, Protocol):
    """Tiles some of which can be read by their position; :class:`geopov.tiles.TileSet` can."""

    def read(self, positions: Sequence[int]) -> _Batch:
        """Tiles at some rows of the index, in the order given."""
        ...


@dataclass(frozen=True)
class _Shown:
    """What a row of a sheet is about: a title, its tiles and their scores, and the network's map of each."""

    key: dict[str, Any]
    title: str
    positions: list[int]
    scores: list[float]
    maps: Callable[[torch.Tensor, float], torch.Tensor]
    """From images and the tile's share of their side to maps (tile, y', x')."""
    own_scale: bool
    """Whether each map is scaled to its own greatest value, or all to that of the row."""


def explain(
    extractor: Extractor,
    tiles: ReadableTiles,
    *,
    folder: str | Path,
    filters: Sequence[int] | None = None,
    n_filters: int = 8,
    n_tiles: int = 8,
    layer: str | None = None,
    show: Sequence[Band] | None = None,
    values: pd.Series | None = None,
    batch_size: int = 64,
    progress: ProgressCallback | None = None,
) -> list[Path]:
    """Draw the tiles that move a network most, and where in them it looks.

    Parameters
    ----------
    extractor : NetworkExtractor
        From :func:`geopov.features.build`.
    tiles : TileSet
        To choose from.
    folder : path
        Gets ``filters.png`` and ``filters.csv``: for each filter the tiles with its strongest responses, with its map
        laid over them. For a network that was trained here also ``classes.png`` and ``classes.csv``: for each class the
        tiles that are most surely of it, with their Grad-CAM.
    filters : sequence of int, optional
        Filters to show, counted from 0. Default: ``n_filters`` of them, chosen by
        :func:`geopov.features.explanation.activations.choose_filters`.
    n_filters, n_tiles : int
        Rows of the sheet of filters, and tiles a row.
    layer : str, optional
        Whose filters and maps to show; see :class:`geopov.features.explanation.watch.WatchedNetwork`.
    show : sequence of str or int, optional
        Bands to draw as red, green and blue; see :func:`geopov.features._input.shown_bands`.
    values : Series, optional
        A number for each cluster to write below its tiles, such as its nightlights, by ``cluster_id``; its name is
        written with it.
    batch_size : int
        Tiles read at once.
    progress : callable, optional
        Called with (tiles done, tiles in all).

    Returns
    -------
    list of Path
        The files.

    Raises
    ------
    FeatureError
        If the extractor is no network, the tiles do not fit it, or a filter or layer is not there.
    MissingDependencyError
        Without captum, for a network that was trained here.
    """
    from geopov.features.explanation.activations import check_filters, choose_filters, measure, strongest
    from geopov.features.explanation.watch import FINAL, WatchedNetwork

    _check_counts(n_filters=n_filters, n_tiles=n_tiles)
    values = _check_values(values)
    bands = shown_bands(show, tiles.band_names)
    network = WatchedNetwork(extractor, band_names=tiles.band_names, layer=layer)
    found = measure(network, tiles, batch_size=batch_size, progress=progress)
    # Only the final map's filters are what the head weighs.
    parts = network.extractor.trained if network.layer == FINAL else None
    speaks = None if parts is None else parts.head.weight.numpy()
    if filters is None:
        chosen = choose_filters(found.mean, n_filters, weights=speaks)
    else:
        chosen = check_filters(filters, found.peak.shape[1])
    picked = partial(strongest, n=n_tiles, places=_places(tiles), apart_m=_side_m(tiles))
    writer = _Writer(network, tiles, bands, values)
    name = extractor.name if network.extractor.trained is None else network.extractor.trained.card.backbone
    place = "the final map" if network.layer == FINAL else f"layer {network.layer}"
    files = writer.write(
        [_filter(network, found, number, picked, speaks) for number in chosen],
        Path(folder) / "filters",
        title=f"What moves the filters of {name}",
        note=f"Tiles with the strongest responses of filters of {place}, the strongest first; below each its map, "
        "scaled to the greatest value of its row.",
    )
    if found.outputs is None:
        return files
    return files + writer.write(
        _classes(network, found.outputs, picked),
        Path(folder) / "classes",
        title=f"What {name} takes for each class",
        note="Tiles that are most surely of each class, the surest first; below each what speaks for it in "
        f"{place} (Grad-CAM), scaled to its own greatest value.",
    )


def _places(tiles: ReadableTiles) -> npt.NDArray[np.float64]:
    centres = tiles.index.geometry.representative_point()
    return np.column_stack([centres.x, centres.y])


def _side_m(tiles: ReadableTiles) -> float:
    spec = tiles.spec.to_dict()
    return float(spec["size_px"] * spec["resolution_m"])


def _filter(network: WatchedNetwork, found: Activations, number: int, picked: Picked, speaks: Floats | None) -> _Shown:
    from geopov.features.explanation.grad_cam import logit_names

    positions = picked(found.peak[:, number], ties=found.mean[:, number])
    title = f"filter {number}"
    if speaks is not None and network.extractor.trained is not None:
        card = network.extractor.trained.card
        title += f"\nspeaks for {logit_names(card)[int(speaks[:, number].argmax())]}"
    return _Shown(
        {"filter": number},
        title,
        positions,
        found.peak[positions, number].tolist(),
        lambda images, _: network.maps(images)[:, number].clamp(min=0),
        own_scale=False,
    )


def _classes(network: WatchedNetwork, outputs: Floats, picked: Picked) -> list[_Shown]:
    from geopov.features.explanation.grad_cam import grad_cam, targets_of

    def cam_of(target: Target) -> Callable[[torch.Tensor, float], torch.Tensor]:
        return lambda images, share: grad_cam(network, images, target, share=share)

    assert network.extractor.trained is not None
    shown = []
    for target in targets_of(network.extractor.trained.card, outputs):
        positions = picked(target.score)
        key = {"class": target.title, "score": target.kind}
        shown.append(_Shown(key, target.title, positions, target.score[positions].tolist(), cam_of(target), True))
    return shown


@dataclass(frozen=True)
class _Writer:
    network: WatchedNetwork
    tiles: ReadableTiles
    bands: list[int]
    values: pd.Series | None

    def write(self, shown: Sequence[_Shown], stem: Path, *, title: str, note: str) -> list[Path]:
        """The sheet and its table, beside each other."""
        positions = list(dict.fromkeys(position for row in shown for position in row.positions))
        batch = self.tiles.read(positions)
        size_px = batch.data.shape[3] - 2 * self.network.extractor.context_px
        # Of all rows at once, so that a tile looks the same wherever it stands.
        drawn = pictures(centre(batch.data, size_px), centre(batch.valid, size_px), self.bands)
        place = {position: number for number, position in enumerate(positions)}
        rows = []
        for row in shown:
            numbers = [place[position] for position in row.positions]
            heat = self._heat(row, batch.data[numbers], batch.valid[numbers], size_px)
            captions = [self._caption(*pair) for pair in zip(row.positions, row.scores, strict=True)]
            rows.append(
                Row(row.title, [Panel(drawn[n], h, c) for n, h, c in zip(numbers, heat, captions, strict=True)])
            )
        table = pd.concat([self._table(row) for row in shown], ignore_index=True)
        with atomic_path(stem.with_suffix(".csv")) as unfinished:
            table.to_csv(unfinished, index=False, float_format="%.6g", lineterminator="\n")
        names = [self.tiles.band_names[band] or f"band {band + 1}" for band in self.bands]
        note += (
            f" Shown: {', '.join(names)}, stretched from the 2nd to the 98th percentile of all tiles on the sheet; "
            "light grey is no data."
        )
        return [draw_sheet(rows, stem.with_suffix(".png"), title=title, note=note), stem.with_suffix(".csv")]

    def _heat(self, row: _Shown, data: npt.NDArray[Any], valid: npt.NDArray[np.bool_], size_px: int) -> Floats:
        """Maps (tile, y, x) laid over the tiles, from 0 to 1."""
        from torch.nn import functional

        images, _ = self.network.images(data, valid)
        maps = row.maps(images, self.network.share(data))[:, None]
        spread = functional.interpolate(maps, size=data.shape[2:], mode="bilinear", align_corners=False)[:, 0]
        heat = centre(spread.numpy(), size_px)
        greatest = heat.max(axis=(1, 2) if row.own_scale else None, keepdims=True)
        return np.asarray(np.divide(heat, greatest, out=np.zeros_like(heat), where=greatest > 0), dtype=np.float32)

    def _table(self, row: _Shown) -> pd.DataFrame:
        index = self.tiles.index.iloc[row.positions]
        places = _places(self.tiles)[row.positions]
        table = pd.DataFrame(row.key, index=range(len(index)))
        table["rank"] = range(1, len(index) + 1)
        table["position"] = row.positions
        table["tile_id"], table[ID_COLUMN] = index["tile_id"].to_numpy(), index[ID_COLUMN].to_numpy()
        table["lon"], table["lat"] = places[:, 0], places[:, 1]
        table["value" if "score" in row.key else "response"] = row.scores
        if self.values is not None:
            table[self._label] = index[ID_COLUMN].astype(str).map(self.values).to_numpy()
        return table

    @property
    def _label(self) -> str:
        return str(self.values.name) if self.values is not None and self.values.name else "label"

    def _caption(self, position: int, score: float) -> str:
        tile = self.tiles.index.iloc[position]
        point = tile.geometry.representative_point()
        lines = [f"{score:.3g}   {str(tile[ID_COLUMN])[:18]}", f"{point.y:.3f}, {point.x:.3f}"]
        if self.values is not None:
            value = self.values.get(str(tile[ID_COLUMN]))
            lines.append(f"{self._label} {value:.3g}" if isinstance(value, float | int) else f"{self._label} {value}")
        return "\n".join(lines)


def _check_counts(**counts: int) -> None:
    for name, count in counts.items():
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise FeatureError(f"{name} is {count!r}; expected a whole number above zero.")


def _check_values(values: pd.Series | None) -> pd.Series | None:
    if values is None:
        return None
    if not isinstance(values, pd.Series) or not values.index.is_unique:
        raise FeatureError("values is no Series by cluster_id in which each stands once; expected one.")
    return values.set_axis(values.index.astype(str))
