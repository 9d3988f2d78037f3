"""Lagrangian knapsack over the removal curves (BALF's allocator; CC's GCRO with the optimality condition corrected).

    min sum_s e_s(n_s)  subject to  MACs(n) <= budget:     n_s = argmin_n e_s(n) + m · MACs(n_s = n, others fixed)

MACs are bilinear in the counts, so for each multiplier m the spaces are solved in turn until nothing moves; m is found
by bisection, and what is left of the budget is given back where a MAC buys most.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prunec.allocation import Allocation, Array
from prunec.spending import give_back
from prunec.strategy import Allocator
from prunec.terms import Cost, Counts

TOLERANCE = 1e-6  # of the multiplier


@dataclass(frozen=True)
class Knapsack(Allocator):
    """Spend the error where it buys most MACs.

    `rounds` of coordinate descent for each multiplier.
    """

    rounds: int = 8

    def counts(self, problem: Allocation) -> Counts:
        """Coordinates kept of each prunable space."""
        model, allowed, errors, best = problem.model, problem.allowed, problem.errors, problem.fewest
        low, high = 1e-30, 1e6 / model.total()
        while high / low > 1 + TOLERANCE:
            middle = float(np.sqrt(low * high))
            counts = self._descend(model, errors, middle)
            if model.total(counts) <= allowed:
                high, best = middle, counts
            else:
                low = middle
        return give_back(model, errors, best, allowed)

    def _descend(self, model: Cost, errors: list[Array], multiplier: float) -> Counts:
        counts = model.sizes.copy()
        for _ in range(self.rounds):
            before = counts.copy()
            for space, error in enumerate(errors):
                price = error + multiplier * model.touched_along(counts, space)
                counts[space] = int(price.argmin())
            if (counts == before).all():
                break
        return counts
