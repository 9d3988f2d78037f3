"""Score channels by the energy of the weights into and out of them.

E_j = sum over makers |W_j,:|² + sum over readers |W_:,j|²,        score_j = E_j / mean over the space of E

(Li et al., "OICSR", CVPR 2019.) Batch norms are folded before, or the scale of a maker would be arbitrary. The paper
trains with the group's norm as a penalty; here training has none.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from prunec.selection.evidence import Evidence
from prunec.selection.interface import Criterion


@dataclass(frozen=True)
class Oicsr(Criterion):
    """Squared weights into and out of a channel, relative to the mean of its layer."""

    def scores(self, evidence: Evidence) -> Tensor:
        """Return the scores, float64 [size]."""
        weights = [*evidence.producers, *evidence.consumers]
        energy = torch.stack([weight.square().sum((1, 2)) for weight in weights]).sum(0)
        return energy / energy.mean().clamp_min(1e-150)
