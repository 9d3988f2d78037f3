"""Score channels by the largest weight that makes them.

score_j = max over the layers that make the channel of |W_j,:|^power
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from prunec.selection.evidence import Evidence
from prunec.selection.interface import Criterion


@dataclass(frozen=True)
class Peak(Criterion):
    """The largest weight that makes a channel, raised to `power`."""

    power: float = 1.0

    def scores(self, evidence: Evidence) -> Tensor:
        """Return float64 [size]."""
        peaks = [weight.abs().amax((1, 2)) for weight in evidence.producers]
        return torch.stack(peaks).amax(0) ** self.power
