"""Choose among the plans of several allocators by the answers of the network.

    min over plans n of  mean over images x of  KL(softmax f(x)/T || softmax f_n(x)/T),     T = 2
    where outputs are no class scores:          E|f_n(x) - f(x)|² / E|f(x) - mean f|²

(No paper; the temperature T: Hinton, Vinyals & Dean 2015, section 2. With T = 1 a few uncertain images decide, and the
squared error heeds classes that no answer names.) Curves measure one space at a time, not how their errors add up. So
the curves propose plans (the allocators that try no network, and the knapsack with curves tilted by depth,
`prunec.allocation.depth_scaling`), and the outputs choose. f_n is refitted to a part of the dense statistics and tried
on images outside it (`Allocation.tried`). The plans are few and differ much: a search among many similar ones overfits
the few images.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prunec.allocation.interface import Allocator
from prunec.allocation.oracle import Oracle
from prunec.allocation.problem import Allocation
from prunec.cost.macs import Counts
from prunec.grammar.registry import STRATEGIES

SLOPE, STEPS = 0.5, 4
PLAIN = ("uniform", "threshold", "gcro")
UNMOVED = ",tries=0"


@dataclass(frozen=True)
class Portfolio(Allocator):
    """Use the allocator, of about eight, whose answers on `images` images are the nearest.

    Without a network, use the knapsack.
    """

    images: int = 96

    def counts(self, problem: Allocation) -> Counts:
        """Return the coordinates kept of each prunable space, int64 [spaces]."""
        return self.settled(problem).counts(problem)

    def settled(self, problem: Allocation) -> Allocator:
        """Return the allocator whose plan gives the nearest answers.

        A knapsack is tried without its moves first, and with them if it is the best.
        """
        if not problem.can_try:
            return _knapsack(0.0)
        oracle = Oracle(problem, self.images)
        plain = _divergence(oracle, _knapsack(0.0, UNMOVED))
        found: dict[float | str, float] = {0.0: plain}  # the first of equals wins
        found |= {name: _divergence(oracle, STRATEGIES["allocators"].make(name)) for name in PLAIN}
        for way in (-SLOPE, SLOPE):
            found.update(_steeper(oracle, way, plain))
        best = min(found, key=lambda one: found[one])
        if isinstance(best, str):
            return STRATEGIES["allocators"].make(best)  # type: ignore[no-any-return]
        moved = _knapsack(best)
        return moved if _divergence(oracle, moved) <= found[best] else _knapsack(best, UNMOVED)


def _steeper(oracle: Oracle, way: float, level: float) -> dict[float | str, float]:
    """Return the divergences by slope, steeper until one is no lower than the last.

    `level` is the divergence without a slope.
    """
    found: dict[float | str, float] = {}
    for step in range(1, STEPS + 1):
        before, level = level, _divergence(oracle, _knapsack(step * way, UNMOVED))
        found[step * way] = level
        if level >= before:
            break
    return found


def _knapsack(slope: float, more: str = "") -> Allocator:
    method: Allocator = STRATEGIES["allocators"].make(f"knapsack{{slope={slope}{more}}}")
    return method


def _divergence(oracle: Oracle, method: Allocator) -> float:
    """Return the divergence of an allocator's plan; infinite outside a limit."""
    return min(map(oracle.divergence, oracle.ends([method.solved(oracle.problem)])), default=np.inf)
