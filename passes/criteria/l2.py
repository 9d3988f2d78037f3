"""Score channels by the Euclidean norm of the weights that produce them.

score_j = sqrt( sum over the layers that make the channel of |W_j,:|_2² )

(He et al., "Soft Filter Pruning", IJCAI 2018.)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from prunec.selection.evidence import Evidence
from prunec.selection.interface import Criterion


@dataclass(frozen=True)
class L2(Criterion):
    """L2 norm of the weights that produce a channel."""

    def scores(self, evidence: Evidence) -> Tensor:
        """Return the scores, float64 [size]."""
        return torch.stack([weight.square().sum((1, 2)) for weight in evidence.producers]).sum(0).sqrt()
