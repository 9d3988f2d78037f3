"""Lagrangian knapsack over the removal curves (BALF's allocator; CC's GCRO with the optimality condition corrected).

    min sum_s e_s(n_s)  subject to  MACs(n) <= budget:     n_s = argmin_n e_s(n) + m · MACs(n_s = n, others fixed)

MACs are bilinear in the counts, so for each multiplier m the spaces are solved in turn until nothing moves; m is found
by bisection, and what is left of the budget is given back where a MAC buys most.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from prunec.budget import budget
from prunec.channels.spaces import Channels, Space
from prunec.cost import Counts, Macs
from prunec.facts import Curves
from prunec.strategy import Allocator
from prunec.target import Target

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Knapsack(Allocator):
    """Spend the error where it buys most MACs.

    `rounds` of coordinate descent for each multiplier.
    """

    rounds: int = 8

    def counts(self, channels: Channels, curves: Curves, target: Target) -> Counts:
        """Coordinates kept of each prunable space."""
        model = Macs.of(channels)
        allowed = budget(channels, model, target)
        errors = [_allowed(space, curves.by_space[space.name].error.numpy()[::-1]) for space in channels.prunable]
        best = np.array([space.fewest for space in channels.prunable], dtype=np.int64)
        low, high = 1e-30, 1e6 / model.total()
        for _ in range(80):
            middle = float(np.sqrt(low * high))
            counts = self._descend(model, errors, middle)
            if model.total(counts) <= allowed:
                high, best = middle, counts
            else:
                low = middle
        return _give_back(model, errors, best, allowed)

    def _descend(self, model: Macs, errors: list[Array], multiplier: float) -> Counts:
        counts = model.sizes.copy()
        for _ in range(self.rounds):
            before = counts.copy()
            for space, error in enumerate(errors):
                price = error + multiplier * model.along(counts, space)
                counts[space] = int(price.argmin())
            if (counts == before).all():
                break
        return counts


def _allowed(space: Space, error: Array) -> Array:
    """The error by the count kept, with infinity at the counts that may not be."""
    allowed: Array = np.where([space.may_keep(count) for count in range(len(error))], error, np.inf)
    return allowed


def _give_back(model: Macs, errors: list[Array], counts: Counts, allowed: int) -> Counts:
    """Add coordinates, best error per MAC first, while they fit."""
    counts = counts.copy()
    while True:
        total, best = model.total(counts), (0.0, -1, 0)
        for space, error in enumerate(errors):
            more = _next(error, int(counts[space]))
            if more is None:
                continue
            added = float(model.along(counts, space)[more]) - total
            gain = float(error[counts[space]] - error[more]) / max(added, 1.0)
            if total + added <= allowed and gain > best[0]:
                best = (gain, space, more)
        if best[1] < 0:
            return counts
        counts[best[1]] = best[2]


def _next(error: Array, count: int) -> int | None:
    """The next larger count that may be kept."""
    larger = np.isfinite(error[count + 1 :]).nonzero()[0]
    return count + 1 + int(larger[0]) if len(larger) else None
