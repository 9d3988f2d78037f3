"""Move the mean of what is gone into the bias (FLAP, An et al., AAAI 2024; VBP, ICCV 2025).

b' = E[y] - W_K E[z]        y: the dense output, z: what the pruned network feeds the layer
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from prunec.compensation.interface import Compensator
from prunec.statistics.moments import Moments


@dataclass(frozen=True)
class Bias(Compensator):
    """Correct the means; the weights stay."""

    def fit(self, moments: Moments, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Return the unchanged weights and the bias that makes the mean output equal that of the dense network."""
        return weight, moments.mean_y - (weight @ moments.mean_z[:, :, None])[:, :, 0]
