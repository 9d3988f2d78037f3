"""Score channels by the fluctuation they cause in a reader's output.

f_j = Var[x_j] · |W_:,j|_2²  of each reader,        score_j = mean over readers of ( f_j - mean f ) / std f

(An et al., "FLAP", AAAI 2024: weighted input feature variance.) With the mean of the removed channels moved into the
bias, f_j is the error of a channel by itself. Standardised by layer, so that one threshold serves the network.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from prunec.selection.evidence import Evidence
from prunec.selection.interface import Criterion
from prunec.solvers.least_squares import Reader


@dataclass(frozen=True)
class Flap(Criterion):
    """Variance of a channel times the squared weights that read it; `standardise` by layer."""

    standardise: bool = True

    def scores(self, evidence: Evidence) -> Tensor:
        """Return the scores, float64 [size]."""
        return torch.stack([self._of(reader) for reader in evidence.readers]).mean(0)

    def _of(self, reader: Reader) -> Tensor:
        variance = reader.covariance.diagonal(dim1=-2, dim2=-1)  # [g, d]
        each = (variance * reader.weight.square().sum(1)).sum(0)[reader.columns].sum(1)
        if not self.standardise:
            return each
        return (each - each.mean()) / each.std(correction=0).clamp_min(1e-150)
