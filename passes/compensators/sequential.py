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

from prunec.clamped import fitted_through
from prunec.ridges import RIDGES, START, Trials, ridge_fit
from prunec.statistics.folds import Folds
from prunec.statistics.moments import Moments
from prunec.strategy import Change, Compensator, Fit, Fits, unchanged


@dataclass(frozen=True)
class Sequential(Compensator):
    """Refit weight and bias in closed form; `ridge` is relative to the mean variance of the inputs.

    Without one it is chosen for each layer.
    """

    ridge: float | None = None

    def fit(self, moments: Moments, weight: Tensor, bias: Tensor) -> Fit:
        """The refitted weight and bias, with as much more ridge as few rows ask for (`Moments.shrinkage`)."""
        share = moments.shrinkage.clamp(max=0.999)
        return ridge_fit(moments, weight, (RIDGES[START] if self.ridge is None else self.ridge) + share / (1 - share))

    def fits(self, folds: Folds, weight: Tensor, bias: Tensor, then: Change = unchanged) -> Fits:
        """Fits to all images and to those outside each part of the folds, through a clamp where one follows.

        The ridge is chosen anew for the targets of each step: those that are free are easier to meet.
        """

        def fits_of(each: Folds) -> Fits:
            return self.fits_by(self.chosen(each, weight, bias), each, weight, bias)

        return fitted_through(folds, fits_of, then)

    def chosen(self, folds: Folds, weight: Tensor, bias: Tensor) -> Callable[[Moments, Tensor, Tensor], Fit]:
        """The fit with the ridge that has the least error on the parts left out, or the layer as it is."""
        if self.ridge is not None or len(folds.parts) == 1:
            return self.fit
        trials = Trials(folds, weight)
        best = trials.best()
        if trials.error_of(weight, bias) <= trials.error(best):
            return lambda _, same, bias: (same, bias)
        rows = float(folds.rest.count.mean())  # of the fits by which it was chosen: fewer ask for more, r = c / n
        return lambda moments, weight, _: ridge_fit(moments, weight, RIDGES[best] * rows / moments.count)
