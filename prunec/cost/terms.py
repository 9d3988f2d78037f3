"""A cost that is a sum of terms, each bilinear in how many coordinates of the spaces stay: MACs, parameters, bytes.

    term = scale · a · b,      a, b = fixed + sum_s n_s · rows of space s        with keep counts n

A layer that may be factored has a rank space of its own. While all of that stays the layer is one, else it is parts:

    term = rank · (first · b + middle · rank + second · a)

A term in a residual branch that may go counts while the one coordinate of the branch stays.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]  # coordinates kept of each prunable space
Array = npt.NDArray[np.float64]
Numbers = Array | Counts | float
KNOWN = 20_000  # curves that are kept at most


class Cost(Protocol):
    """Cost of a network, as an allocator queries it; `counts` are coordinates kept of each prunable space."""

    @property
    def sizes(self) -> Counts:
        """The counts of the dense network."""

    def total(self, counts: Counts | None = None) -> int:
        """The cost with these counts; of the dense network without."""

    def along(self, counts: Counts, space: int) -> Array:
        """The cost with 0, 1, … size coordinates of one space kept, the others as in `counts`."""

    def touched_along(self, counts: Counts, space: int) -> Array:
        """Return the cost that `along` gives, up to a constant."""

    @property
    def ranks(self) -> list[int]:
        """The places of the spaces of ranks: while all of one stays its layer is one, else it is parts."""

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
        out, into = self.fixed_a + self.a_rows @ counts, self.fixed_b + self.b_rows @ counts
        stays = np.append(counts, 1)[self.gate]
        return stays * self._cost(out[:, None], into[:, None], np.append(counts, 0)[self.rank, None])[:, 0]

    def along(self, counts: Counts, space: int) -> Array:
        """The cost of the network with 0, 1, … size coordinates of one space kept, the others as in `counts`."""
        curve = self.touched_along(counts, space)
        found: Array = curve + (self.by_product(counts).sum() - curve[counts[space]])
        return found

    def touched_along(self, counts: Counts, space: int) -> Array:
        """Return `along` of the terms alone that the space has a part in; cached, as few others change it."""
        key = space, counts[self._beside[space]].tobytes()
        if key not in self._known:
            if len(self._known) >= KNOWN:
                self._known.clear()
            self._known[key] = self._curve(counts, space)
            self._known[key].setflags(write=False)
        return self._known[key]

    def _curve(self, counts: Counts, space: int) -> Array:
        mine, steps = self._touched[space], np.arange(self.sizes[space] + 1)
        others = np.append(counts, 0)  # the last is of none
        others[space] = 0
        out = (mine.fixed_a + mine.a_rows @ others[:-1])[:, None] + mine.a_rows[:, space, None] * steps
        into = (mine.fixed_b + mine.b_rows @ others[:-1])[:, None] + mine.b_rows[:, space, None] * steps
        rank = np.where(mine.rank[:, None] == space, steps, others[mine.rank, None]) if mine._factored else others[-1:]
        cost = mine._cost(out, into, rank)
        if not mine._gated:
            whole: Array = cost.sum(0)
            return whole
        others[-1] = 1
        curve: Array = (np.where(mine.gate[:, None] == space, steps, others[mine.gate, None]) * cost).sum(0)
        return curve

    @cached_property
    def _known(self) -> dict[tuple[int, bytes], Array]:
        return {}

    @cached_property
    def _beside(self) -> list[npt.NDArray[np.int64]]:
        """By space: the others that have a part in its terms."""
        found = []
        for space, mine in enumerate(self._touched):
            beside = (mine.a_rows != 0).any(0) | (mine.b_rows != 0).any(0)
            beside[mine.rank[mine.rank >= 0]] = beside[mine.gate[mine.gate >= 0]] = True
            beside[space] = False
            found.append(beside.nonzero()[0])
        return found

    @cached_property
    def _factored(self) -> bool:
        """Return whether any layer may be factored."""
        return bool((self.rank >= 0).any())

    @cached_property
    def _gated(self) -> bool:
        """Return whether any term is in a branch that may be removed."""
        return bool((self.gate >= 0).any())

    @cached_property
    def _touched(self) -> list[Terms]:
        """By space: the terms that it has a part in."""
        sides = (self.a_rows != 0) | (self.b_rows != 0)
        owned = [(self.rank == space) | (self.gate == space) for space in range(len(self.sizes))]
        return [self._taken(sides[:, space] | rows) for space, rows in enumerate(owned)]

    def _taken(self, kept: npt.NDArray[np.bool_]) -> Terms:
        arrays = {one.name: getattr(self, one.name) for one in fields(self) if one.name not in ("sizes", "settled")}
        return replace(self, **{name: value[kept] for name, value in arrays.items()})

    @property
    def ranks(self) -> list[int]:
        """The places of the spaces of ranks."""
        found: list[int] = np.unique(self.rank[self.rank >= 0]).tolist()
        return found

    def whole(self, counts: Counts) -> Counts:
        """The counts with all of each rank that saves nothing: there the layer stays one."""
        return settled(self, counts)

    def _cost(self, out: Array, into: Array, rank: Array | Counts) -> Array:
        """The cost of the terms with so many entries of a and of b, and so high a rank; all [terms, any]."""
        whole: Array = self.scale[:, None] * out * into
        if not self._factored:
            return whole
        factored = self.rank >= 0
        size = np.append(self.sizes, 0)[self.rank, None]
        prices = self.first[:, None], self.middle[:, None], self.second[:, None]
        parts = parts_cost(*prices, out, into, rank)
        parts = np.minimum(parts, whole) if self.settled else parts
        found: Array = np.where(factored[:, None] & (rank < size), parts, whole)
        return found

    def scaled(self, factors: Array) -> Terms:
        """Each term times a factor of its own, [terms]; those of factor 0 are left out."""
        kept = self._taken(factors != 0)
        prices = {name: getattr(kept, name) * factors[factors != 0] for name in ("scale", "first", "middle", "second")}
        return replace(kept, **prices, settled=False)

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
        """Return the cost that `along` gives, up to a constant."""
        return np.sum([factor * one.touched_along(counts, space) for one, factor in self._each()], 0)  # type: ignore[no-any-return]

    @property
    def ranks(self) -> list[int]:
        """The places of the spaces of ranks."""
        return sorted({rank for one in self.costs for rank in one.ranks})

    def whole(self, counts: Counts) -> Counts:
        """The counts with all of each rank that saves nothing of the sum; of one of the costs it may save nothing."""
        return settled(self, counts)

    def _each(self) -> Iterator[tuple[Cost, float]]:
        return zip(self.costs, self.factors, strict=True)


def parts_cost(first: Numbers, middle: Numbers, second: Numbers, out: Numbers, into: Numbers, rank: Numbers) -> Array:
    """The cost of the parts of a layer, elementwise: rank · (first · b + middle · rank + second · a)."""
    found: Array = np.multiply(rank, first * into + middle * rank + second * out)
    return found


def settled(cost: Cost, counts: Counts) -> Counts:
    """The counts with all of each rank space that saves nothing."""
    found = counts.copy()
    for space in cost.ranks:
        curve = cost.touched_along(counts, space)
        if curve[counts[space]] >= curve[-1]:
            found[space] = cost.sizes[space]
    return found
