"""Try the networks that allocators propose by the curves, each once, and keep the best by its outputs (no paper).

    min over plans n of  E|f_n(x) - f(x)|² / E|f(x) - mean f|²,      f_n refitted to the dense statistics

Curves measure one space at a time, and how their errors add up they do not say. So plans are proposed by the curves and
chosen by the outputs: plans of the allocators that try no network, and of the knapsack with curves tilted by depth
(`prunec.allocation.depth_scaling`). They are few and differ much: a search among many near ones fits the few images
that it reads, which no statistic has seen (`Context.choosing`).
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
    """Use the allocator, of about ten, whose network errs least on `images` images; the knapsack without a network."""

    images: int = 64

    def counts(self, problem: Allocation) -> Counts:
        """Coordinates kept of each prunable space."""
        return self.settled(problem).counts(problem)

    def settled(self, problem: Allocation) -> Allocator:
        """The allocator whose plan has the least error."""
        errors = {"knapsack": np.inf}  # by text, the first of equals wins
        if problem.can_try:
            oracle = Oracle(problem, self.images)
            errors |= {name: _error(oracle, name) for name in CHEAPER}
            for way in (-SLOPE, SLOPE):
                errors |= _steeper(oracle, way)
        found: Allocator = STRATEGIES["allocators"].make(min(errors, key=lambda name: errors[name]))
        return found


def _steeper(oracle: Oracle, way: float) -> dict[str, float]:
    """The errors with curves that are tilted more and more, as long as that lowers them."""
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
    """The error of the outputs with what an allocator proposes; infinite where that is outside a limit."""
    ends = oracle.ends([STRATEGIES["allocators"].make(name).counts(oracle.problem)])
    return min(map(oracle.error, ends), default=np.inf)
