"""Score channels by the first-order change of the loss.

score_j = mean over samples of | sum over positions, and over readers, of a_j · dL/da_j |

(Molchanov et al., "Pruning Convolutional Neural Networks", ICLR 2017.) L is the surprise at labels drawn from the
network's own outputs: no label is read.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from prunec.selection.evidence import Evidence
from prunec.selection.interface import Criterion


@dataclass(frozen=True)
class Taylor(Criterion):
    """Absolute product of activation and gradient."""

    def scores(self, evidence: Evidence) -> Tensor:
        """Return the scores, float64 [size]."""
        return evidence.contributions.abs().mean(0)
