"""Smallest weights first, by the Euclidean norm (He et al., "Soft Filter Pruning", IJCAI 2018).

score_j = sqrt( sum over the layers that make the channel of |W_j,:|_2² )
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from prunec.selection.evidence import Evidence
from prunec.selection.interface import Criterion


@dataclass(frozen=True)
class L2(Criterion):
    """The L2 norm of the weights that make a channel."""

    def scores(self, evidence: Evidence) -> Tensor:
        """Float64 [size]."""
        return torch.stack([weight.square().sum((1, 2)) for weight in evidence.producers]).sum(0).sqrt()
