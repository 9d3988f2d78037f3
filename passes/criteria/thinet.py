"""Rank channels by greedy removal of those whose contributions cancel.

Of the removed set T and each channel i outside it, add the one with the least

    E | sum over c in T + i of W_:,c x_c |² = sum over i, j in T + i of Q_ij,    Q_ij = tr( W_i E[x x']_ij W_j' )

score_i = the place at which i is removed (Luo et al., "ThiNet", ICCV 2017). The paper sums sampled contributions; here
their second moments give an equal sum. Each reader counts relative to the variance of its output. `centred` takes the
covariance, as if the bias compensated the means.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from prunec.selection.evidence import Evidence
from prunec.selection.interface import Criterion
from prunec.solvers.least_squares import Reader


@dataclass(frozen=True)
class Thinet(Criterion):
    """Rank of a channel in greedy backward removal, without refitting."""

    centred: bool = False

    def scores(self, evidence: Evidence) -> Tensor:
        """Return the scores, float64 [size]: 0 for the first removed."""
        pairs = zip(evidence.readers, evidence.means, strict=True)
        together = torch.stack([self._of(reader, mean) for reader, mean in pairs]).sum(0)
        cost, score = together.diagonal().clone(), torch.zeros(len(together), dtype=torch.float64)
        for rank in range(len(together)):
            taken = int(cost.argmin())
            score[taken] = rank
            cost += 2 * together[taken]
            cost[taken] = torch.inf
        return score

    def _of(self, reader: Reader, mean: Tensor) -> Tensor:
        """Return Q of one reader, [size, size]."""
        moment = reader.covariance if self.centred else reader.covariance + mean[:, :, None] * mean[:, None, :]
        every = (reader.weight.mT @ reader.weight).mul_(moment).sum(0)  # [d, d]
        size, columns = reader.columns.shape
        owned = reader.columns.flatten()
        blocks = every[owned[:, None], owned].reshape(size, columns, size, columns)
        return blocks.sum((1, 3)) * reader.scale
