"""Compute the moments of parts of a layer's rows, and errors of fits.

    m = sum s_p m_p                            M = sum s_p (M_p + d_p d_p')         s_p = n_p / n,  d_p = m_p - m
    m_r = (n m - n_p m_p) / n_r                M_r = (n M - n_p M_p) / n_r - n_p / n (m_p - m_r) (m_p - m_r)'

for n_r = n - n_p rows without part p (Chan, Golub & LeVeque 1983, both ways). The error of a fit on a part is

    E_p|y - W z - b|² = tr(Cov_p[y, y] - 2 W Cov_p[z, y] + W Cov_p[z, z] W') + |E_p[y] - W E_p[z] - b|²

Shapes have the parts p first, then the groups g of a layer. The moments of the inputs z are a separate record, shared
with their Cholesky factors by other targets y of the same rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .moments import FLAT, Factors, Moments, clear, clear_rows

CANCELLED = 1e-13  # of the variance of all rows: a smaller rest without a part is rounding


@dataclass(frozen=True)
class Inputs:
    """Rows of each part, with means and covariances of the layer's inputs."""

    count: Tensor  # float64 [p]
    mean: Tensor  # [p, g, d]
    zz: Tensor  # [p, g, d, d]
    factors: Factors = field(default_factory=dict)  # of the parts as groups

    @staticmethod
    def of(parts: Sequence[Moments]) -> Inputs:
        """Build from the moments of each part."""
        count = torch.tensor([one.count for one in parts], dtype=torch.float64)
        return Inputs(count, torch.stack([one.mean_z for one in parts]), torch.stack([one.zz for one in parts]))

    def without_each(self, total: Moments) -> Inputs:
        """Subtract each part from all rows, whose moments are `total`."""
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
        """Build from the moments of each part, and their `inputs` if known."""
        names = ("mean_y", "zy", "variance_y")
        targets = (torch.stack([getattr(one, name) for one in parts]) for name in names)
        return Parts(inputs or Inputs.of(parts), *targets)

    def __len__(self) -> int:
        """Return the number of parts."""
        return len(self.count)

    @property
    def count(self) -> Tensor:
        """Return the rows of each part, float64 [p]."""
        return self.inputs.count

    @property
    def mean_z(self) -> Tensor:
        """Return E[z] of each part, [p, g, d]."""
        return self.inputs.mean

    @property
    def zz(self) -> Tensor:
        """Return Cov[z, z] of each part, [p, g, d, d]."""
        return self.inputs.zz

    def at(self, places: Sequence[int], inputs: Inputs | None = None) -> Parts:
        """Select parts by index; `inputs` are theirs, if known."""
        some = list(places)
        found = inputs or Inputs(self.count[some], self.mean_z[some], self.zz[some])
        return Parts(found, self.mean_y[some], self.zy[some], self.variance_y[some])

    def joined(self, known: Moments | None = None) -> Moments:
        """Return the moments of all rows; `known` are those with other targets."""
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
        """Return, for each part, the moments of all other rows of `total`.

        `inputs` is the result of `Inputs.without_each`, if known.
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
        """Return the moments of a layer with p·g groups. Its row count is the mean over parts."""
        means = self.mean_z.flatten(0, 1), self.mean_y.flatten(0, 1)
        covariances = self.zz.flatten(0, 1), self.zy.flatten(0, 1), self.variance_y.flatten(0, 1)
        return Moments.of(int(self.count.mean()), means, *covariances, self.inputs.factors)

    def error(self, weight: Tensor, bias: Tensor) -> Tensor:
        """Return E|y - W z - b|² on each part, [p, g, o].

        `weight` [p, g, o, d] and `bias` [p, g, o] may be shared by all parts.
        """
        explained = 2 * (weight.mT * self.zy).sum(-2) - ((weight @ self.zz) * weight).sum(-1)
        missed = self.mean_y - (weight @ self.mean_z[..., None])[..., 0] - bias
        found: Tensor = (self.variance_y - explained).clamp_min(0) + missed.square()
        return found


def _column(value: Tensor) -> Tensor:
    """Reshape a number of each part to broadcast over [p, g, d]."""
    return value[:, None, None]


def _subtract(covariance: Tensor, left: Tensor, right: Tensor) -> None:
    """Subtract left right' of each part and group from its covariance, in place."""
    covariance.flatten(0, 1).baddbmm_(left.flatten(0, 1)[:, :, None], right.flatten(0, 1)[:, None], alpha=-1)
