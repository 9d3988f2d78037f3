"""Score channels by the change of features from reader to reader (experimental).

x_0 = 0 and x_1 … x_L the inputs of the space's readers, in graph order; d(x, y)² = (mean x - mean y)² + (sd x - sd y)²

score_j = gradient · sum_l d(x_l+1, x_l)  +  curvature · sum_l d(x_l+1 + x_l-1, 2 x_l)

(After Wu et al., "Feature Flow Regularization", 2021.) The paper penalises E|x_l+1 - x_l| and E|x_l+1 - 2 x_l + x_l-1|
in training and prunes by magnitude. Here only moments are known: d is the least root mean square of a difference that
they allow for normal values (Wasserstein's distance).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from prunec.selection.evidence import Evidence
from prunec.selection.interface import Criterion
from prunec.solvers.least_squares import Reader


@dataclass(frozen=True)
class Ffr(Criterion):
    """Change of a channel from reader to reader. `gradient` weighs the steps, `curvature` their changes."""

    gradient: float = 1.0
    curvature: float = 1.0

    def scores(self, evidence: Evidence) -> Tensor:
        """Return the scores, float64 [size]."""
        pairs = zip(evidence.readers, evidence.means, strict=True)
        flow = torch.stack([torch.zeros(evidence.space.size, 2).double(), *(_moments(*pair) for pair in pairs)])
        steps = flow.diff(dim=0)  # [L, size, 2]
        bends = steps.diff(dim=0)
        first, second = (each.square().sum(2).sqrt().sum(0) for each in (steps, bends))
        return self.gradient * first + self.curvature * second


def _moments(reader: Reader, mean: Tensor) -> Tensor:
    """Return mean and deviation of a reader's inputs by coordinate, float64 [size, 2]."""
    second = reader.covariance.diagonal(dim1=-2, dim2=-1) + mean.square()
    first, second = (each.mean(0)[reader.columns].mean(1) for each in (mean, second))
    return torch.stack([first, (second - first.square()).clamp_min(0).sqrt()], 1)
