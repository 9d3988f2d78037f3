"""Choose the ridge of a least-squares fit by its error on the fold of images that it has not seen.

    W' = (Cov[y, z] + r W_K) (Cov[z] + r I)^-1,      b' = E[y] - W' E[z],      r = ridge · mean diag Cov[z]

W_K is the sliced original weight. The error is closed form (`Moments.error`); over the ridges it falls, then rises.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from .solvers import add_ridge, ridge_level, solve
from .statistics.folds import HeldOut
from .statistics.moments import Moments
from .strategy import Fit

RIDGES = (1e-5, 1e-4, 1e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0, 10.0, 100.0, 1e4)  # from nearly none to "leave it"
START = 2  # the place of the first that is tried
JUDGES = 4  # splits, or up to twice as many, whose errors decide


class Trials:
    """Fits with some of the `RIDGES`, by place, to all folds but some, and their errors on those of a few splits."""

    def __init__(self, splits: Sequence[HeldOut], weight: Tensor) -> None:
        self.splits, self.weight = splits, weight
        self.judges = range(0, len(splits), max(1, len(splits) // JUDGES))
        self.errors: dict[int, float] = {}
        self._fits: dict[tuple[int, int], Fit] = {}

    def best(self) -> int:
        """Go up from the first as long as that lowers the error, else down."""
        for step in (1, -1):
            place = START
            while 0 <= place + step < len(RIDGES) and self.error(place + step) < self.error(place):
                place += step
            if place != START:
                return place
        return START

    def error(self, place: int) -> float:
        """The squared error of the rows of a few splits, each by the fit that has not seen it."""
        if place not in self.errors:
            self.errors[place] = self.error_of({number: self._fit(number, place) for number in self.judges})
        return self.errors[place]

    def error_of(self, fits: Mapping[int, Fit] | Sequence[Fit]) -> float:
        """The same of any fits, by the number of the split."""
        owns = [(self.splits[number].own, fits[number]) for number in self.judges]
        return sum(float(own.error(*fit).sum()) * own.count for own, fit in owns)

    def fits(self, place: int) -> list[tuple[HeldOut, Fit]]:
        """The fit of each split."""
        return [(split, self._fit(number, place)) for number, split in enumerate(self.splits)]

    def _fit(self, number: int, place: int) -> Fit:
        if (number, place) not in self._fits:
            self._fits[number, place] = ridge_fit(self.splits[number].rest, self.weight, RIDGES[place])
        return self._fits[number, place]


def ridge_fit(moments: Moments, weight: Tensor, ridge: float | Tensor) -> Fit:
    """Weight [g, o, d] and bias [g, o] with one ridge for all groups or one for each, [g]."""
    gram = moments.zz
    level = ridge_level(gram, ridge)[:, None, None]  # r
    fitted = solve(add_ridge(gram, ridge), moments.zy + level * weight.mT).mT
    return fitted, moments.mean_y - (fitted @ moments.mean_z[:, :, None])[:, :, 0]
