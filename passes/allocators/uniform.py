"""Keep an equal share of every space: the baseline of every paper."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prunec.allocation.greedy import nearest
from prunec.allocation.interface import Allocator
from prunec.allocation.problem import Allocation
from prunec.channels.spaces import Channels
from prunec.cost.terms import Counts, drop_useless_ranks


@dataclass(frozen=True)
class Uniform(Allocator):
    """Keep an equal share of every space, the largest that meets the target."""

    def counts(self, problem: Allocation) -> Counts:
        """Return the coordinates kept of each prunable space, int64 [spaces]."""
        channels, model, allowed = problem.channels, problem.model, problem.allowed
        low, high = 0.0, 1.0
        for _ in range(50):
            middle = (low + high) / 2
            fits = model.total(drop_useless_ranks(model, _share(channels, middle))) <= allowed
            low, high = (middle, high) if fits else (low, middle)
        return drop_useless_ranks(model, _share(channels, low))


def _share(channels: Channels, share: float) -> Counts:
    counts = [nearest(space, space.size * share) for space in channels.prunable]
    return np.array(counts, dtype=np.int64)
