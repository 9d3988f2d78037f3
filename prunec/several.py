"""Several limits at once, with allocators that know one: weights w are found so that keeping to

    sum_i w_i · used_i / allowed_i  <=  1,      sum_i w_i = 1

keeps to each limit i. Whatever meets all limits meets this, so the error can only be lower; weights of limits that are
overdrawn grow by multiplication (Arora, Hazan, Kale 2012, "The multiplicative weights update method"), until the error
of counts that keep to each limit is near the least of what only keeps to the sum. What is still overdrawn in the end is
paid by going down the curves, and what is left is given back where all limits allow it. Where a table of latencies is
corrected the next weights start from the last.
"""

from __future__ import annotations

import numpy as np

from .allocation import UNIT, Allocation, Array
from .errors import BudgetError
from .registry import STRATEGIES
from .spec import text_of
from .spending import afford, give_back
from .strategy import Allocator
from .terms import Counts

ROUNDS, AGAIN = 8, 3  # at first, and from weights that were best before
NEAR = 1.01  # times the least error that there can be
TRIES = 4  # more than limits, in paying for what is overdrawn: ranks may save of one and cost of another
POWER = 4.0  # of used / allowed in the update
SLACK = 1e-9


def spend(problem: Allocation, method: Allocator) -> Counts:
    """The counts that the method chooses within all limits; ranks that save nothing and what is inside a branch that
    goes stay whole.

    Raises BudgetError where a limit is out of reach, or all of them together are, or the method finds no such counts.
    """
    if problem.limits == 1:
        only = problem.model.whole(method.counts(problem))
        if problem.model.total(only) > problem.allowed:
            raise BudgetError(
                f"{text_of(method)} finds no counts for {problem.target}: ask for more of it, or take knapsack"
            )
        return problem.closed(only)
    mixed = problem.weighed(_best(problem))
    chosen = _repaired(mixed, mixed.model.whole(method.counts(mixed)))
    if chosen is None:
        raise BudgetError(f"the targets {problem.target} cannot be met together: ask for more of one of them")
    return mixed.closed(chosen)


def _best(problem: Allocation) -> Array:
    """The weights with which least error keeps to each limit."""
    probe: Allocator = STRATEGIES["allocators"].make("knapsack")
    if problem.starts:
        weights, rounds = problem.starts[-1], AGAIN
    else:
        weights, rounds = _updated(np.ones(problem.limits), problem.used(problem.model.sizes)), ROUNDS
    best, lowest, least = None, np.inf, 0.0
    for _ in range(rounds):
        mixed = problem.weighed(weights)
        counts = mixed.model.whole(probe.counts(mixed))
        least = max(least, problem.expected(counts))
        found = _repaired(mixed, counts)
        if found is not None and problem.expected(found) < lowest:
            best, lowest = weights, problem.expected(found)
        if lowest <= NEAR * least:
            break
        weights = _updated(weights, problem.used(counts))
    if best is None:
        return weights
    problem.starts.append(best)
    return best


def _updated(weights: Array, used: Array) -> Array:
    grown: Array = weights * np.maximum(used, 1e-3) ** POWER
    grown[grown < 1e-6 * grown.max()] = 0.0
    grown /= grown.sum()
    return grown


def _repaired(mixed: Allocation, counts: Counts) -> Counts | None:
    """The counts within every limit and near it, or None."""
    for _ in range(mixed.limits + TRIES):
        used = mixed.used(counts)
        if used.max() <= 1 + SLACK:
            break
        alone = mixed.weighed(np.eye(mixed.limits)[int(used.argmax())])
        counts = afford(alone.model, mixed.errors, counts, UNIT)
    if mixed.used(counts).max() > 1 + SLACK:
        return None
    return give_back(mixed.model, mixed.errors, counts, np.inf, lambda more: bool(mixed.used(more).max() <= 1 + SLACK))
