"""Score channels by the shift of the next layer's outputs without them.

score_j = sum over readers of  mean_n | E[a_j] · sum over positions of W_n,j |

(Duan et al., "Feature Shift Minimization", ACCV 2022.) Data-free, a_j = max(z_j, 0) with z_j ~ N(beta, gamma²) from the
folded batch norm, so that

    E[a_j] = beta Phi(beta/gamma) + gamma phi(beta/gamma);

in a residual stream z_j is the sum of the outputs of all layers before the reader, their betas and gamma² summed; a
depthwise layer with a batch norm starts anew. Measured, E[a_j] is the mean of the reader's inputs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from prunec.channels.matrix import Blocks
from prunec.channels.spaces import Contraction
from prunec.errors import PassError
from prunec.selection.evidence import Evidence
from prunec.selection.interface import Criterion


@dataclass(frozen=True)
class Fsm(Criterion):
    """Shift of the readers' outputs without a channel. `measured` on images, or from batch norms alone."""

    measured: bool = False

    def scores(self, evidence: Evidence) -> Tensor:
        """Return the scores, float64 [size]. Raises PassError if a maker has no batch norm, unless `measured`."""
        return torch.stack([self._of(evidence, place) for place in range(len(evidence.layers))]).sum(0)

    def _of(self, evidence: Evidence, place: int) -> Tensor:
        one, reader, mean = evidence.layers[place], evidence.readers[place], evidence.means[place]
        if not self.measured:
            mean = torch.zeros_like(mean)
            mean[:, reader.columns] = _expected(evidence, one)[:, None]
        shift = (reader.weight * mean[:, None])[:, :, reader.columns].sum(-1)  # [g, o, size]
        blocks = Blocks.of(one)
        if blocks.folded:  # o counts the positions of a channel, too
            shift = shift.unflatten(1, (-1, blocks.taps)).sum(2)
        return shift.abs().mean((0, 1))


def _expected(evidence: Evidence, reader: Contraction) -> Tensor:
    """Return the expected activation of each coordinate at one reader, from batch norms."""
    order = {one.node: place for place, one in enumerate(evidence.channels.contractions)}
    mean = variance = torch.zeros(evidence.space.size, dtype=torch.float64)
    for maker in evidence.makers:
        if order[maker.layer.node] >= order[reader.node]:
            continue
        if maker.beta is None or maker.gamma is None:
            raise PassError(
                f"fsm needs a batch norm after every layer that makes {evidence.space.name}, and none was folded into"
                f" {maker.layer.weight}: use fsm{{measured=true}}"
            )
        before = 0.0 if maker.layer.by_group else 1.0
        mean, variance = before * mean + maker.beta, before * variance + maker.gamma.square()
    deviation = variance.sqrt().clamp_min(1e-12)
    ratio = mean / deviation
    density = torch.exp(-ratio.square() / 2) / math.sqrt(2 * math.pi)
    below: Tensor = torch.special.ndtr(ratio)
    return mean * below + deviation * density
