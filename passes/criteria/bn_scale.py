"""Score channels by the scale of the batch norm; the smallest is removed first.

score_j = mean of |gamma_j| over the batch norms folded into the layers that produce or carry the channel

(Liu et al., "Network Slimming", ICCV 2017.) The paper trains with an L1 penalty on gamma; here training has none.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from prunec.errors import PassError
from prunec.selection.evidence import Evidence
from prunec.selection.interface import Criterion


@dataclass(frozen=True)
class BnScale(Criterion):
    """Absolute scale of the batch norm after the layers that produce a channel."""

    def scores(self, evidence: Evidence) -> Tensor:
        """Return the scores, float64 [size]. Raises PassError if no batch norm was folded."""
        scales = [maker.gamma for maker in evidence.makers if maker.gamma is not None]
        if not scales:
            raise PassError(
                f"bn-scale needs a batch norm after the layers that make {evidence.space.name}, and none was folded:"
                " use l2, or flap, which measures the spread instead"
            )
        return torch.stack(scales).mean(0)
