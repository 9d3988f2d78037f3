"""A cost that is a sum of terms, each bilinear in how many coordinates of the spaces stay: MACs, parameters, bytes.

    term = scale · a · b,      a, b = fixed + sum_s n_s · rows of space s        with keep counts n

A layer that may be factored has a rank space of its own. While all of that stays the layer is one, else it is parts:

    term = rank · (first · b + middle · rank + second · a)

A term in a residual branch that may go counts while the one coordinate of the branch stays.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]  # coordinates kept of each prunable space
Array = npt.NDArray[np.float64]
Numbers = Array | Counts | float


class Cost(Protocol):
    """What an allocator may ask of a cost. `counts` are coordinates kept of each prunable space."""

    @property
    def sizes(self) -> Counts:
        """The counts of the dense network."""

    def total(self, counts: Counts | None = None) -> int:
        """The cost with these counts; of the dense network without."""

    def along(self, counts: Counts, space: int) -> Array:
        """The cost with 0, 1, … size coordinates of one space kept, the others as in `counts`."""

    def touched_along(self, counts: Counts, space: int) -> Array:
        """The same up to a constant."""

    def whole(self, counts: Counts) -> Counts:
        """The counts with all of each rank that saves nothing."""


@dataclass(frozen=True)
class Terms:
    """A cost as a function of how many coordinates of each prunable space stay: a `Cost`."""

    scale: Array  # [terms]: cost of each pair of an entry of a and one of b
    fixed_a: Array  # [terms]: entries that belong to no prunable space
    fixed_b: Array
    a_rows: Array  # [terms, spaces]: entries a coordinate
    b_rows: Array
    sizes: Counts  # [spaces]
    rank: npt.NDArray[np.int64]  # [terms]: the space of its rank; -1 where it is not factored
    first: Array  # [terms]: cost of each pair of an entry of b and a rank
    middle: Array  # [terms]: of a rank and a rank
    second: Array  # [terms]: of an entry of a and a rank
    gate: npt.NDArray[np.int64]  # [terms]: the space of the branch that it belongs to; -1 where it is in none
    settled: bool = False  # whether a layer counts as one where its parts cost more

    def total(self, counts: Counts | None = None) -> int:
        """The cost with `counts` coordinates kept; of the dense network without."""
        return round(float(self.by_product(self.sizes if counts is None else counts).sum()))

    def by_product(self, counts: Counts) -> Array:
        """The cost of each term."""
        every = np.ones(len(self.scale), dtype=bool)
        out, into = self.fixed_a + self.a_rows @ counts, self.fixed_b + self.b_rows @ counts
        stays = np.append(counts, 1)[self.gate]
        return stays * self._cost(every, out[:, None], into[:, None], np.append(counts, 0)[self.rank, None])[:, 0]

    def along(self, counts: Counts, space: int) -> Array:
        """The cost of the network with 0, 1, … size coordinates of one space kept, the others as in `counts`."""
        rest = self.by_product(counts)[~self._touched(space)].sum()
        curve: Array = rest + self.touched_along(counts, space)
        return curve

    def touched_along(self, counts: Counts, space: int) -> Array:
        """The same of the terms alone that the space has a part in."""
        others = counts.copy()
        others[space] = 0
        steps = np.arange(self.sizes[space] + 1)
        rows = self._touched(space)
        out = (self.fixed_a + self.a_rows @ others)[rows, None] + self.a_rows[rows, space, None] * steps
        into = (self.fixed_b + self.b_rows @ others)[rows, None] + self.b_rows[rows, space, None] * steps
        rank = np.where(self.rank[rows, None] == space, steps, np.append(others, 0)[self.rank[rows], None])
        stays = np.where(self.gate[rows, None] == space, steps, np.append(others, 1)[self.gate[rows], None])
        curve: Array = (stays * self._cost(rows, out, into, rank)).sum(0)
        return curve

    def _touched(self, space: int) -> npt.NDArray[np.bool_]:
        sides = (self.a_rows[:, space] != 0) | (self.b_rows[:, space] != 0)
        rows: npt.NDArray[np.bool_] = sides | (self.rank == space) | (self.gate == space)
        return rows

    def whole(self, counts: Counts) -> Counts:
        """The counts with all of each rank that saves nothing: there the layer stays one."""
        return settled(self, counts, np.unique(self.rank[self.rank >= 0]).tolist())

    def _cost(self, rows: npt.NDArray[np.bool_], out: Array, into: Array, rank: Array | Counts) -> Array:
        """The cost of some terms with so many entries of a and of b, and so high a rank."""
        whole: Array = self.scale[rows, None] * out * into
        factored = self.rank[rows] >= 0
        if not factored.any():
            return whole
        size = np.append(self.sizes, 0)[self.rank[rows], None]
        prices = self.first[rows, None], self.middle[rows, None], self.second[rows, None]
        parts = parts_cost(*prices, out, into, rank)
        parts = np.minimum(parts, whole) if self.settled else parts
        found: Array = np.where(factored[:, None] & (rank < size), parts, whole)
        return found

    def scaled(self, factors: Array) -> Terms:
        """Each term times a factor of its own, [terms]; those of factor 0 are left out."""
        kept = factors != 0
        arrays = {one.name: getattr(self, one.name) for one in fields(self) if one.name not in ("sizes", "settled")}
        found: dict[str, Any] = {name: value[kept] for name, value in arrays.items()}
        for name in ("scale", "first", "middle", "second"):
            found[name] = found[name] * factors[kept]
        return Terms(**found, sizes=self.sizes)

    @staticmethod
    def sum(parts: Sequence[Terms]) -> Terms:
        """All terms of some costs of the same spaces."""
        names = [one.name for one in fields(Terms) if one.name not in ("sizes", "settled")]
        joined: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
        return Terms(**joined, sizes=parts[0].sizes)


@dataclass(frozen=True)
class Mixed:
    """Costs of the same spaces, each times a factor: a `Cost`."""

    costs: tuple[Cost, ...]
    factors: tuple[float, ...]

    @staticmethod
    def of(costs: Sequence[Cost]) -> Cost:
        """The sum; one cost of all terms where each is made of terms."""
        terms = [one for one in costs if isinstance(one, Terms)]
        return Terms.sum(terms) if len(terms) == len(costs) else Mixed(tuple(costs), (1.0,) * len(costs))

    @property
    def sizes(self) -> Counts:
        """The counts of the dense network."""
        return self.costs[0].sizes

    def total(self, counts: Counts | None = None) -> int:
        """The cost with these counts; of the dense network without."""
        return round(sum(factor * one.total(counts) for one, factor in self._each()))

    def along(self, counts: Counts, space: int) -> Array:
        """The cost with 0, 1, … size coordinates of one space kept, the others as in `counts`."""
        return np.sum([factor * one.along(counts, space) for one, factor in self._each()], 0)  # type: ignore[no-any-return]

    def touched_along(self, counts: Counts, space: int) -> Array:
        """The same up to a constant."""
        return np.sum([factor * one.touched_along(counts, space) for one, factor in self._each()], 0)  # type: ignore[no-any-return]

    def whole(self, counts: Counts) -> Counts:
        """The counts with all of each rank that one of the costs would have whole."""
        for one in self.costs:
            counts = one.whole(counts)
        return counts

    def _each(self) -> Iterator[tuple[Cost, float]]:
        return zip(self.costs, self.factors, strict=True)


def parts_cost(first: Numbers, middle: Numbers, second: Numbers, out: Numbers, into: Numbers, rank: Numbers) -> Array:
    """The cost of the parts of a layer, elementwise: rank · (first · b + middle · rank + second · a)."""
    found: Array = np.multiply(rank, first * into + middle * rank + second * out)
    return found


def settled(cost: Cost, counts: Counts, ranks: Sequence[int]) -> Counts:
    """The counts with all of each of these rank spaces that saves nothing."""
    found = counts.copy()
    for space in ranks:
        curve = cost.along(counts, space)
        if curve[counts[space]] >= curve[-1]:
            found[space] = cost.sizes[space]
    return found
