"""Score channels by annealed indicators, learned end to end.

I = sigmoid(alpha / T),  T annealed 1 -> 1/50;  each layer reads  I · x + (1 - I) · mean x  in the place of x

minimise over alpha   D( dense, masked )   subject to   MACs(I) = target,   by Adam

score_j = alpha_j at the end (`prunec.selection.indicators`)

(After Guan et al., "DAIS", TNNLS 2022.) The paper learns the weights too, with labels; here they are frozen, and D is
the KL divergence to the outputs of the dense network.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from prunec.selection.evidence import Evidence
from prunec.selection.indicators import Annealing, indicators
from prunec.selection.interface import Criterion
from prunec.statistics.memo import once


@dataclass(frozen=True)
class Dais(Criterion):
    """Annealed indicators: `steps` of Adam at `rate`, each on `batch` of `images` images.

    The target is that of the run, or half of the MACs without one.
    """

    steps: int = 200
    rate: float = 0.03
    images: int = 128
    batch: int = 16

    def scores(self, evidence: Evidence) -> Tensor:
        """Return the scores, float64 [size]; those above 0 are to be kept."""
        program, context = evidence.program, evidence.context
        share = 0.5 if context.target is None else context.target.share_of_macs

        def search() -> dict[str, Tensor]:
            return indicators(program, context, share, Annealing(self.steps, self.rate, self.images, self.batch))

        return once(program, (self, share, context.images(), context.seed), search)[evidence.space.name]
