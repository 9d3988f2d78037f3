"""The same share of every space stays: the baseline of every paper."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prunec.budget import budget
from prunec.channels.spaces import Channels, Space
from prunec.cost import Counts, Macs
from prunec.facts import Curves
from prunec.strategy import Allocator
from prunec.target import Target


@dataclass(frozen=True)
class Uniform(Allocator):
    """The largest share that meets the target, found by bisection."""

    def counts(self, channels: Channels, curves: Curves, target: Target) -> Counts:
        """Coordinates kept of each prunable space."""
        model = Macs.of(channels)
        allowed = budget(channels, model, target)
        low, high = 0.0, 1.0
        for _ in range(50):
            middle = (low + high) / 2
            low, high = (middle, high) if model.total(_share(channels, middle)) <= allowed else (low, middle)
        return _share(channels, low)


def _share(channels: Channels, share: float) -> Counts:
    counts = [_below(space, int(np.floor(space.size * share + 1e-9))) for space in channels.prunable]
    return np.array(counts, dtype=np.int64)


def _below(space: Space, count: int) -> int:
    """The largest count up to this one that may stay, or the fewest."""
    while count > space.fewest and not space.may_keep(count):
        count -= 1
    return max(count, space.fewest)
