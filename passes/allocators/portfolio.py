"""Choose among the plans of several allocators by the error of the outputs.

    min over plans n of  E|f_n(x) - f(x)|² / E|f(x) - mean f|²,      f_n refitted to the dense statistics

(No paper.) Curves measure one space at a time, not how their errors add up. So the curves propose plans (the allocators
that try no network, and the knapsack with curves tilted by depth, `prunec.allocation.depth_scaling`), and the outputs
choose. The plans are few and differ much: a search among many similar ones overfits the few images, which no statistic
uses (`Context.choosing`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prunec.allocation.interface import Allocator
from prunec.allocation.oracle import CHEAPER, Oracle
from prunec.allocation.problem import Allocation
from prunec.cost.macs import Counts
from prunec.grammar.registry import STRATEGIES

SLOPE, STEPS = 0.5, 4


@dataclass(frozen=True)
class Portfolio(Allocator):
    """Use the allocator, of about ten, with the least output error on `images` images.

    Without a network, use the knapsack.
    """

    images: int = 64

    def counts(self, problem: Allocation) -> Counts:
        """Return the coordinates kept of each prunable space, int64 [spaces]."""
        return self.settled(problem).counts(problem)

    def settled(self, problem: Allocation) -> Allocator:
        """Return the allocator whose plan has the least error."""
        errors = {"knapsack": np.inf}  # by text, the first of equals wins
        if problem.can_try:
            oracle = Oracle(problem, self.images)
            errors |= {name: _error(oracle, name) for name in CHEAPER}
            for way in (-SLOPE, SLOPE):
                errors |= _steeper(oracle, way)
        found: Allocator = STRATEGIES["allocators"].make(min(errors, key=lambda name: errors[name]))
        return found


def _steeper(oracle: Oracle, way: float) -> dict[str, float]:
    """Return the errors with curves tilted more and more, until one is no lower."""
    errors: dict[str, float] = {}
    for step in range(1, STEPS + 1):
        name = f"knapsack{{slope={step * way}}}"
        error = _error(oracle, name)
        better = error < min(errors.values(), default=np.inf)
        errors[name] = error
        if not better:
            break
    return errors


def _error(oracle: Oracle, name: str) -> float:
    """Return the output error of an allocator's plan; infinite outside a limit."""
    ends = oracle.ends([STRATEGIES["allocators"].make(name).counts(oracle.problem)])
    return min(map(oracle.error, ends), default=np.inf)
