"""Filters near the geometric median of their layer first (He et al., "FPGM", CVPR 2019).

score_j = sum over the layers that make the channel of  sum_i |W_j,: - W_i,:|_2

What the other filters can stand in for is what may go, not what is small.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from prunec.selection.evidence import Evidence
from prunec.selection.interface import Criterion


@dataclass(frozen=True)
class GeometricMedian(Criterion):
    """The distances from a channel's filter to all others of its layer."""

    def scores(self, evidence: Evidence) -> Tensor:
        """Float64 [size]."""
        filters = [weight.flatten(1) for weight in evidence.producers]
        exact = "donot_use_mm_for_euclid_dist"
        return torch.stack([torch.cdist(one, one, compute_mode=exact).sum(1) for one in filters]).sum(0)
