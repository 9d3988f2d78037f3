"""Build the terms of a cost from sides given as coordinates of channel spaces."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ..channels.spaces import Channels, Factoring
from .terms import Array, Term, Terms


class Builder:
    """Collects terms whose sides are coordinates of channel spaces."""

    def __init__(self, channels: Channels) -> None:
        self.sizes = np.array([space.size for space in channels.prunable], dtype=np.int64)
        self.names = [space.name for space in channels.prunable]
        self.gates = {node: self.names.index(one.space) for one in channels.branches for node in one.nodes}
        self.found: list[Term] = []
        self._space_of = torch.full((channels.count + 1,), len(channels.prunable))  # last: -1, no space
        for place, space in enumerate(channels.prunable):
            self._space_of[space.coordinates] = place

    def add(
        self,
        scale: float,
        a: Tensor | None = None,
        b: Tensor | None = None,
        factoring: Factoring | None = None,
        parts: tuple[float, float, float] | None = None,
        gate: int | None = None,
    ) -> int:
        """Add scale · a · b; return its index.

        A factorable layer also takes the costs of its first, middle and second part, or `parts`; `gate` is the index of
        the space of its branch.
        """
        one = Term(scale, self._rows(a), self._rows(b), gate=gate)
        if factoring is not None:
            costs = parts or (factoring.first, factoring.middle, factoring.second)
            one = replace(one, rank=self.names.index(factoring.space), parts=costs)
        self.found.append(one)
        return len(self.found) - 1

    def terms(self) -> Terms:
        """Return the sum of all terms."""
        return Terms(tuple(self.found), self.sizes)

    def _rows(self, side: Tensor | None) -> Array:
        """Count the channels of a side by space, [spaces + 1]; last, those of none."""
        if side is None:
            return np.append(np.zeros(len(self.sizes)), 1.0)
        counts = np.bincount(self._space_of[side].numpy(), minlength=len(self.sizes) + 1).astype(np.float64)
        counts[:-1] /= self.sizes
        return counts
