"""As many as annealed indicators leave open (DAIS: Guan et al., 2011.02166; prunec/indicators.py has the formulas).

Every channel gets an indicator that is optimised through the whole network, weights frozen and no label read. It sees
what layerwise errors do not, and overrates the damage, for it knows no refit but that of a bias: so only the *counts*
are taken from it, and the selector's order says which channels go.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from prunec.allocation import Allocation
from prunec.cost import Counts
from prunec.errors import PassError
from prunec.indicators import indicators
from prunec.spending import afford, give_back, nearest
from prunec.strategy import Allocator


@dataclass(frozen=True)
class Dais(Allocator):
    """Optimise the indicators for `steps` steps of Adam at `rate`, each on `batch` of `images` images.

    Layers stay whole unless the budget cannot be met so.
    """

    steps: int = 200
    rate: float = 0.05
    images: int = 256
    batch: int = 32

    def counts(self, problem: Allocation) -> Counts:
        """Coordinates kept of each prunable space."""
        if problem.program is None or problem.context is None:
            raise PassError("this allocator runs the network, and was given none")
        model, allowed = problem.model, problem.allowed
        share = allowed / max(model.total(), 1)
        alpha = indicators(
            problem.program, problem.context, share, self.steps, self.rate, self.images, batch=self.batch
        )
        levels = sorted({float(value) for one in alpha.values() for value in one})
        low, high = 0, len(levels)  # cut below levels[high]: with all of them nothing but the fewest stay
        while low < high:  # ends: the gap halves
            middle = (low + high) // 2
            fits = model.total(_open(problem, alpha, levels[middle])) <= allowed
            low, high = (low, middle) if fits else (middle + 1, high)
        counts = _open(problem, alpha, levels[low] if low < len(levels) else np.inf)
        counts = afford(model, problem.errors, counts, allowed, problem.inside)
        return give_back(model, problem.errors, counts, allowed, inside=problem.inside)


def _open(problem: Allocation, alpha: dict[str, Tensor], level: float) -> Counts:
    """The counts that have an alpha of at least `level`, or the nearest that may stay."""
    counts = [
        nearest(space, int((alpha[space.name] >= level).sum())) if space.name in alpha else space.size
        for space in problem.channels.prunable
    ]
    return np.array(counts, dtype=np.int64)
