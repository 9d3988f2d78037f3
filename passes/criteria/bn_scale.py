"""Smallest scale of the batch norm first (Liu et al., "Network Slimming", ICCV 2017).

score_j = mean over the batch norms that were folded into the layers which make or carry the channel of |gamma_j|

The paper trains with an L1 penalty on gamma; here the gammas are as training without it left them.
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
    """The absolute scale of the batch norm after the layers that make a channel."""

    def scores(self, evidence: Evidence) -> Tensor:
        """Float64 [size]. Raises PassError where no batch norm was folded into any of the layers."""
        scales = [maker.gamma for maker in evidence.makers if maker.gamma is not None]
        if not scales:
            raise PassError(
                f"bn-scale needs a batch norm after the layers that make {evidence.space.name}, and none was folded:"
                " use l2, or flap, which measures the spread instead"
            )
        return torch.stack(scales).mean(0)
