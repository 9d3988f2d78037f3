"""Least squares with asymmetric, sequential targets (He et al. 2017, section 3.2), and a ridge that is chosen a layer.

    min over W', b' of  E|y - W' z - b'|² + r |W' - W_K|²,       r = ridge · mean diag Cov[z]
    W' = (Cov[y, z] + r W_K) (Cov[z] + r I)^-1,                  b' = E[y] - W' E[z]

z is what the *pruned* network really feeds the layer, y what the *dense* network really gave (before a residual add,
less what the pruned shortcut already brings). The ridge shrinks towards the sliced original weight W_K, not to zero.
It is the one, of `RIDGES`, whose fits to all folds but one have the least error on that (`prunec.statistics.folds`), or
the layer is left as it is where none has less.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from prunec.compensation.clamped_fit import fitted_through
from prunec.compensation.interface import Change, Compensator, Fit, Fits, unchanged
from prunec.compensation.ridges import RIDGES, START, USUAL, Trials, ridge_fit
from prunec.statistics.folds import Folds
from prunec.statistics.moments import Moments

CHOICES = 2  # of the ridge of a layer, of which the second is for targets behind a clamp


@dataclass(frozen=True)
class Sequential(Compensator):
    """Refit weight and bias in closed form; `ridge` is relative to the mean variance of the inputs.

    Without one it is chosen for each layer.
    """

    ridge: float | None = None

    def fit(self, moments: Moments, weight: Tensor, bias: Tensor) -> Fit:
        """The refitted weight and bias, with as much more ridge as few rows ask for (`Moments.shrinkage`)."""
        share = moments.shrinkage.clamp(max=0.999)
        return ridge_fit(moments, weight, (RIDGES[USUAL] if self.ridge is None else self.ridge) + share / (1 - share))

    def fits(self, folds: Folds, weight: Tensor, bias: Tensor, then: Change = unchanged) -> Fits:
        """Fits to all images and to those outside each part of the folds, through a clamp where one follows.

        The ridge is chosen anew for the first targets that are free, which are easier to meet.
        """
        place, steps = START, 0
        fit: Callable[[Moments, Tensor, Tensor], Fit] = self.fit
        choose = self.ridge is None and len(folds.parts) > 1

        def fits_of(each: Folds) -> Fits:
            nonlocal place, steps, fit
            if choose and steps < CHOICES:
                place, fit = _chosen(each, weight, bias, place)
            steps += 1
            return self.fits_by(fit, each, weight, bias)

        return fitted_through(folds, fits_of, then)


def _chosen(
    folds: Folds, weight: Tensor, bias: Tensor, start: int
) -> tuple[int, Callable[[Moments, Tensor, Tensor], Fit]]:
    """The place of the best ridge, searched from `start`, and the fit with it, or with the layer as it is."""
    trials = Trials(folds, weight)
    best = trials.best(start)
    if trials.error_of(weight, bias) <= trials.error(best):
        return best, lambda _, same, bias: (same, bias)
    rows = float(folds.rest.count.mean())  # of the fits by which it was chosen: fewer ask for more, r = c / n
    return best, lambda moments, weight, _: ridge_fit(moments, weight, RIDGES[best] * rows / moments.count)
