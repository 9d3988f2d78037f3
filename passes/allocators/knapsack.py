"""Solve a Lagrangian knapsack over the removal curves, from several starts.

    min sum_s e_s(n_s)  subject to  MACs(n) <= budget:     n_s = argmin_n e_s(n) + m · MACs(n_s = n, others fixed)

(BALF's allocator; CC's GCRO corrected.) MACs are bilinear in the counts, so for each multiplier m the spaces are solved
in turn until convergence, and m by bisection. The result depends on the start and misses counts above the hull of a
curve. So there are several starts, the results of cheaper allocators, a greedy ascent, and a multiple choice among the
costs beside the best counts so far; the best of all is rebalanced (`prunec.allocation.rebalancing`). Removing a branch
is weighed against keeping it with the errors of all its spaces; those are solved as if it were kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from prunec.allocation.completion import finished
from prunec.allocation.depth_scaling import tilted
from prunec.allocation.greedy import afford, with_count
from prunec.allocation.interface import Allocator
from prunec.allocation.multiple_choice import choose
from prunec.allocation.problem import Allocation
from prunec.allocation.rebalancing import rebalanced
from prunec.cost.terms import Counts, drop_useless_ranks
from prunec.grammar.registry import STRATEGIES

CHEAPER = ("uniform", "threshold", "gcro")
TOLERANCE = 1e-3  # of the multiplier
GROWTH = 16.0  # of the bracket, a step
GROWS = 60  # times at most: 16^60 is more than there are errors for


@dataclass(frozen=True)
class Knapsack(Allocator):
    """Spend the error where it buys most MACs; never worse than allocators without tries.

    `rounds` of coordinate descent for each multiplier; `tries` moves of the best counts. A positive `slope` spares the
    last layers, a negative one the first (`prunec.allocation.depth_scaling`).
    """

    rounds: int = 8
    tries: int = 60
    slope: float = 0.0

    def counts(self, problem: Allocation) -> Counts:
        """Return the coordinates kept of each prunable space, int64 [spaces]."""
        problem = tilted(problem, self.slope)
        found: Counts = min(self._ends(problem), key=problem.expected)
        return found

    def _ends(self, problem: Allocation) -> Iterator[Counts]:
        best: Counts | None = None
        for start in self._starts(problem):
            found = finished(problem, start)
            if found is None:
                continue
            yield found
            best = found if best is None or problem.expected(found) < problem.expected(best) else best
        if best is None:
            yield drop_useless_ranks(problem.model, problem.fewest)
            return
        yield rebalanced(problem, best, self.tries)

    def _starts(self, problem: Allocation) -> Iterator[Counts]:
        """Yield starting counts, not all within the budget."""
        model, errors = problem.model, problem.errors
        known: list[Counts] = [model.sizes, problem.fewest]
        yield problem.fewest
        for name in CHEAPER:
            known.append(STRATEGIES["allocators"].make(name).solved(problem))
            yield known[-1]
        known.append(afford(model, errors, model.sizes, problem.allowed, problem.inside))
        yield known[-1]
        best = min(known[2:], key=lambda counts: self._judged(problem, counts))
        for start in (model.sizes, problem.fewest, best):
            if (found := self._multiplied(problem, start)) is not None:
                known.append(found)
                yield found
        best = min(known[2:], key=lambda counts: self._judged(problem, counts))
        if (found := _chosen(problem, best)) is not None:
            yield found

    def _judged(self, problem: Allocation, counts: Counts) -> float:
        fits = problem.model.total(counts) <= problem.allowed
        return problem.expected(counts) if fits else np.inf

    def _multiplied(self, problem: Allocation, start: Counts) -> Counts | None:
        """Return the counts of the least multiplier within the budget, or None."""
        model, allowed = problem.model, problem.allowed
        largest = max((float(error[np.isfinite(error)].max()) for error in problem.errors), default=0.0)
        low = high = max(largest, 1e-30) / max(model.total(), 1)
        best: Counts | None = None
        for _ in range(GROWS):
            counts = self._descend(problem, high, start)
            if model.total(counts) <= allowed:
                best = counts
                break
            low, high = high, high * GROWTH
        if best is None:
            return None
        for _ in range(GROWS):
            if low < high and model.total(self._descend(problem, low, start)) > allowed:
                break
            low /= GROWTH
        while high / low > 1 + TOLERANCE:  # ends: its logarithm, GROWS log GROWTH at most, halves
            middle = float(np.sqrt(low * high))
            counts = self._descend(problem, middle, start)
            if model.total(counts) <= allowed:
                high, best = middle, counts
            else:
                low = middle
        return best

    def _descend(self, problem: Allocation, multiplier: float, start: Counts) -> Counts:
        model, errors, inside = problem.model, problem.errors, problem.inside
        branch_of = {space: branch for branch, spaces in inside.items() for space in spaces}
        counts = start.copy()
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


def _chosen(problem: Allocation, counts: Counts) -> Counts | None:
    """Return the best counts if every space cost what it does beside these."""
    model, places = problem.model, range(len(counts))
    costs = [model.touched_along(counts, space) - model.touched_along(counts, space)[counts[space]] for space in places]
    found = choose(costs, problem.errors, problem.allowed - model.total(counts))
    return None if found is None else np.array(found, dtype=np.int64)
