"""The moments of several parts of the rows of a layer, side by side: all rows, all but one part, errors on each part.

    m = sum s_p m_p                            M = sum s_p (M_p + d_p d_p')         s_p = n_p / n,  d_p = m_p - m
    m_r = (n m - n_p m_p) / n_r                M_r = (n M - n_p M_p) / n_r - n_p / n (m_p - m_r) (m_p - m_r)'

for n_r = n - n_p rows without part p (Chan, Golub & LeVeque 1983, both ways). And the error of any fit on any part

    E_p|y - W z - b|² = tr(Cov_p[y, y] - 2 W Cov_p[z, y] + W Cov_p[z, z] W') + |E_p[y] - W E_p[z] - b|²

No row is needed again. Shapes have the parts p first, then the groups g of a layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .moments import FLAT, Moments, clear

CANCELLED = 1e-13  # of the variance of all rows: what is left of it without a part is rounding


@dataclass(frozen=True)
class Parts:
    """Rows, means and covariances of each part."""

    count: Tensor  # float64 [p]
    mean_z: Tensor  # [p, g, d]
    mean_y: Tensor  # [p, g, o]
    zz: Tensor  # [p, g, d, d]
    zy: Tensor  # [p, g, d, o]
    variance_y: Tensor  # [p, g, o]

    @staticmethod
    def of(parts: Sequence[Moments]) -> Parts:
        """From what has been accumulated of each."""
        count = torch.tensor([one.count for one in parts], dtype=torch.float64)
        names = ("mean_z", "mean_y", "zz", "zy", "variance_y")
        return Parts(count, *(torch.stack([getattr(one, name) for one in parts]) for name in names))

    def __len__(self) -> int:
        """The number of parts."""
        return len(self.count)

    def at(self, places: Sequence[int]) -> Parts:
        """Some of the parts."""
        every = (self.count, self.mean_z, self.mean_y, self.zz, self.zy, self.variance_y)
        return Parts(*(value[list(places)] for value in every))

    def joined(self) -> Moments:
        """The moments of all rows."""
        share = (self.count / self.count.sum())[:, None, None]
        means = (share * self.mean_z).sum(0), (share * self.mean_y).sum(0)
        z, y = self.mean_z - means[0], self.mean_y - means[1]
        zz = torch.einsum("p,pgij->gij", share.flatten(), self.zz) + torch.einsum("pgi,pgj->gij", share * z, z)
        zy = torch.einsum("p,pgio->gio", share.flatten(), self.zy) + torch.einsum("pgi,pgo->gio", share * z, y)
        variance = (share * (self.variance_y + y.square())).sum(0)
        clear(zz.diagonal(dim1=-2, dim2=-1) <= FLAT * means[0].square(), zz, zy)
        return Moments.of(int(self.count.sum()), means, zz, zy, variance)

    def without_each(self, total: Moments) -> Parts:
        """For each part, the moments of the rows of all others; `total` are those of all rows."""
        rest = total.count - self.count
        kept, gone = ((value / rest)[:, None, None] for value in (torch.full_like(rest, total.count), self.count))
        share = (self.count / total.count)[:, None, None]
        mean_z, mean_y = kept * total.mean_z - gone * self.mean_z, kept * total.mean_y - gone * self.mean_y
        z, y = self.mean_z - mean_z, self.mean_y - mean_y
        zz = kept[..., None] * total.zz - gone[..., None] * self.zz
        zy = kept[..., None] * total.zy - gone[..., None] * self.zy
        for covariance, right in ((zz, z), (zy, y)):
            covariance.flatten(0, 1).baddbmm_(
                (share * z).flatten(0, 1)[:, :, None], right.flatten(0, 1)[:, None], alpha=-1
            )
        variance = (kept * total.variance_y - gone * self.variance_y - share * y.square()).clamp_min(0)
        left, whole = zz.diagonal(dim1=-2, dim2=-1), total.zz.diagonal(dim1=-2, dim2=-1)
        clear((left <= FLAT * mean_z.square()) | (left <= CANCELLED * whole), zz, zy)
        return Parts(rest, mean_z, mean_y, zz, zy, variance)

    def as_groups(self) -> Moments:
        """The moments of a layer with p·g groups, each part being some; its rows are the mean number of a part's."""
        means = self.mean_z.flatten(0, 1), self.mean_y.flatten(0, 1)
        return Moments.of(
            int(self.count.mean()), means, self.zz.flatten(0, 1), self.zy.flatten(0, 1), self.variance_y.flatten(0, 1)
        )

    def error(self, weight: Tensor, bias: Tensor) -> Tensor:
        """E|y - W z - b|² on each part, of weights [p, g, o, d] and biases [p, g, o] or one for all: [p, g, o]."""
        explained = 2 * (weight.mT * self.zy).sum(-2) - ((weight @ self.zz) * weight).sum(-1)
        missed = self.mean_y - (weight @ self.mean_z[..., None])[..., 0] - bias
        found: Tensor = (self.variance_y - explained).clamp_min(0) + missed.square()
        return found
