"""As many as annealed indicators leave open (DAIS: Guan et al., 2011.02166; `prunec.selection.indicators`).

Every channel gets an indicator that is optimised through the whole network, weights frozen and no label read. It sees
what layerwise errors do not, and overrates the damage, for it knows no refit but that of a bias: so only the *counts*
are taken from it, and the selector's order says which channels go.
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
from prunec.selection.indicators import indicators

TRIED = 64


@dataclass(frozen=True)
class Dais(Allocator):
    """Optimise the indicators for `steps` steps of Adam at `rate`, each on `batch` of `images` images.

    All that is too much goes by them, or all but one of `cuts` equal parts of it, all but two, …; the rest goes by the
    error curves, which know ranks and branches too. The best by the outputs, of these and of what allocators find that
    try no network, is moved about: `moves` networks more, each on `TRIED` images.
    """

    steps: int = 200
    rate: float = 0.05
    images: int = 256
    batch: int = 32
    cuts: int = 4
    moves: int = 32

    def counts(self, problem: Allocation) -> Counts:
        """Coordinates kept of each prunable space."""
        alpha = self.indicators(problem)
        oracle = Oracle(problem, TRIED)
        levels = np.linspace(problem.allowed, problem.model.total(), self.cuts, endpoint=False)
        ends = oracle.ends(_cut(problem, alpha, float(level)) for level in levels)
        best = oracle.best([*ends, *oracle.cheaper()])
        return oracle.moved(best, self.moves)

    def indicators(self, problem: Allocation) -> dict[str, Tensor]:
        """By space: alpha of each coordinate. Raises PassError where the problem has no network."""
        if problem.program is None or problem.context is None:
            raise PassError("this allocator runs the network, and was given none")
        share = problem.allowed / max(problem.model.total(), 1)
        program, context = problem.program, problem.context
        return indicators(program, context, share, self.steps, self.rate, self.images, batch=self.batch)


def _cut(problem: Allocation, alpha: dict[str, Tensor], allowed: float) -> Counts:
    """The most that have an alpha above some level and cost no more than is allowed."""
    levels = sorted({float(value) for one in alpha.values() for value in one})
    low, high = 0, len(levels)  # cut below levels[high]: with all of them nothing but the fewest stay
    while low < high:  # ends: the gap halves
        middle = (low + high) // 2
        fits = problem.model.total(_open(problem, alpha, levels[middle])) <= allowed
        low, high = (low, middle) if fits else (middle + 1, high)
    return _open(problem, alpha, levels[low] if low < len(levels) else np.inf)


def _open(problem: Allocation, alpha: dict[str, Tensor], level: float) -> Counts:
    """The counts that have an alpha of at least `level`, or the nearest that may stay."""
    counts = [
        nearest(space, int((alpha[space.name] >= level).sum())) if space.name in alpha else space.size
        for space in problem.channels.prunable
    ]
    return np.array(counts, dtype=np.int64)
