"""Order channels by the regularisation path of a LASSO.

    min over beta  1/2 E|sum_j (1 - beta_j) W_j x_j|² + m |beta|_1  =  1/2 beta'Q beta - c'beta + m |beta|_1 + const,
    Q_ij = tr(W_i S_ij W_j'),    c_i = sum_j Q_ij,    summed over the readers, each relative to its output's variance

(He, Zhang & Sun, ICCV 2017.) The paper solves for one penalty m; here m falls from where every beta is 0, and the
channel that enters last is removed first. Moments suffice, so no sample is kept. As in the paper, the chosen channels
are refitted: the error curve is exact least squares along the order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from prunec.selection.evidence import Evidence
from prunec.selection.interface import Selector
from prunec.solvers.least_squares import Reader, along
from prunec.statistics.facts import Curve

Array = npt.NDArray[np.float64]
ZERO = 1e-9  # below it a beta is rounding
STEPS = 64  # of n coordinates n // STEPS enter at once
LOOSE = 1e-3  # relative to the penalty: gradients that differ by less are equal


@dataclass(frozen=True)
class Lasso(Selector):
    """Follow the LASSO path for `steps` penalties down to `least` of the largest.

    Coordinate descent of `sweeps` sweeps. Channels that enter together are removed in the order of their betas. `ridge`
    is relative to the mean variance of the inputs.
    """

    steps: int = 100
    least: float = 1e-3
    sweeps: int = 50
    ridge: float = 1e-3

    def curve(self, evidence: Evidence) -> Curve:
        """Return the removal order, and the compensated error along it."""
        quadratic = _quadratic(evidence.readers)
        order = torch.from_numpy(self._order(quadratic, quadratic.sum(1)))
        return Curve(order, along(evidence.readers, order, self.ridge))

    def _order(self, quadratic: Array, linear: Array) -> npt.NDArray[np.int64]:
        size = len(linear)
        beta, entered, weight = np.zeros(size), np.zeros(size), np.zeros(size)
        highest = max(float(np.abs(linear).max()), 1e-30)
        for penalty in highest * np.geomspace(1.0, self.least, self.steps):
            beta = self._descend(quadratic, linear, float(penalty), beta)
            new = (entered == 0) & (np.abs(beta) > ZERO)
            entered[new], weight[new] = penalty, np.abs(beta[new])
        rest = np.abs(linear - quadratic @ beta)
        weight = np.where(entered > 0, weight, rest)
        return np.lexsort((weight, entered)).astype(np.int64)

    def _descend(self, quadratic: Array, linear: Array, penalty: float, beta: Array) -> Array:
        """Minimise from `beta` at one penalty, by coordinate descent.

        Few coordinates enter at a time, once the active ones have converged, so that equivalent ones do not share.
        """
        beta = beta.copy()
        slack = linear - quadratic @ beta  # minus the gradient
        limit = penalty * (1 + LOOSE)
        few = max(1, len(beta) // STEPS)
        for _ in range(len(beta)):
            self._settle(quadratic, penalty, beta, slack)
            excess = np.where(beta == 0, np.abs(slack), 0.0)
            if excess.max() <= limit:
                break
            for place in (-excess).argsort(kind="stable")[:few]:
                if abs(slack[place]) > limit:
                    _move(quadratic, penalty, beta, slack, int(place))
        return beta

    def _settle(self, quadratic: Array, penalty: float, beta: Array, slack: Array) -> None:
        """Sweep over the active coordinates, in place."""
        active = beta.nonzero()[0].tolist()
        for _ in range(self.sweeps):
            moved = max((_move(quadratic, penalty, beta, slack, place) for place in active), default=0.0)
            if moved <= 0.1 * LOOSE * penalty:
                break


def _move(quadratic: Array, penalty: float, beta: Array, slack: Array, place: int) -> float:
    """Set one coordinate to its optimum, in place; return its gradient's error."""
    own = max(float(quadratic[place, place]), 1e-30)
    free = float(slack[place]) + own * float(beta[place])
    best = float(np.sign(free)) * max(abs(free) - penalty, 0.0) / own
    change = best - float(beta[place])
    if change:
        beta[place] = best
        slack -= quadratic[:, place] * change
    return abs(change) * own


def _quadratic(readers: Sequence[Reader]) -> Array:
    """Return Q, [size, size]."""
    size = len(readers[0].columns)
    total = torch.zeros(size, size, dtype=torch.float64)
    for reader in readers:
        every = ((reader.weight.mT @ reader.weight) * reader.covariance).sum(0)
        columns = reader.columns.flatten()
        blocks = every[columns[:, None], columns].reshape(size, -1, size, reader.columns.shape[1])
        total += blocks.sum((1, 3)) * reader.scale
    found: Array = total.numpy()
    return found
