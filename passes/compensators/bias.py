"""Move the mean of the removed channels into the bias.

b' = E[y] - W_K E[z]        y: the dense output, z: the layer's input in the pruned network

(FLAP: An et al., AAAI 2024; VBP: ICCV 2025.)
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from prunec.compensation.interface import Compensator
from prunec.statistics.moments import Moments


@dataclass(frozen=True)
class Bias(Compensator):
    """Correct the means by the bias; the weights are unchanged."""

    def fit(self, moments: Moments, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Return the unchanged weights and the bias that restores the dense mean output."""
        return weight, moments.mean_y - (weight @ moments.mean_z[:, :, None])[:, :, 0]
