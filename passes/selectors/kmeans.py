"""Merge similar filters in a nested order, by Ward clustering.

    d(A, B) = |A| |B| / (|A| + |B|) · |mean A - mean B|²        increase of the sum of squares by joining two clusters

(Model Folding: Wang et al., ICLR 2025.) k-means for each count would not nest. Ward's clustering lowers an equal sum of
squares one cluster at a time: the closest pair is joined, and its representative farther from the common mean is
removed. Filters are the rows of all layers that produce the space, side by side. Folding sums the readers' columns;
here least squares refit them, and the error curve is exact along the order.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from prunec.errors import PassError
from prunec.selection.evidence import Evidence
from prunec.selection.interface import Selector
from prunec.solvers.least_squares import along
from prunec.statistics.facts import Curve


@dataclass(frozen=True)
class Kmeans(Selector):
    """Join the two most similar clusters of filters, repeatedly. `ridge` is relative to the mean variance."""

    ridge: float = 1e-3

    def curve(self, evidence: Evidence) -> Curve:
        """Return the removal order, and the compensated error along it."""
        if not evidence.producers:
            raise PassError(f"no layer makes the space {evidence.space.name}: choose a selector that needs no filters")
        order = _merged(torch.cat([one.flatten(1) for one in evidence.producers], 1))
        return Curve(order, along(evidence.readers, order, self.ridge))


def _merged(filters: Tensor) -> Tensor:
    """Return the order in which filters [size, weights] are joined into others. The last one is never joined."""
    size = len(filters)
    mean, count = filters.clone(), torch.ones(size, dtype=filters.dtype)
    order: list[int] = []
    distance = torch.cdist(filters, filters, compute_mode="donot_use_mm_for_euclid_dist").square() / 2
    distance.fill_diagonal_(torch.inf)
    while len(order) < size - 1:  # ends: each round removes one
        stays, goes = divmod(int(distance.argmin()), size)
        both = count[stays] + count[goes]
        centre = (count[stays] * mean[stays] + count[goes] * mean[goes]) / both
        if (filters[goes] - centre).norm() < (filters[stays] - centre).norm():
            stays, goes = goes, stays
        order.append(goes)
        mean[stays], count[stays], count[goes] = centre, both, 0
        gap = count * both / (count + both) * (mean - centre).square().sum(1)
        gap[(count == 0) | (torch.arange(size) == stays)] = torch.inf
        distance[stays], distance[:, stays] = gap, gap
        distance[goes], distance[:, goes] = torch.inf, torch.inf
    left = (count > 0).nonzero().flatten()
    return torch.tensor([*order, int(left[0])])
