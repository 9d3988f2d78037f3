"""Place the nodes of an acyclic graph: layers top to bottom, few crossings, straight lanes.

Sugiyama, Tagawa and Toda, *Methods for visual understanding of hierarchical system structures* (1981): layers by
longest path, order by barycentre, positions by isotonic regression (pool adjacent violators). Unlike there, a value
with many readers has one lane with many exits, so that the concats of a DenseNet are legible.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

LANE = 4.0  # width that a passing lane takes
BESIDE, BETWEEN_LANES, BELOW, MARGIN = 22.0, 8.0, 30.0, 24.0
STRAIGHT = 8.0  # how much more a lane resists a bend than a node resists a shift
ORDER_SWEEPS, PLACE_SWEEPS = 6, 10

Pool = tuple[float, float, int]  # mean, weight, members


@dataclass(frozen=True)
class Place:
    """A rectangle; `x` is its centre, `y` its top."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Piece:
    """Segment of a lane between layers: down to `bend`, over to `x1` by `unbend`, down."""

    x0: float
    y0: float
    bend: float
    unbend: float
    x1: float
    y1: float


@dataclass(frozen=True)
class Layout:
    """Positions of all nodes and lanes, and the picture's size."""

    places: tuple[Place, ...]  # by node
    lanes: tuple[tuple[Piece, ...], ...]  # by node: path of its value to its readers
    width: float
    height: float


@dataclass
class _Cells:
    """Nodes, followed by one cell per layer that a lane passes."""

    layer: list[int]
    width: list[float]
    owner: list[int]  # the node itself, or whose lane it is
    ups: list[list[int]] = field(default_factory=list)
    downs: list[list[int]] = field(default_factory=list)

    def add(self, layer: int, owner: int) -> int:
        self.layer.append(layer)
        self.width.append(LANE)
        self.owner.append(owner)
        self.ups.append([])
        self.downs.append([])
        return len(self.layer) - 1

    def join(self, upper: int, lower: int) -> None:
        self.ups[lower].append(upper)
        self.downs[upper].append(lower)


def arrange(sizes: Sequence[tuple[float, float]], edges: Iterable[tuple[int, int]]) -> Layout:
    """Place nodes of `sizes` (width, height), joined by `edges` (from, to) with from < to."""
    readers: list[list[int]] = [[] for _ in sizes]
    for source, reader in sorted(set(edges)):
        readers[source].append(reader)
    cells = _cells([width for width, _ in sizes], layers(len(sizes), readers), readers)
    rows = _ordered(cells)
    centres = _centred(cells, rows)
    return _drawn(cells, rows, centres, [height for _, height in sizes])


def layers(count: int, readers: Sequence[Sequence[int]]) -> list[int]:
    """Return the layer of each node: the longest path from a source."""
    found = [0] * count
    for node in range(count):
        for reader in readers[node]:
            found[reader] = max(found[reader], found[node] + 1)
    return found


def _cells(widths: list[float], layer: list[int], readers: list[list[int]]) -> _Cells:
    count = len(widths)
    cells = _Cells(layer, widths, list(range(count)), [[] for _ in range(count)], [[] for _ in range(count)])
    for node in range(count):
        _lay_lane(cells, node, readers[node])
    return cells


def _lay_lane(cells: _Cells, node: int, readers: list[int]) -> None:
    """Add one cell per layer from the node to the layer above its farthest reader."""
    first = cells.layer[node]
    lane = [node]
    for layer in range(first + 1, max((cells.layer[reader] for reader in readers), default=0)):
        lane.append(cells.add(layer, node))
        cells.join(lane[-2], lane[-1])
    for reader in readers:
        cells.join(lane[cells.layer[reader] - 1 - first], reader)


def _ordered(cells: _Cells) -> list[list[int]]:
    """Return the cells of each layer from left to right, by repeated barycentres."""
    rows: list[list[int]] = [[] for _ in range(max(cells.layer, default=-1) + 1)]
    for cell in sorted(range(len(cells.layer)), key=lambda cell: (cells.owner[cell], cell)):
        rows[cells.layer[cell]].append(cell)
    at = [0.0] * len(cells.layer)
    for row in rows:
        _number(row, at)
    for sweep in range(ORDER_SWEEPS):
        downwards = sweep % 2 == 0
        beside = cells.ups if downwards else cells.downs
        for row in rows if downwards else reversed(rows):
            row.sort(key=lambda cell: _mean([at[other] for other in beside[cell]], at[cell]))
            _number(row, at)
    return rows


def _number(row: list[int], at: list[float]) -> None:
    """Set positions from 0 to 1, comparable between layers of different length."""
    for place, cell in enumerate(row):
        at[cell] = (place + 0.5) / len(row)


def _mean(values: list[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def _centred(cells: _Cells, rows: list[list[int]]) -> list[float]:
    """Return the x of each cell: near its neighbours, in order, without overlap.

    Downward sweeps drift to one side, upward sweeps to the other: the mean is upright.
    """
    offsets = [_offsets(cells, row) for row in rows]
    start = [0.0] * len(cells.layer)
    for row, offset in zip(rows, offsets, strict=True):
        for cell, shift in zip(row, offset, strict=True):
            start[cell] = shift - offset[-1] / 2
    falling = _swept(cells, rows, offsets, start, cells.ups)
    rising = _swept(cells, rows[::-1], offsets[::-1], start, cells.downs)
    at = [(one + other) / 2 for one, other in zip(falling, rising, strict=True)]
    both = [above + below for above, below in zip(cells.ups, cells.downs, strict=True)]
    for sweep in range(PLACE_SWEEPS):
        step = 1 if sweep % 2 == 0 else -1
        at = _swept(cells, rows[::step], offsets[::step], at, both)
    return at


def _swept(
    cells: _Cells, rows: list[list[int]], offsets: list[list[float]], start: list[float], near: list[list[int]]
) -> list[float]:
    """Return x after one sweep towards the `near` cells, layer by layer."""
    at = list(start)
    for row, offset in zip(rows, offsets, strict=True):
        wishes = [_wish(cells, cell, at, near[cell]) for cell in row]
        for cell, x in zip(row, _apart(wishes, offset), strict=True):
            at[cell] = x
    return at


def _offsets(cells: _Cells, row: list[int]) -> list[float]:
    """Return the offset of each cell from the first, if packed."""
    found = [0.0]
    for left, right in itertools.pairwise(row):
        lanes = all(_is_lane(cells, cell) for cell in (left, right))
        gap = BETWEEN_LANES if lanes else BESIDE
        found.append(found[-1] + (cells.width[left] + cells.width[right]) / 2 + gap)
    return found


def _is_lane(cells: _Cells, cell: int) -> bool:
    return cells.owner[cell] != cell


def _wish(cells: _Cells, cell: int, at: list[float], near: list[int]) -> tuple[float, float]:
    """Return the preferred x of a cell and the weight of that preference."""
    if not near:
        return at[cell], 0.1
    lane = _is_lane(cells, cell)
    weights = [STRAIGHT if lane and _is_lane(cells, other) else 1.0 for other in near]
    total = sum(weights)
    return sum(at[other] * weight for other, weight in zip(near, weights, strict=True)) / total, total


def _apart(wishes: list[tuple[float, float]], offsets: list[float]) -> list[float]:
    """Return the positions nearest to the wishes (weighted squares), in order and apart."""
    pools: list[Pool] = []
    for (wish, weight), offset in zip(wishes, offsets, strict=True):
        pools.append((wish - offset, weight, 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:  # ends: each round one pool fewer
            pools.append(_pooled(pools.pop(), pools.pop()))
    means = [mean for mean, _, members in pools for _ in range(members)]
    return [mean + offset for mean, offset in zip(means, offsets, strict=True)]


def _pooled(one: Pool, other: Pool) -> Pool:
    weight = one[1] + other[1]
    return (one[0] * one[1] + other[0] * other[1]) / weight, weight, one[2] + other[2]


def _drawn(cells: _Cells, rows: list[list[int]], centres: list[float], heights: list[float]) -> Layout:
    count = len(heights)
    left = min((centres[cell] - cells.width[cell] / 2 for cell in range(len(centres))), default=0.0) - MARGIN
    xs = [round(centre - left, 1) for centre in centres]
    tops, bottoms = _bands(rows, heights)
    places = []
    for node in range(count):
        places.append(Place(xs[node], tops[cells.layer[node]], cells.width[node], heights[node]))

    def piece(upper: int, lower: int) -> Piece:
        above, below = cells.layer[upper], cells.layer[lower]
        start = places[upper].y + heights[upper] if upper < count else tops[above]
        end = places[lower].y if lower < count else tops[below]
        return Piece(xs[upper], start, bottoms[above], tops[below], xs[lower], end)

    lanes: list[list[Piece]] = [[] for _ in range(count)]
    for upper, lowers in enumerate(cells.downs):
        lanes[cells.owner[upper]] += [piece(upper, lower) for lower in lowers]
    width = max((x + cells.width[cell] / 2 for cell, x in enumerate(xs)), default=0.0) + MARGIN
    return Layout(tuple(places), tuple(map(tuple, lanes)), width, (bottoms[-1] if bottoms else 0.0) + MARGIN)


def _bands(rows: list[list[int]], heights: list[float]) -> tuple[list[float], list[float]]:
    """Return top and bottom of each layer."""
    tops, bottoms, y = [], [], MARGIN
    for row in rows:
        tops.append(y)
        y += max((heights[cell] for cell in row if cell < len(heights)), default=0.0)
        bottoms.append(y)
        y += BELOW
    return tops, bottoms
