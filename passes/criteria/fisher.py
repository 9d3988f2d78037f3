"""Score channels by the second-order change of the loss.

score_j = 1/2 · mean over samples of ( sum over positions, and over readers, of a_j · dL/da_j )²

(Theis et al., "Faster gaze prediction", 2018; Liu et al., ICML 2021.) L is the surprise at labels drawn from the
network's own outputs, for which the mean squared gradient is the Fisher information, and so the curvature of the loss:
no label is read.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from prunec.selection.evidence import Evidence
from prunec.selection.interface import Criterion


@dataclass(frozen=True)
class Fisher(Criterion):
    """Squared product of activation and gradient."""

    def scores(self, evidence: Evidence) -> Tensor:
        """Return the scores, float64 [size]."""
        return evidence.contributions.square().mean(0) / 2
