"""Combine several limits into one, for allocators that take one, by weights w with

    sum_i w_i · used_i / allowed_i  <=  1,      sum_i w_i = 1

so that counts within this limit are within each limit i. Counts within all limits are within the sum, whose least error
is therefore a lower bound. Weights of exceeded limits grow multiplicatively (Arora, Hazan, Kale 2012, "The
multiplicative weights update method"), until the error within each limit is near that bound. Steps down the curves pay
for what is still exceeded in the end, and steps up spend what is left where all limits allow it. A problem with other
widths or another latency table starts from the weights of the first.
"""

from __future__ import annotations

import numpy as np

from ..cost.terms import Counts, drop_useless_ranks
from ..errors import BudgetError
from ..grammar.spec import text_of
from .completion import finished
from .greedy import afford, give_back
from .interface import Allocator
from .problem import UNIT, Allocation, Array

ROUNDS, AGAIN = 8, 3  # from scratch, and from given weights
NEAR = 1.01  # times the lower bound of the error
POWER = 4.0  # of used / allowed in the update


def spend(problem: Allocation, method: Allocator) -> Counts:
    """Return the counts that the method chooses within all limits, with leftover budget spent.

    Ranks that save nothing, and the spaces inside a removed branch, are full. Raises BudgetError where a limit, or all
    together, cannot be met, or the method finds no such counts.
    """
    problem = one_limit(problem)
    found = finished(problem, method.solved(problem))
    if found is not None:
        return found
    if problem.limits > 1:
        raise BudgetError(f"the targets {problem.target} cannot be met together: ask for more of one of them")
    name = text_of(method)
    other = "" if name.startswith("knapsack") else ", or take knapsack"
    raise BudgetError(f"{name} finds no counts for {problem.target}: ask for more of it{other}")


def one_limit(problem: Allocation) -> Allocation:
    """Return the problem with its limits combined into one; itself where it has one.

    Raises BudgetError where a limit is out of reach.
    """
    return problem if problem.limits == 1 or problem.weights is not None else problem.weighed(_best(problem))


def _best(problem: Allocation) -> Array:
    """Compute the weights, [limits], of the least error within each limit."""
    weights = problem.start
    if weights is None:
        weights = _updated(np.ones(problem.limits), problem.used(problem.model.sizes))
    best, lowest, least = None, np.inf, 0.0
    for _ in range(ROUNDS if problem.start is None else AGAIN):
        mixed = problem.weighed(weights)
        counts = _greedy(mixed)
        least = max(least, problem.expected(counts))
        found = finished(mixed, counts)
        if found is not None and problem.expected(found) < lowest:
            best, lowest = weights, problem.expected(found)
        if lowest <= NEAR * least:
            break
        weights = _updated(weights, problem.used(counts))
    return weights if best is None else best


def _greedy(mixed: Allocation) -> Counts:
    """Return counts within the combined limit, by steps down and up."""
    model, errors, inside = mixed.model, mixed.errors, mixed.inside
    counts = afford(model, errors, model.sizes, UNIT, inside)
    return mixed.closed(drop_useless_ranks(model, give_back(model, errors, counts, UNIT, inside=inside)))


def _updated(weights: Array, used: Array) -> Array:
    grown: Array = weights * np.maximum(used, 1e-3) ** POWER
    grown[grown < 1e-6 * grown.max()] = 0.0
    grown /= grown.sum()
    return grown
