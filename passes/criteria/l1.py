"""Score channels by the absolute weights that produce them.

score_j = sum over the layers that make the channel of |W_j,:|_1

(Li et al., "Pruning Filters for Efficient ConvNets", ICLR 2017.)
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from prunec.selection.evidence import Evidence
from prunec.selection.interface import Criterion


@dataclass(frozen=True)
class L1(Criterion):
    """L1 norm of the weights that produce a channel."""

    def scores(self, evidence: Evidence) -> Tensor:
        """Return the scores, float64 [size]."""
        score: Tensor = sum(weight.abs().sum((1, 2)) for weight in evidence.producers)  # type: ignore[assignment]
        return score
