"""The moments of several parts of the rows of a layer, side by side: all rows, all but one part, errors on each part.

    m = sum s_p m_p                            M = sum s_p (M_p + d_p d_p')         s_p = n_p / n,  d_p = m_p - m
    m_r = (n m - n_p m_p) / n_r                M_r = (n M - n_p M_p) / n_r - n_p / n (m_p - m_r) (m_p - m_r)'

for n_r = n - n_p rows without part p (Chan, Golub & LeVeque 1983, both ways). And the error of any fit on any part

    E_p|y - W z - b|² = tr(Cov_p[y, y] - 2 W Cov_p[z, y] + W Cov_p[z, z] W') + |E_p[y] - W E_p[z] - b|²

No row is needed again. Shapes have the parts p first, then the groups g of a layer. The moments of the inputs z are a
record of their own, for those of the same rows with other targets y share them, and their Cholesky factors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .moments import FLAT, Factors, Moments, clear, clear_rows

CANCELLED = 1e-13  # of the variance of all rows: what is left of it without a part is rounding


@dataclass(frozen=True)
class Inputs:
    """Rows of each part, and means and covariances of what the layer reads there."""

    count: Tensor  # float64 [p]
    mean: Tensor  # [p, g, d]
    zz: Tensor  # [p, g, d, d]
    factors: Factors = field(default_factory=dict)  # of the parts as groups

    @staticmethod
    def of(parts: Sequence[Moments]) -> Inputs:
        """From what has been accumulated of each."""
        count = torch.tensor([one.count for one in parts], dtype=torch.float64)
        return Inputs(count, torch.stack([one.mean_z for one in parts]), torch.stack([one.zz for one in parts]))

    def without_each(self, total: Moments) -> Inputs:
        """Remove each part from all rows, whose moments are `total`."""
        rest = total.count - self.count
        kept, gone = _column(total.count / rest), _column(self.count / rest)
        mean = kept * total.mean_z - gone * self.mean
        z = self.mean - mean
        zz = kept[..., None] * total.zz - gone[..., None] * self.zz
        _subtract(zz, _column(self.count / total.count) * z, z)
        left, whole = zz.diagonal(dim1=-2, dim2=-1), total.zz.diagonal(dim1=-2, dim2=-1)
        clear((left <= FLAT * mean.square()) | (left <= CANCELLED * whole), zz, None)
        return Inputs(rest, mean, zz)


@dataclass(frozen=True)
class Parts:
    """Rows, means and covariances of each part."""

    inputs: Inputs
    mean_y: Tensor  # [p, g, o]
    zy: Tensor  # [p, g, d, o]
    variance_y: Tensor  # [p, g, o]

    @staticmethod
    def of(parts: Sequence[Moments], inputs: Inputs | None = None) -> Parts:
        """From what has been accumulated of each; `inputs` are theirs, where known."""
        names = ("mean_y", "zy", "variance_y")
        targets = (torch.stack([getattr(one, name) for one in parts]) for name in names)
        return Parts(inputs or Inputs.of(parts), *targets)

    def __len__(self) -> int:
        """The number of parts."""
        return len(self.count)

    @property
    def count(self) -> Tensor:
        """Rows of each part, float64 [p]."""
        return self.inputs.count

    @property
    def mean_z(self) -> Tensor:
        """[p, g, d]."""
        return self.inputs.mean

    @property
    def zz(self) -> Tensor:
        """[p, g, d, d]."""
        return self.inputs.zz

    def at(self, places: Sequence[int], inputs: Inputs | None = None) -> Parts:
        """Some of the parts; `inputs` are theirs, where known."""
        some = list(places)
        found = inputs or Inputs(self.count[some], self.mean_z[some], self.zz[some])
        return Parts(found, self.mean_y[some], self.zy[some], self.variance_y[some])

    def joined(self, known: Moments | None = None) -> Moments:
        """The moments of all rows; `known` are those with other targets."""
        share = _column(self.count / self.count.sum())
        if known is None:
            mean_z = (share * self.mean_z).sum(0)
            z = self.mean_z - mean_z
            zz = torch.einsum("p,pgij->gij", share.flatten(), self.zz) + torch.einsum("pgi,pgj->gij", share * z, z)
            clear(zz.diagonal(dim1=-2, dim2=-1) <= FLAT * mean_z.square(), zz, None)
        else:
            mean_z, zz = known.mean_z, known.zz
        mean_y = (share * self.mean_y).sum(0)
        z, y = self.mean_z - mean_z, self.mean_y - mean_y
        zy = torch.einsum("p,pgio->gio", share.flatten(), self.zy) + torch.einsum("pgi,pgo->gio", share * z, y)
        clear_rows(zz, zy)
        variance = (share * (self.variance_y + y.square())).sum(0)
        factors = None if known is None else known.factors
        return Moments.of(int(self.count.sum()), (mean_z, mean_y), zz, zy, variance, factors)

    def without_each(self, total: Moments, inputs: Inputs | None = None) -> Parts:
        """For each part, the moments of the rows of all others; `total` are those of all rows.

        `inputs` are what `Inputs.without_each` gives, where known.
        """
        found = inputs or self.inputs.without_each(total)
        kept, gone = _column(total.count / found.count), _column(self.count / found.count)
        share = _column(self.count / total.count)
        mean_y = kept * total.mean_y - gone * self.mean_y
        y = self.mean_y - mean_y
        zy = kept[..., None] * total.zy - gone[..., None] * self.zy
        _subtract(zy, share * (self.mean_z - found.mean), y)
        clear_rows(found.zz, zy)
        variance = (kept * total.variance_y - gone * self.variance_y - share * y.square()).clamp_min(0)
        return Parts(found, mean_y, zy, variance)

    def as_groups(self) -> Moments:
        """The moments of a layer with p·g groups, each part being some; its rows are the mean number of a part's."""
        means = self.mean_z.flatten(0, 1), self.mean_y.flatten(0, 1)
        covariances = self.zz.flatten(0, 1), self.zy.flatten(0, 1), self.variance_y.flatten(0, 1)
        return Moments.of(int(self.count.mean()), means, *covariances, self.inputs.factors)

    def error(self, weight: Tensor, bias: Tensor) -> Tensor:
        """E|y - W z - b|² on each part, of weights [p, g, o, d] and biases [p, g, o] or one for all: [p, g, o]."""
        explained = 2 * (weight.mT * self.zy).sum(-2) - ((weight @ self.zz) * weight).sum(-1)
        missed = self.mean_y - (weight @ self.mean_z[..., None])[..., 0] - bias
        found: Tensor = (self.variance_y - explained).clamp_min(0) + missed.square()
        return found


def _column(value: Tensor) -> Tensor:
    """A number of each part, to be multiplied with [p, g, d]."""
    return value[:, None, None]


def _subtract(covariance: Tensor, left: Tensor, right: Tensor) -> None:
    """Subtract left right' of each part and group from its covariance, in place."""
    covariance.flatten(0, 1).baddbmm_(left.flatten(0, 1)[:, :, None], right.flatten(0, 1)[:, None], alpha=-1)
