"""Refit layers by least squares with asymmetric, sequential targets.

    min over W', b' of  E|y - W' z - b'|² + r |W' - W_K|²,       r = ridge · mean diag Cov[z]
    W' = (Cov[y, z] + r W_K) (Cov[z] + r I)^-1,                  b' = E[y] - W' E[z]

(He et al. 2017, section 3.2.) z is the layer's input in the *pruned* network, y its output in the *dense* one (before a
residual add, less the drift of the pruned shortcut). The ridge shrinks towards the sliced weight W_K, not to zero. It
is the one of `RIDGES` with the least cross-validated error (`prunec.statistics.folds`); if none improves on the layer,
the layer is unchanged.
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
    """Refit weight and bias in closed form, by sequential least squares.

    `ridge` is relative to the mean variance of the inputs; None chooses it for each layer.
    """

    ridge: float | None = None

    def fit(self, moments: Moments, weight: Tensor, bias: Tensor) -> Fit:
        """Return the refitted weight and bias, with more ridge for few rows (`Moments.shrinkage`)."""
        share = moments.shrinkage.clamp(max=0.999)
        return ridge_fit(moments, weight, (RIDGES[USUAL] if self.ridge is None else self.ridge) + share / (1 - share))

    def fits(self, folds: Folds, weight: Tensor, bias: Tensor, then: Change = unchanged) -> Fits:
        """Fit all images and those outside each part of the folds, through any clamp.

        The ridge is chosen anew for the first unclamped targets, which are easier to meet.
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
    """Return the index of the best ridge, searched from `start`, and its fit.

    The fit is the unchanged layer if no ridge is better.
    """
    trials = Trials(folds, weight)
    best = trials.best(start)
    if trials.error_of(weight, bias) <= trials.error(best):
        return best, lambda _, same, bias: (same, bias)
    rows = float(folds.judges[1].count.mean())  # of the fits by which it was chosen: fewer ask for more, r = c / n
    return best, lambda moments, weight, _: ridge_fit(moments, weight, RIDGES[best] * rows / moments.count)
