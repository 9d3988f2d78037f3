"""Least second-order change of the loss first (Theis et al., "Faster gaze prediction", 2018; Liu et al., ICML 2021).

score_j = 1/2 · mean over samples of ( sum over positions, and over readers, of a_j · dL/da_j )²

L is the surprise at labels that are drawn from the network's own outputs, for which the mean of the squared gradient is
the Fisher information, and so the curvature of the loss: no label is read.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from prunec.selection.evidence import Evidence
from prunec.selection.interface import Criterion


@dataclass(frozen=True)
class Fisher(Criterion):
    """The squared product of activation and gradient."""

    def scores(self, evidence: Evidence) -> Tensor:
        """Float64 [size]."""
        return evidence.contributions.square().mean(0) / 2
