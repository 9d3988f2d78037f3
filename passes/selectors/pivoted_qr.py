"""Order channels by column-pivoted QR of the activations.

    pivot = argmax_j tr(S_jj - L_j L_j'),   L its Cholesky factor so far,   S = Cov[x];  the last pivot is removed first

(Chee et al., NeurIPS 2022, "Model Preserving Compression"; LinDeps 2025.) The R of a pivoted QR of centred activations
is the pivoted Cholesky factor of their covariance, so no activation is kept. The taps of a channel are one block. The
readers' weights are ignored: a channel is removed because others predict it. The error curve is exact least squares
along the order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from prunec.selection.evidence import Evidence
from prunec.selection.interface import Selector
from prunec.solvers.least_squares import LEAST_VARIANCE, Reader, along
from prunec.solvers.symmetric import add_ridge, cholesky
from prunec.statistics.facts import Curve


@dataclass(frozen=True)
class PivotedQr(Selector):
    """Keep the channel that the kept ones predict worst, repeatedly.

    Of several readers each counts relative to its inputs' variance. `ridge` is relative to the mean variance.
    """

    ridge: float = 1e-3

    def curve(self, evidence: Evidence) -> Curve:
        """Return the removal order, and the compensated error along it."""
        order = _pivots(evidence.readers, self.ridge).flip(0)
        return Curve(order, along(evidence.readers, order, self.ridge))


def _pivots(readers: Sequence[Reader], ridge: float) -> Tensor:
    states = [_Factor(reader, ridge) for reader in readers]
    left = torch.arange(len(readers[0].columns))
    found = []
    while len(left):  # ends: each round takes one
        place = int(torch.stack([state.left(left) for state in states]).sum(0).argmax())
        found.append(int(left[place]))
        for state in states:
            state.take(found[-1])
        left = left[torch.arange(len(left)) != place]
    return torch.tensor(found)


class _Factor:
    """Partial Cholesky factor of one reader's covariance."""

    def __init__(self, reader: Reader, ridge: float) -> None:
        self.width = reader.columns.shape[1]
        columns = reader.columns.flatten()
        self.covariance = add_ridge(reader.covariance[:, columns[:, None], columns], ridge)
        self.diagonal = self.covariance.diagonal(dim1=1, dim2=2).clone()
        self.scale = 1.0 / max(float(self.diagonal.sum()), LEAST_VARIANCE)
        self.rows = torch.zeros_like(self.covariance)
        self.known = 0

    def left(self, places: Tensor) -> Tensor:
        """Compute the variance of each coordinate in `places` unexplained by the pivots."""
        return self.diagonal.reshape(len(self.diagonal), -1, self.width).sum((0, 2))[places] * self.scale

    def take(self, place: int) -> None:
        own = slice(place * self.width, (place + 1) * self.width)
        end = self.known + self.width
        past = self.rows[:, :, : self.known]
        cross = self.covariance[:, :, own] - past @ past[:, own].mT
        factor = cholesky((cross[:, own] + cross[:, own].mT) / 2, (1e-9, 1e-6, 1e-3, 1.0, 100.0))
        self.rows[:, :, self.known : end] = torch.linalg.solve_triangular(factor, cross.mT, upper=False).mT
        self.diagonal -= self.rows[:, :, self.known : end].square().sum(2)
        self.known = end
