"""Rank all coordinates of the network by price, and cut at the budget.

    price = score / MACs saved,    without scores:  price = (e(n') - e(n)) / MACs saved

CPMC (Yan et al., IJCNN 2021) ranks all channels at once by value against cost; OICSR (Li et al., CVPR 2019) removes the
lowest greedily and caps the share removed from a layer. MACs saved are those of the partly reduced network.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prunec.allocation.greedy import afford, give_back
from prunec.allocation.interface import Allocator
from prunec.allocation.problem import Allocation, Array
from prunec.cost.macs import Counts
from prunec.statistics.facts import Curve


@dataclass(frozen=True)
class Threshold(Allocator):
    """Remove the coordinate with the least price per MAC until the budget is met.

    By scores if all channels have them, keeping all ranks; by the error curves otherwise. At most the share `most` of a
    space is removed, unless the budget cannot be met.
    """

    most: float = 0.9

    def counts(self, problem: Allocation) -> Counts:
        """Return the coordinates kept of each prunable space, int64 [spaces]."""
        model, allowed = problem.model, problem.allowed
        for errors in (self._capped(problem, _prices(problem)), _prices(problem), problem.errors):
            counts = afford(model, errors, model.sizes, allowed, problem.inside)
            if model.total(counts) <= allowed:
                break
        return give_back(model, errors, counts, allowed, inside=problem.inside)

    def _capped(self, problem: Allocation, errors: list[Array]) -> list[Array]:
        floors = np.minimum(problem.model.sizes, np.ceil(problem.model.sizes * (1 - self.most) - 1e-9))
        return [
            np.where(np.arange(len(error)) < floor, np.inf, error) for error, floor in zip(errors, floors, strict=True)
        ]


def _prices(problem: Allocation) -> list[Array]:
    """Return the scores removed, by space and count kept. The errors, if any channel has no score."""
    curves = [problem.curves.by_space[space.name] for space in problem.channels.prunable]
    sites = [bool(space.sites) for space in problem.channels.prunable]
    scores = [float(curve.score.min()) for curve in curves if curve.score is not None]
    if len(scores) != sum(sites) or not scores:
        return problem.errors
    least = min(0.0, *scores)
    return [_gone(curve, error, least) for curve, error in zip(curves, problem.errors, strict=True)]


def _gone(curve: Curve, error: Array, least: float) -> Array:
    """Return the scores removed by count kept, relative to the network's least. All ranks of a rank space are kept."""
    if curve.score is None:
        whole = np.full_like(error, np.inf)
        whole[-1] = 0.0
        return whole
    gone = (curve.score[curve.order].double() - least).cumsum(0).numpy()[::-1]
    found: Array = np.where(np.isfinite(error), np.append(gone, 0.0), np.inf)
    return found
