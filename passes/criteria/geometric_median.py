"""Score filters by their distance from the others of their layer.

score_j = sum over the layers that make the channel of  sum_i |W_j,: - W_i,:|_2

(He et al., "FPGM", CVPR 2019.) Filters near the geometric median are removed first: others can replace them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from prunec.selection.evidence import Evidence
from prunec.selection.interface import Criterion


@dataclass(frozen=True)
class GeometricMedian(Criterion):
    """Sum of the distances from a channel's filter to all others of its layer."""

    def scores(self, evidence: Evidence) -> Tensor:
        """Return the scores, float64 [size]."""
        filters = [weight.flatten(1) for weight in evidence.producers]
        exact = "donot_use_mm_for_euclid_dist"
        return torch.stack([torch.cdist(one, one, compute_mode=exact).sum(1) for one in filters]).sum(0)
