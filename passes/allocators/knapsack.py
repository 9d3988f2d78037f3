"""Lagrangian knapsack over the removal curves (BALF's allocator; CC's GCRO with the optimality condition corrected).

    min sum_s e_s(n_s)  subject to  MACs(n) <= budget:     n_s = argmin_n e_s(n) + m · MACs(n_s = n, others fixed)

MACs are bilinear in the counts, so for each multiplier m the spaces are solved in turn until nothing moves; m is found
by bisection, and what is left of the budget is given back where a MAC buys most. A residual branch that may go is
weighed, with the errors of all spaces within it, against its loss; those spaces are solved as if it stayed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prunec.allocation import Allocation
from prunec.spending import give_back, with_count
from prunec.strategy import Allocator
from prunec.terms import Counts

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
            counts = self._descend(problem, middle)
            if model.total(counts) <= allowed:
                high, best = middle, counts
            else:
                low = middle
        return give_back(model, errors, problem.closed(best), allowed)

    def _descend(self, problem: Allocation, multiplier: float) -> Counts:
        model, errors, inside = problem.model, problem.errors, problem.inside
        branch_of = {space: branch for branch, spaces in inside.items() for space in spaces}
        counts = model.sizes.copy()
        for _ in range(self.rounds):
            before = counts.copy()
            for space, error in enumerate(errors):
                others = with_count(counts, branch_of[space], 1) if space in branch_of else counts
                price = error + multiplier * model.touched_along(others, space)
                if space in inside:
                    price[1] += sum(errors[one][counts[one]] for one in inside[space])
                counts[space] = int(price.argmin())
            if (counts == before).all():
                break
        return counts
