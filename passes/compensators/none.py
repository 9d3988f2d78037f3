"""No compensation: the plain slice, for comparison."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from prunec.statistics.moments import Moments
from prunec.strategy import Compensator


@dataclass(frozen=True)
class NoCompensation(Compensator):
    """Keep the sliced weights."""

    sweeps = False

    def fit(self, moments: Moments, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """The weights as they are."""
        return weight, bias
