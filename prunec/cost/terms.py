"""Cost as a sum of terms, each bilinear in the counts kept.

    term = scale · a · b,      a, b = fixed + sum_s n_s · rows of space s        with keep counts n

A factorable layer has a rank space. At full rank it is one layer, below that it is in parts:

    term = rank · (first · b + middle · rank + second · a)

A term in a removable residual branch counts while the one coordinate of the branch is kept.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]  # coordinates kept of each prunable space
Array = npt.NDArray[np.float64]
Numbers = Array | Counts | float
KNOWN = 20_000  # size of the cache of curves


class Cost(Protocol):
    """Cost of a network by the coordinates kept of each prunable space, `counts`."""

    @property
    def sizes(self) -> Counts:
        """Return the counts of the dense network."""

    def total(self, counts: Counts | None = None) -> int:
        """Compute the cost with these counts; by default of the dense network."""

    def along(self, counts: Counts, space: int) -> Array:
        """Compute the cost at 0, 1, … size coordinates of one space, [size + 1]."""

    def touched_along(self, counts: Counts, space: int) -> Array:
        """Return `along` up to a constant."""

    @property
    def ranks(self) -> list[int]:
        """Return the indices of the rank spaces. At full rank a layer is whole, else in parts."""


@dataclass(frozen=True)
class Term:
    """One term: the cost of a layer, whole or in parts, of a tensor or of a value; 0 where its branch is removed."""

    scale: float  # cost of each pair of entries of a and b
    a: Array  # [spaces + 1]: entries a coordinate of each space; last, those of none
    b: Array
    rank: int | None = None  # index of its rank space, if factorable
    parts: tuple[float, float, float] = (0.0, 0.0, 0.0)  # first, middle and second: cost of each pair with a rank
    gate: int | None = None  # index of the space of its branch

    def times(self, factor: float) -> Term:
        """Return the term with all of its costs multiplied."""
        first, middle, second = self.parts
        return replace(self, scale=self.scale * factor, parts=(first * factor, middle * factor, second * factor))


@dataclass(frozen=True)
class Terms:
    """A `Cost` as a sum of terms."""

    terms: tuple[Term, ...]
    sizes: Counts  # [spaces]

    @cached_property
    def scale(self) -> Array:
        """Return the cost of each pair of entries of a and b, [terms]."""
        return np.array([one.scale for one in self.terms], dtype=np.float64)

    @cached_property
    def rows(self) -> Array:
        """Return both sides of the terms, [2, terms, spaces + 1].

        Entries a coordinate of each space; last, those of none.
        """
        sides = [[one.a for one in self.terms], [one.b for one in self.terms]]
        return np.array(sides, dtype=np.float64).reshape(2, len(self.terms), len(self.sizes) + 1)

    @cached_property
    def spaces(self) -> Counts:
        """Return the rank space and the branch of each term, [2, terms], by index. One past the last is none."""
        none = len(self.sizes)
        places = [[none if one is None else one for one in (term.rank, term.gate)] for term in self.terms]
        return np.array(places, dtype=np.int64).reshape(-1, 2).T

    @cached_property
    def _parts(self) -> tuple[Array, Array, Array]:
        first, middle, second = np.array([one.parts for one in self.terms], dtype=np.float64).reshape(-1, 3).T
        return first[:, None], middle[:, None], second[:, None]

    def _entries(self, counts: Counts) -> Array:
        """Return the entries of a and of b of each term, [2, terms]."""
        found: Array = self.rows[:, :, -1] + self.rows[:, :, :-1] @ counts
        return found

    def total(self, counts: Counts | None = None) -> int:
        """Compute the cost with these counts; by default of the dense network."""
        return round(float(self.by_product(self.sizes if counts is None else counts).sum()))

    def by_product(self, counts: Counts) -> Array:
        """Compute the cost of each term, [terms]."""
        (out, into), (rank, gate) = self._entries(counts), self.spaces
        cost = self._cost(out[:, None], into[:, None], np.append(counts, 0)[rank, None])
        found: Array = np.append(counts, 1)[gate] * cost[:, 0]
        return found

    def along(self, counts: Counts, space: int) -> Array:
        """Compute the cost at 0, 1, … size coordinates of one space, [size + 1]."""
        curve = self.touched_along(counts, space)
        found: Array = curve + (self.by_product(counts).sum() - curve[counts[space]])
        return found

    def touched_along(self, counts: Counts, space: int) -> Array:
        """Return `along` of the terms that contain the space; cached, as few others change it."""
        key = space, counts[self._beside[space]].tobytes()
        if key not in self._known:
            if len(self._known) >= KNOWN:
                self._known.clear()
            self._known[key] = self._curve(counts, space)
            self._known[key].setflags(write=False)
        return self._known[key]

    def _curve(self, counts: Counts, space: int) -> Array:
        mine, steps = self._touched[space], np.arange(self.sizes[space] + 1)
        others = np.append(counts, 0)  # last: no space
        others[space] = 0
        out, into = mine._entries(others[:-1])[:, :, None] + mine.rows[:, :, space, None] * steps
        rank, gate = mine.spaces[:, :, None]
        cost = mine._cost(out, into, np.where(rank == space, steps, others[rank]) if mine._factored else others[-1:])
        others[-1] = 1
        curve: Array = ((np.where(gate == space, steps, others[gate]) * cost) if mine._gated else cost).sum(0)
        return curve

    @cached_property
    def _known(self) -> dict[tuple[int, bytes], Array]:
        return {}

    @cached_property
    def _beside(self) -> list[npt.NDArray[np.int64]]:
        """Return the other spaces in the terms of each space."""
        found = []
        for space, mine in enumerate(self._touched):
            beside = (mine.rows != 0).any((0, 1))
            beside[mine.spaces] = True
            beside[space] = False
            found.append(beside[:-1].nonzero()[0])
        return found

    @cached_property
    def _factored(self) -> bool:
        """Return whether any layer is factorable."""
        return any(one.rank is not None for one in self.terms)

    @cached_property
    def _gated(self) -> bool:
        """Return whether any term is in a removable branch."""
        return any(one.gate is not None for one in self.terms)

    @cached_property
    def _touched(self) -> list[Terms]:
        """Return the terms that contain each space."""
        sides = (self.rows != 0).any(0)
        owned = [sides[:, space] | (self.spaces == space).any(0) for space in range(len(self.sizes))]
        return [replace(self, terms=tuple(itertools.compress(self.terms, mine))) for mine in owned]

    @property
    def ranks(self) -> list[int]:
        """Return the indices of the rank spaces."""
        return sorted({one.rank for one in self.terms if one.rank is not None})

    def _cost(self, out: Array, into: Array, rank: Array | Counts) -> Array:
        """Compute the cost of the terms from entries of a, of b, and rank."""
        whole: Array = self.scale[:, None] * out * into
        if not self._factored:
            return whole
        size = np.append(self.sizes, 0)[self.spaces[0], None]
        found: Array = np.where(rank < size, parts_cost(*self._parts, out, into, rank), whole)
        return found

    def scaled(self, factors: Array) -> Terms:
        """Multiply each term by its factor, [terms]; drop terms of factor 0."""
        pairs = zip(self.terms, factors.tolist(), strict=True)
        return Terms(tuple(one.times(factor) for one, factor in pairs if factor), self.sizes)

    @staticmethod
    def sum(parts: Sequence[Terms]) -> Terms:
        """Join the terms of several costs of the same spaces."""
        return Terms(tuple(one for part in parts for one in part.terms), parts[0].sizes)


@dataclass(frozen=True)
class Mixed:
    """A `Cost` as a weighted sum of costs of the same spaces."""

    costs: tuple[Cost, ...]
    factors: tuple[float, ...]

    @staticmethod
    def of(costs: Sequence[Cost]) -> Cost:
        """Return the weighted sum; a single `Terms` where each cost is one."""
        terms = [one for one in costs if isinstance(one, Terms)]
        return Terms.sum(terms) if len(terms) == len(costs) else Mixed(tuple(costs), (1.0,) * len(costs))

    @property
    def sizes(self) -> Counts:
        """Return the counts of the dense network."""
        return self.costs[0].sizes

    def total(self, counts: Counts | None = None) -> int:
        """Compute the cost with these counts; by default of the dense network."""
        return round(sum(factor * one.total(counts) for one, factor in self._each()))

    def along(self, counts: Counts, space: int) -> Array:
        """Compute the cost at 0, 1, … size coordinates of one space, [size + 1]."""
        return np.sum([factor * one.along(counts, space) for one, factor in self._each()], 0)  # type: ignore[no-any-return]

    def touched_along(self, counts: Counts, space: int) -> Array:
        """Return `along` up to a constant."""
        return np.sum([factor * one.touched_along(counts, space) for one, factor in self._each()], 0)  # type: ignore[no-any-return]

    @property
    def ranks(self) -> list[int]:
        """Return the indices of the rank spaces."""
        return sorted({rank for one in self.costs for rank in one.ranks})

    def _each(self) -> Iterator[tuple[Cost, float]]:
        return zip(self.costs, self.factors, strict=True)


def parts_cost(first: Numbers, middle: Numbers, second: Numbers, out: Numbers, into: Numbers, rank: Numbers) -> Array:
    """Compute the cost of the parts of a layer, elementwise: rank · (first · b + middle · rank + second · a)."""
    found: Array = np.multiply(rank, first * into + middle * rank + second * out)
    return found


def drop_useless_ranks(cost: Cost, counts: Counts) -> Counts:
    """Return the counts with full rank wherever a lower one saves nothing."""
    found = counts.copy()
    for space in cost.ranks:
        curve = cost.touched_along(counts, space)
        if curve[counts[space]] >= curve[-1]:
            found[space] = cost.sizes[space]
    return found
