"""Least first-order change of the loss first (Molchanov et al., "Pruning Convolutional Neural Networks", ICLR 2017).

score_j = mean over samples of | sum over positions, and over readers, of a_j · dL/da_j |

L is the surprise at labels that are drawn from the network's own outputs: no label is read.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from prunec.selection.evidence import Evidence
from prunec.selection.interface import Criterion


@dataclass(frozen=True)
class Taylor(Criterion):
    """The absolute product of activation and gradient."""

    def scores(self, evidence: Evidence) -> Tensor:
        """Float64 [size]."""
        return evidence.contributions.abs().mean(0)
