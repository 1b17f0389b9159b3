"""How much of each cell a polygon covers, exactly: from its edges alone, for thousands of polygons at once.

An edge covers, in the row it passes, all that lies to its right; with rings that close, what is outside cancels.
Cutting the edges at the grid lines and adding up the signed areas therefore gives each cell's covered share in double
precision, without a single polygon clipped. It is how fonts are drawn smoothly (the signed area accumulation of LibArt
and FreeType's smooth rasteriser), here on sparse rows.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.sparse
import shapely

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

# Edges taken at once; about 300 bytes each while they are cut, so half a gigabyte at most.
_EDGES_AT_ONCE = 1_000_000


def polygon_coverage(polygons: npt.NDArray[np.object_], *, height: int, width: int) -> scipy.sparse.csr_matrix:
    """The share of each cell that each polygon covers.

    Parameters
    ----------
    polygons : array (n,) of Polygon or MultiPolygon
        Valid, in cells: x the column and y the row, from the upper left corner of the grid, y downwards. What lies
        outside the grid is left out.
    height, width : int
        Rows and columns of the grid.

    Returns
    -------
    csr_matrix (n, height x width)
        Cells in the order of their rows; shares above 0 and up to 1, exact to about 1e-12.
    """
    parts, owner = shapely.get_parts(polygons, return_index=True)
    rings, part = shapely.get_rings(parts, return_index=True)
    xy, ring = shapely.get_coordinates(rings, return_index=True)
    same = ring[1:] == ring[:-1]
    starts, ends, ring = xy[:-1][same], xy[1:][same], ring[:-1][same]
    cross = starts[:, 0] * ends[:, 1] - ends[:, 0] * starts[:, 1]
    area = np.bincount(ring, weights=cross, minlength=len(rings))
    # The first ring of a polygon is its outside, whichever way it turns; all others are holes.
    is_hole = np.ones(len(rings), dtype=bool)
    is_hole[np.unique(part, return_index=True)[1]] = False
    turn = np.where(is_hole, -1.0, 1.0) * np.where(area > 0, -1.0, 1.0)
    return _in_batches(starts, ends, turn[ring], owner[part[ring]], len(polygons), height, width)


def quad_coverage(corners: Floats, *, height: int, width: int) -> scipy.sparse.csr_matrix:
    """The share of each cell that each quadrilateral covers.

    Parameters
    ----------
    corners : array (n, 4, 2)
        In cells as in :func:`polygon_coverage`, in the order of a walk around each.
    height, width : int
        Rows and columns of the grid.

    Returns
    -------
    csr_matrix (n, height x width)
        As of :func:`polygon_coverage`.
    """
    cell = np.floor(corners.min(axis=1)).astype(np.int64)
    # Small pixels mostly lie in one cell each, and need no cutting.
    within = (
        (corners.max(axis=1) <= cell + 1).all(axis=1) & (cell >= 0).all(axis=1) & (cell < [width, height]).all(axis=1)
    )
    area = quad_area(corners)
    single = scipy.sparse.csr_matrix(
        (area[within], (np.flatnonzero(within), cell[within, 1] * width + cell[within, 0])),
        shape=(len(corners), height * width),
    )
    cut = np.flatnonzero(~within)
    starts = corners[cut]
    ends = np.roll(starts, -1, axis=1)
    cross = starts[..., 0] * ends[..., 1] - ends[..., 0] * starts[..., 1]
    turn = np.repeat(np.where(cross.sum(axis=1) > 0, -1.0, 1.0), 4)
    owner = np.repeat(np.arange(len(cut)), 4)
    rest = _in_batches(starts.reshape(-1, 2), ends.reshape(-1, 2), turn, owner, len(cut), height, width).tocoo()
    return single + scipy.sparse.csr_matrix((rest.data, (cut[rest.row], rest.col)), shape=single.shape)


def quad_area(corners: Floats) -> Floats:
    """Area (n,) of each quadrilateral (n, 4, 2), in cells."""
    one, other = corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1]
    return np.asarray(np.abs(one[:, 0] * other[:, 1] - one[:, 1] * other[:, 0]) / 2)


def _in_batches(
    starts: Floats, ends: Floats, turn: Floats, owner: Ints, n: int, height: int, width: int
) -> scipy.sparse.csr_matrix:
    """Coverage by edges whose owners ascend, so many owners at a time that memory stays bounded."""
    batches, first = [], 0
    while first < n:
        edge = int(np.searchsorted(owner, first))
        last = n if edge + _EDGES_AT_ONCE >= len(owner) else max(int(owner[edge + _EDGES_AT_ONCE]), first + 1)
        of = slice(edge, int(np.searchsorted(owner, last)))
        pieces = _cut(starts[of], ends[of], turn[of], owner[of] - first, height, width)
        batches.append(_fill(*pieces, last - first, height, width))
        first = last
    if not batches:
        return scipy.sparse.csr_matrix((0, height * width))
    return scipy.sparse.vstack(batches, format="csr")


def _cut(
    starts: Floats, ends: Floats, turn: Floats, owner: Ints, height: int, width: int
) -> tuple[Ints, Ints, Ints, Floats, Floats]:
    """Cut edges at the grid lines: owner, row, column of each piece, its height, and its area in its own cell."""
    tall = (starts[:, 1] != ends[:, 1]) & (np.maximum(starts[:, 1], ends[:, 1]) > 0)
    tall &= np.minimum(starts[:, 1], ends[:, 1]) < height
    starts, ends, turn, owner = starts[tall], ends[tall], turn[tall], owner[tall]
    edges, at = [np.arange(len(starts))], [np.zeros(len(starts))]
    for axis, lines in ((0, width), (1, height)):
        edge, position = _crossings(starts[:, axis], ends[:, axis], lines)
        edges.append(edge)
        at.append(position)
    edge, begin = np.concatenate(edges), np.concatenate(at)
    order = np.lexsort((begin, edge))
    edge, begin = edge[order], begin[order]
    end = np.append(begin[1:], 1.0)
    end[np.append(edge[1:] != edge[:-1], True)] = 1.0
    step = ends[edge] - starts[edge]
    x = starts[edge, 0] + step[:, 0] * (begin + end) / 2
    row = np.floor(starts[edge, 1] + step[:, 1] * (begin + end) / 2).astype(np.int64)
    tallness = step[:, 1] * (end - begin) * turn[edge]
    kept = (row >= 0) & (row < height) & (tallness != 0)
    # West of the grid an edge covers whole rows of it; east of it none, but it closes the ring in a column of its own.
    x = np.clip(x[kept], 0, width)
    column = np.minimum(np.floor(x).astype(np.int64), width)
    return owner[edge[kept]], row[kept], column, tallness[kept], tallness[kept] * (column + 1 - x)


def _crossings(start: Floats, end: Floats, lines: int) -> tuple[Ints, Floats]:
    """Edge and position along it (0 to 1) of every crossing with the grid lines 0 to ``lines``."""
    low, high = np.minimum(start, end), np.maximum(start, end)
    first = np.clip(np.floor(low) + 1, 0, lines + 1).astype(np.int64)
    last = np.clip(np.ceil(high) - 1, -1, lines).astype(np.int64)
    count = np.maximum(last - first + 1, 0)
    edge = np.repeat(np.arange(len(start)), count)
    line = np.repeat(first - np.cumsum(count) + count, count) + np.arange(count.sum())
    return edge, (line - start[edge]) / (end[edge] - start[edge])


def _fill(
    owner: Ints, row: Ints, column: Ints, tallness: Floats, own: Floats, n: int, height: int, width: int
) -> scipy.sparse.csr_matrix:
    """Add the pieces up by cell, and fill each row between the cells that edges pass."""
    key = (owner * height + row) * (width + 1) + column
    order = np.argsort(key, kind="stable")
    key = key[order]
    first = np.flatnonzero(np.append(True, key[1:] != key[:-1])) if len(key) else np.empty(0, dtype=np.int64)
    if len(first) == 0:
        return scipy.sparse.csr_matrix((n, height * width))
    key = key[first]
    own, cover = np.add.reduceat(own[order], first), np.add.reduceat(tallness[order], first)
    line, column = np.divmod(key, width + 1)
    # Rows close, so that the running sum over everything starts each of them at zero.
    passed = np.cumsum(cover)
    share = passed - cover + own
    gap = np.append(np.where(line[1:] == line[:-1], column[1:] - column[:-1] - 1, 0), 0)
    # A cell that no edge rises through is inside or outside, or split by level edges, which pass on what is above them.
    gap = np.where(passed > 1e-12, gap, 0)
    full = np.repeat(key + 1 - np.cumsum(gap) + gap, gap) + np.arange(gap.sum())
    key, share = np.concatenate([key, full]), np.concatenate([share, np.repeat(passed, gap)])
    line, column = np.divmod(key, width + 1)
    kept = (column < width) & (share > 1e-12)
    line, column, share = line[kept], column[kept], np.minimum(share[kept], 1.0)
    cells = (line % height) * width + column
    return scipy.sparse.csr_matrix((share, (line // height, cells)), shape=(n, height * width))
