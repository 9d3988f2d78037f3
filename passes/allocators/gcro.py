"""Optimise the compression rates of all spaces at once, by fitted exponentials.

    fit  e_s(r) = p1 exp(p2 r)  by least squares on log e with weights sqrt(e),  r = the share of MACs_s removed
    at the best rates  p1 p2 exp(p2 r) / MACs_s = m  in every space:   r_s = ln(m MACs_s / (p1 p2)) / p2

(CC: Li et al., CVPR 2021, with two corrections.) MACs_s are those removed with all of the space. The paper divides
every e by its largest, which loses the sensitivity of a space, and equates margins per rate, not per MAC; neither is
done here. One m is computed by bisection. A removable block has a curve of one point, which fits no exponential: it is
kept unless the budget needs it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prunec.allocation.greedy import afford, give_back
from prunec.allocation.interface import Allocator
from prunec.allocation.problem import Allocation, Array
from prunec.cost.macs import Counts


@dataclass(frozen=True)
class Gcro(Allocator):
    """Spend the error by fitted exponentials, removing at most `most` of a space's MACs.

    The cap is dropped if the budget cannot be met.
    """

    most: float = 0.95

    def counts(self, problem: Allocation) -> Counts:
        """Return the coordinates kept of each prunable space, int64 [spaces]."""
        model, allowed, errors = problem.model, problem.allowed, problem.errors
        fits = {
            space: _Fit(error, model.along(model.sizes, space))
            for space, error in enumerate(errors)
            if space not in problem.inside
        }
        low, high = -200.0, 200.0  # of ln m
        counts = model.sizes.copy()
        for _ in range(60):
            middle = (low + high) / 2
            found = model.sizes.copy()
            found[list(fits)] = [one.count(middle, self.most) for one in fits.values()]
            if model.total(found) <= allowed:
                high, counts = middle, found
            else:
                low, counts = middle, counts if model.total(counts) <= allowed else found
        counts = afford(model, errors, counts, allowed, problem.inside)
        return give_back(model, errors, counts, allowed, inside=problem.inside)


class _Fit:
    """Exponential of one space, and the share of MACs removed by each count."""

    def __init__(self, error: Array, along: Array) -> None:
        self.macs = max(float(along[-1] - along[0]), 1.0)
        rate = (along[-1] - along) / self.macs
        self.allowed = np.isfinite(error).nonzero()[0][::-1]  # all first
        self.rate = rate[self.allowed]
        used = np.isfinite(error) & (rate > 0)
        highest = float(error[used].max(initial=0.0))
        self.log_p1, self.p2 = _exponential(rate[used], error[used], highest)

    def count(self, log_multiplier: float, most: float) -> int:
        """Return the largest count that removes the share of MACs at this multiplier. `most` caps the share."""
        rate = (log_multiplier + np.log(self.macs) - self.log_p1 - np.log(self.p2)) / self.p2
        wanted = min(float(rate), most, float(self.rate.max()))
        fewer = (self.rate >= wanted - 1e-9).nonzero()[0]
        return int(self.allowed[0] if wanted <= 0 else self.allowed[fewer[0]])


def _exponential(rate: Array, error: Array, highest: float) -> tuple[float, float]:
    """Return ln p1 and p2 > 0. A space without error, or with one point, doubles its error ten times."""
    steep = 10 * float(np.log(2))
    if highest <= 0 or len(rate) < 2:
        return float(np.log(max(highest, 1e-30))) - steep, steep
    share = error / highest
    weight, log = np.sqrt(share), np.log(share + 1e-10)
    mean = weight @ rate / weight.sum(), weight @ log / weight.sum()
    spread = max(float(weight @ (rate - mean[0]) ** 2), 1e-12)
    slope = max(float(weight @ ((rate - mean[0]) * (log - mean[1]))) / spread, 1e-2)
    return float(mean[1] - slope * mean[0] + np.log(highest)), slope
