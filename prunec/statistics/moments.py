"""Accumulate first and second moments of a layer's inputs z and targets y.

    mean_z = E[z]    zz = Cov[z, z]    mean_y = E[y]    zy = Cov[z, y]    variance_y = diag Cov[y, y]

by group. With fewer rows n than `ENOUGH` times the p columns, Cov[z, z] is shrunk:

    covariance = (1 - s) zz + s m I,      m = mean diag zz,
    s = min(1, ((1 - 2/p) tr zz² + tr² zz) / ((n + 1 - 2/p) (tr zz² - tr² zz / p)))

(OAS: Chen, Wiesel, Eldar & Hero 2010, equation 23). With more rows shrinkage changes no error and spoils fits that can
be exact.

Each batch is centred by itself and joined to the rest (Chan, Golub & LeVeque 1983), so that a mean far above the
deviation costs no digits:

    M <- M + M_b + n n_b / (n + n_b) (m_b - m) (m_b - m)'

Products of a batch are float32, their sums float64, on the device of the network. The sums become covariances in place
on first use, since those of a wide layer take hundreds of megabytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..ir.parallel import each, shares
from ..solvers.symmetric import add_ridge, cholesky, solve, solve_by

ENOUGH, PLENTY = 2, 256  # rows a column
FLAT = 1e-16  # of the squared mean: a variance below is the rounding of a constant
NARROW = 1024  # columns of a layer whose factors are kept

Factors = dict[float, list[Tensor]]  # Cholesky factors of Cov[z, z] with a ridge, [g, d, d] in all, by the ridge


@dataclass(frozen=True)
class _Centred:
    """Rows [g, R, c] less their rounded mean, its remainder `rest` and its `step`."""

    rows: Tensor
    rest: Tensor  # float64 [g, c]
    step: Tensor  # float64 [g, c]: their mean, less that of all before


class Moments:
    """Accumulator of the moments of rows z [R, g, d] and y [R, g, o]."""

    def __init__(self) -> None:
        self.count = 0
        self._sums: dict[str, Tensor] = {}  # means of z and y, and sums of the products of what is left without them
        self._divided = False  # the sums zz and zy are covariances
        self.factors: Factors = {}

    def add(self, z: Tensor, y: Tensor | None = None) -> None:
        """Add rows; with `y`, add the cross moments too."""
        self._multiply()
        self.factors = {}
        before, more = self.count, len(z)
        self.count += more
        steps = more * before / self.count
        left = self._centred("z", z)
        self._sum("zz", left.rows.mT @ left.rows, _joint(left, left, steps, more))
        if y is not None:
            right = self._centred("y", y)
            own = steps * right.step.square() - more * right.rest.square()
            self._sum("yy", right.rows.square().sum(1), own)
            self._sum("zy", left.rows.mT @ right.rows, _joint(left, right, steps, more))

    def on_cpu(self) -> Moments:
        """Return a copy on the CPU."""
        self._divide()
        found = Moments()
        found.count, found._divided = self.count, True
        found._sums = {name: value.cpu() for name, value in self._sums.items()}
        return found

    def copied(self) -> Moments:
        """Return a copy on the CPU, to which no later row is added."""
        found = Moments()
        found.count, found._divided = self.count, self._divided
        found._sums = {name: value.to("cpu", copy=True) for name, value in self._sums.items()}
        return found

    def sums(self) -> dict[str, Tensor]:
        """Return the state by name, for `restore`."""
        self._divide()
        return {"count": torch.tensor(self.count), **self._sums}

    def restore(self, name: str, value: Tensor) -> None:
        """Set one entry of `sums`."""
        self._divided = True
        if name == "count":
            self.count = int(value)
        else:
            self._sums[name] = value

    @staticmethod
    def of(
        count: int,
        means: tuple[Tensor, Tensor],
        zz: Tensor,
        zy: Tensor,
        variance_y: Tensor,
        factors: Factors | None = None,
    ) -> Moments:
        """Build the moments of `count` rows from means of z and y, covariances and variances.

        `factors` are the Cholesky factors of the same zz, if known.
        """
        found = Moments()
        found.count, found._divided = count, True
        found.factors = {} if factors is None else factors
        found._sums = {"z": means[0], "y": means[1], "zz": zz, "zy": zy, "yy": variance_y * count}
        return found

    def aimed(self, rows: Sequence[tuple[Tensor, Tensor]]) -> Moments:
        """Return the moments of the same rows z with targets y; Cov[z, z] is reused."""
        mean_z, steps = self.mean_z, []
        for z, y in rows:
            left, right = (z - mean_z.to(z)).transpose(0, 1), y.transpose(0, 1)
            steps.append([(left.mT @ right).double(), right.double().sum(1), right.double().square().sum(1)])
        zy, sums, squares = (sum(each).cpu() / self.count for each in zip(*steps, strict=True))
        clear_rows(self.zz, zy)
        return Moments.of(self.count, (mean_z, sums), self.zz, zy, squares - sums.square(), self.factors)

    def solved(self, ridge: float | Tensor, right: Tensor) -> Tensor:
        """Return (Cov[z, z] + ridge · mean diag · I)^-1 right, [g, d, o].

        Factors of narrow layers are cached, for other targets. Raises NumericsError as `solvers.solve`.
        """
        if isinstance(ridge, Tensor) or self.width > NARROW:
            return solve(add_ridge(self.zz, ridge), right)
        if ridge not in self.factors:
            self.factors[ridge] = each(lambda zz: cholesky(add_ridge(zz, ridge)), shares(self.zz))
        factors = self.factors[ridge]
        parts = zip(factors, right.split([len(one) for one in factors]), strict=True)
        return torch.cat(each(lambda part: solve_by(*part), list(parts)))

    @property
    def finite(self) -> bool:
        """Return False if a row held NaN, infinity, or values whose squares exceed float32."""
        return all(bool(value.isfinite().all()) for value in self._sums.values())

    def _centred(self, name: str, rows: Tensor) -> _Centred:
        """Center rows [R, g, c], in float32 at least, and update the mean. `count` includes them."""
        rows = in_full(rows.transpose(0, 1))
        mean = rows.mean(1, keepdim=True)
        rows = rows - mean
        rest = rows.mean(1).double()
        known = self._sums.get(name, torch.zeros_like(rest))
        step = mean[:, 0].double() + rest - known
        self._sums[name] = known + step * (rows.shape[1] / self.count)
        return _Centred(rows, rest, step)

    def _sum(self, name: str, value: Tensor, joint: Tensor | tuple[Tensor, Tensor]) -> None:
        """Add the products of a batch and the term that joins it to the rest.

        `joint` is a sum, or two factors of it.
        """
        if name in self._sums:
            self._sums[name] += value
        else:
            self._sums[name] = value.double()
        if isinstance(joint, Tensor):
            self._sums[name] += joint
        else:
            self._sums[name].baddbmm_(*joint)

    @property
    def width(self) -> int:
        """Return the number of columns d."""
        return self._sums["z"].shape[-1]

    @property
    def mean_z(self) -> Tensor:
        """Return E[z], [g, d]."""
        return self._sums["z"]

    @property
    def mean_y(self) -> Tensor:
        """Return E[y], [g, o]."""
        return self._sums["y"]

    @property
    def variance_y(self) -> Tensor:
        """Return diag Cov[y, y], [g, o]."""
        found = self._sums["yy"] / self.count
        return found.where(found > FLAT * self.mean_y.square(), 0.0)

    @property
    def zz(self) -> Tensor:
        """Return Cov[z, z], read-only [g, d, d], exactly zero for a constant."""
        self._divide()
        return self._sums["zz"]

    @property
    def shrinkage(self) -> Tensor:
        """Return the shrinkage s of each group, [g]."""
        zz, width = self.zz, self.width
        if self.count >= ENOUGH * width:
            return zz.new_zeros(len(zz))
        trace, squares = zz.diagonal(dim1=1, dim2=2).sum(1), torch.linalg.vector_norm(zz, dim=(1, 2)).square()
        spread = (squares - trace.square() / width).clamp_min(torch.finfo(torch.float64).tiny)
        above = (1 - 2 / width) * squares + trace.square()
        share: Tensor = (above / ((self.count + 1 - 2 / width) * spread)).clamp(max=1)
        return share

    @property
    def covariance(self) -> Tensor:
        """Return the shrunk Cov[z, z], [g, d, d]."""
        zz, share = self.zz, self.shrinkage[:, None]
        if not share.any():
            return zz
        level = share * zz.diagonal(dim1=1, dim2=2).mean(1, keepdim=True)
        found = (1 - share[:, :, None]) * zz
        found.diagonal(dim1=1, dim2=2).add_(level)
        return found

    @property
    def zy(self) -> Tensor:
        """Return Cov[z, y], read-only [g, d, o], exactly zero for a constant column of z."""
        self._divide()
        return self._sums["zy"]

    def _divide(self) -> None:
        """Convert sums of products to covariances, with zeros for constant columns of z."""
        if self._divided or not self.count:
            return
        self._divided = True
        for name in {"zz", "zy"} & self._sums.keys():
            self._sums[name].div_(self.count)
        self._clear_constants()

    def _clear_constants(self) -> None:
        """Set the covariances of constant columns to zero."""
        zz = self._sums["zz"]
        clear(zz.diagonal(dim1=1, dim2=2) <= FLAT * self.mean_z.square(), zz, self._sums.get("zy"))

    def _multiply(self) -> None:
        """Convert covariances back to sums, before rows are added."""
        if self._divided:
            self._divided = False
            for name in {"zz", "zy"} & self._sums.keys():
                self._sums[name].mul_(self.count)


def in_full(rows: Tensor) -> Tensor:
    """Return the rows in float32 at least."""
    return rows.float() if rows.element_size() < 4 else rows


def clear(flat: Tensor, zz: Tensor, zy: Tensor | None) -> None:
    """Zero covariances [..., d, d], [..., d, o] at constant columns `flat`, bool [..., d]."""
    if bool(flat.any()):
        zz.masked_fill_(flat[..., None] | flat[..., None, :], 0.0)
        if zy is not None:
            zy.masked_fill_(flat[..., None], 0.0)


def clear_rows(zz: Tensor, zy: Tensor) -> None:
    """Zero covariances [..., d, o] at columns with zero variance in [..., d, d]."""
    zy.masked_fill_((zz.diagonal(dim1=-2, dim2=-1) <= 0)[..., None], 0.0)


def _joint(left: _Centred, right: _Centred, steps: float, more: int) -> tuple[Tensor, Tensor]:
    """Return factors [g, d, 2], [g, 2, o] of the term that joins a batch.

    The term is that of the batch's step, less that of its own rows' remainders.
    """
    return torch.stack([steps * left.step, -more * left.rest], 2), torch.stack([right.step, right.rest], 1)


def positions_per_sample(columns: int, minimum: int, samples: int) -> int:
    """Return the positions to draw per sample.

    Twelve rows a column and `minimum` in all; a narrow layer, depthwise for instance, has `PLENTY` rows a column at
    most.
    """
    return max(1, -(-max(12 * columns, min(minimum, PLENTY * columns)) // max(samples, 1)))


def grouped(y: Tensor, groups: int) -> Tensor:
    """Return outputs [R, O] as [R, g, O/g]."""
    return y.reshape(len(y), groups, -1)
