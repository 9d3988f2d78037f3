"""Allocate counts by annealed channel indicators.

(DAIS: Guan et al., 2011.02166; `prunec.selection.indicators`.) The indicators are optimised through the network,
weights frozen and without labels. They include effects that layerwise errors miss, but overrate the damage, as the only
refit they model is that of a bias. So they set the *counts* alone; the selector's order sets the channels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from prunec.allocation.greedy import nearest
from prunec.allocation.interface import Allocator
from prunec.allocation.oracle import Oracle
from prunec.allocation.problem import Allocation
from prunec.cost.macs import Counts
from prunec.errors import PassError
from prunec.selection.indicators import Annealing, indicators

TRIED = 64


@dataclass(frozen=True)
class Dais(Allocator):
    """Allocate by annealed indicators: `steps` of Adam at `rate`, `batch` of `images` images each.

    The indicators remove all of the excess, or all but one of `cuts` equal parts, all but two, …; the error curves,
    which include ranks and branches, remove the rest. The best by the outputs, of these and of the allocators without
    tries, is rebalanced: `moves` networks more, each on `TRIED` images.
    """

    steps: int = 200
    rate: float = 0.05
    images: int = 256
    batch: int = 32
    cuts: int = 4
    moves: int = 32

    def counts(self, problem: Allocation) -> Counts:
        """Return the coordinates kept of each prunable space, int64 [spaces]."""
        alpha = self.indicators(problem)
        oracle = Oracle(problem, TRIED)
        levels = np.linspace(problem.allowed, problem.model.total(), self.cuts, endpoint=False)
        ends = oracle.ends(_cut(problem, alpha, float(level)) for level in levels)
        best = oracle.best([*ends, *oracle.cheaper()])
        return oracle.moved(best, self.moves)

    def indicators(self, problem: Allocation) -> dict[str, Tensor]:
        """Return alpha of each coordinate by space. Raises PassError without a network."""
        if problem.program is None or problem.context is None:
            raise PassError("this allocator runs the network, and was given none")
        share = problem.allowed / max(problem.model.total(), 1)
        program, context = problem.program, problem.context
        return indicators(program, context, share, Annealing(self.steps, self.rate, self.images, self.batch))


def _cut(problem: Allocation, alpha: dict[str, Tensor], allowed: float) -> Counts:
    """Return the largest counts within the cost allowed, cut at a level of alpha."""
    levels = sorted({float(value) for one in alpha.values() for value in one})
    low, high = 0, len(levels)  # cut below levels[high]: with all of them only the fewest are kept
    while low < high:  # ends: the gap halves
        middle = (low + high) // 2
        fits = problem.model.total(_open(problem, alpha, levels[middle])) <= allowed
        low, high = (low, middle) if fits else (middle + 1, high)
    return _open(problem, alpha, levels[low] if low < len(levels) else np.inf)


def _open(problem: Allocation, alpha: dict[str, Tensor], level: float) -> Counts:
    """Return the counts with alpha at least `level`, or the nearest allowed."""
    counts = [
        nearest(space, int((alpha[space.name] >= level).sum())) if space.name in alpha else space.size
        for space in problem.channels.prunable
    ]
    return np.array(counts, dtype=np.int64)
