"""Choose the ridge of a least-squares fit by its error on a left-out fold.

    W' = (Cov[y, z] + r W_K) (Cov[z] + r I)^-1,      b' = E[y] - W' E[z],      r = ridge · mean diag Cov[z]

W_K is the sliced original weight. The error is closed form (`Parts.error`); over the ridges it falls, then rises.
"""

from __future__ import annotations

from torch import Tensor

from ..solvers.symmetric import ridge_level
from ..statistics.folds import Folds
from ..statistics.moments import Moments
from ..statistics.parts import Parts
from .interface import Fit

RIDGES = (1e-5, 1e-4, 1e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0, 10.0, 100.0, 1e4)  # from nearly none to "leave it"
USUAL = 2  # place of the default
START = 5  # place of the first tried


class Trials:
    """Fits by place in `RIDGES` without some images, and their errors on those."""

    def __init__(self, folds: Folds, weight: Tensor) -> None:
        (self._own, self._rest), self._weight = folds.judges, weight
        self._errors: dict[int, float] = {}

    def best(self, start: int = START) -> int:
        """Return the place of the least error, upwards from `start`, else downwards."""
        for step in (1, -1):
            place = start
            while 0 <= place + step < len(RIDGES) and self.error(place + step) < self.error(place):
                place += step
            if place != start:
                return place
        return start

    def error(self, place: int) -> float:
        """Return the squared error of a few parts' rows, by fits without them."""
        if place not in self._errors:
            self._errors[place] = self.error_of(*_each_fit(self._rest, self._weight, RIDGES[place]))
        return self._errors[place]

    def error_of(self, weight: Tensor, bias: Tensor) -> float:
        """Return the squared error of those rows. Fits are [p, g, o, d] and [p, g, o]."""
        return float(self._own.error(weight, bias).sum((1, 2)) @ self._own.count)


def _each_fit(parts: Parts, weight: Tensor, ridge: float) -> Fit:
    """Return weights [p, g, o, d] and biases [p, g, o], fitted per part."""
    repeated = weight.repeat(len(parts), 1, 1)
    matrix, bias = ridge_fit(parts.as_groups(), repeated, ridge)
    return matrix.unflatten(0, (len(parts), -1)), bias.unflatten(0, (len(parts), -1))


def ridge_fit(moments: Moments, weight: Tensor, ridge: float | Tensor) -> Fit:
    """Return weight [g, o, d] and bias [g, o]. The ridge is a number, or [g] by group."""
    level = ridge_level(moments.zz, ridge)[:, None, None]  # r
    fitted = moments.solved(ridge, moments.zy + level * weight.mT).mT
    return fitted, moments.mean_y - (fitted @ moments.mean_z[:, :, None])[:, :, 0]
