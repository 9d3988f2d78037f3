"""First and second moments of the inputs z of a layer and of the targets y it should give.

    mean_z = E[z]    zz = Cov[z, z]    mean_y = E[y]    zy = Cov[z, y]    variance_y = diag Cov[y, y]

each group by itself. Where there are few rows n for p columns, n < `ENOUGH` p, a fit is to believe less of Cov[z, z]:

    covariance = (1 - s) zz + s m I,      m = mean diag zz,
    s = min(1, ((1 - 2/p) tr zz² + tr² zz) / ((n + 1 - 2/p) (tr zz² - tr² zz / p)))

(OAS: Chen, Wiesel, Eldar & Hero 2010, equation 23.) A classifier that reads 768 values of 256 images has s = 0.2, and
without it is fitted to those images exactly and to others not at all: MobileNet at 0.85 of its MACs agrees with the
dense network on 64% of other images without, on 76% with it. Where there are rows enough s would be a hundredth at
most, change nothing on other images (ResNet-56: 0.0178 and 0.0176), and spoil fits that can be exact.

Each batch is centred by itself, and what it adds is joined to the rest as Chan, Golub & LeVeque (1983) do, so that a
mean far above the deviation costs no digits:

    M <- M + M_b + n n_b / (n + n_b) (m_b - m) (m_b - m)'

Products of a batch are float32, their sums float64, both where the network is. The sums become covariances in place
when one is first asked for, since those of a wide layer take hundreds of megabytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..solvers.symmetric import add_ridge, cholesky, solve, solve_by

ENOUGH, PLENTY = 2, 256  # rows a column
FLAT = 1e-16  # of the squared mean: a variance below is the rounding of a constant
NARROW = 1024  # columns of a layer whose factors are kept

Factors = dict[float, Tensor]  # Cholesky factors of Cov[z, z] with a ridge, [g, d, d], by the ridge


@dataclass(frozen=True)
class _Centred:
    """Rows [g, R, c] less their mean as it could be rounded; `rest` of it they still have; by how much it is new."""

    rows: Tensor
    rest: Tensor  # float64 [g, c]
    step: Tensor  # float64 [g, c]: their mean, less that of all before


class Moments:
    """Accumulates rows z [R, g, d] and y [R, g, o]."""

    def __init__(self) -> None:
        self.count = 0
        self._sums: dict[str, Tensor] = {}  # means of z and y, and sums of the products of what is left without them
        self._divided = False  # the sums zz and zy are covariances
        self.factors: Factors = {}

    def add(self, z: Tensor, y: Tensor | None = None) -> None:
        """Add rows; with `y` the cross moments too."""
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
        """Return a copy on the CPU, where all that follows is computed."""
        self._divide()
        found = Moments()
        found.count, found._divided = self.count, True
        found._sums = {name: value.cpu() for name, value in self._sums.items()}
        return found

    def sums(self) -> dict[str, Tensor]:
        """Everything that is known, to be saved."""
        self._divide()
        return {"count": torch.tensor(self.count), **self._sums}

    def restore(self, name: str, value: Tensor) -> None:
        """Put back one of `sums`."""
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
        """Create the moments of `count` rows from means of z and y, covariances and variances.

        `factors` are those of the same zz, known from other targets.
        """
        found = Moments()
        found.count, found._divided = count, True
        found.factors = {} if factors is None else factors
        found._sums = {"z": means[0], "y": means[1], "zz": zz, "zy": zy, "yy": variance_y * count}
        return found

    def aimed(self, rows: Sequence[tuple[Tensor, Tensor]]) -> Moments:
        """The moments of the same rows z with other targets y; Cov[z, z] is taken as it is."""
        mean_z, steps = self.mean_z, []
        for z, y in rows:
            left, right = (z - mean_z.to(z)).transpose(0, 1), y.transpose(0, 1)
            steps.append([(left.mT @ right).double(), right.double().sum(1), right.double().square().sum(1)])
        zy, sums, squares = (sum(each).cpu() / self.count for each in zip(*steps, strict=True))
        clear_rows(self.zz, zy)
        return Moments.of(self.count, (mean_z, sums), self.zz, zy, squares - sums.square(), self.factors)

    def solved(self, ridge: float | Tensor, right: Tensor) -> Tensor:
        """(Cov[z, z] + ridge · mean diag Cov[z, z] · I)^-1 right, [g, d, o].

        The factors of narrow layers are kept, for other targets. Raises NumericsError as `solvers.solve`.
        """
        if isinstance(ridge, Tensor) or self.width > NARROW:
            return solve(add_ridge(self.zz, ridge), right)
        if ridge not in self.factors:
            self.factors[ridge] = cholesky(add_ridge(self.zz, ridge))
        return solve_by(self.factors[ridge], right)

    @property
    def finite(self) -> bool:
        """False once a row has held NaN or infinity, or values whose squares exceed float32."""
        return all(bool(value.isfinite().all()) for value in self._sums.values())

    def _centred(self, name: str, rows: Tensor) -> _Centred:
        """Center rows [R, g, c], in float32 at least, and move the mean on; `count` has them already."""
        rows = in_full(rows.transpose(0, 1))
        mean = rows.mean(1, keepdim=True)
        rows = rows - mean
        rest = rows.mean(1).double()
        known = self._sums.get(name, torch.zeros_like(rest))
        step = mean[:, 0].double() + rest - known
        self._sums[name] = known + step * (rows.shape[1] / self.count)
        return _Centred(rows, rest, step)

    def _sum(self, name: str, value: Tensor, joint: Tensor | tuple[Tensor, Tensor]) -> None:
        """Add the products of a batch, and those that join it to the others: a sum, or two factors of one."""
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
        """Columns d."""
        return self._sums["z"].shape[-1]

    @property
    def mean_z(self) -> Tensor:
        """[g, d]."""
        return self._sums["z"]

    @property
    def mean_y(self) -> Tensor:
        """[g, o]."""
        return self._sums["y"]

    @property
    def variance_y(self) -> Tensor:
        """[g, o]."""
        found = self._sums["yy"] / self.count
        return found.where(found > FLAT * self.mean_y.square(), 0.0)

    @property
    def zz(self) -> Tensor:
        """[g, d, d]; exactly zero for a constant. Not to be written to."""
        self._divide()
        return self._sums["zz"]

    @property
    def shrinkage(self) -> Tensor:
        """s of each group, [g]."""
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
        """Cov[z, z] shrunk by what its rows leave uncertain, [g, d, d]."""
        zz, share = self.zz, self.shrinkage[:, None]
        if not share.any():
            return zz
        level = share * zz.diagonal(dim1=1, dim2=2).mean(1, keepdim=True)
        found = (1 - share[:, :, None]) * zz
        found.diagonal(dim1=1, dim2=2).add_(level)
        return found

    @property
    def zy(self) -> Tensor:
        """[g, d, o]; exactly zero for a constant column of z. Not to be written to."""
        self._divide()
        return self._sums["zy"]

    def _divide(self) -> None:
        """Turn the sums of products into covariances, with zeros for columns of z that do not vary."""
        if self._divided or not self.count:
            return
        self._divided = True
        for name in {"zz", "zy"} & self._sums.keys():
            self._sums[name].div_(self.count)
        self._clear_constants()

    def _clear_constants(self) -> None:
        """Set the covariances of columns that do not vary to zero."""
        zz = self._sums["zz"]
        clear(zz.diagonal(dim1=1, dim2=2) <= FLAT * self.mean_z.square(), zz, self._sums.get("zy"))

    def _multiply(self) -> None:
        """Turn covariances back into sums, for more rows to be added."""
        if self._divided:
            self._divided = False
            for name in {"zz", "zy"} & self._sums.keys():
                self._sums[name].mul_(self.count)


def in_full(rows: Tensor) -> Tensor:
    """The rows in float32 at least."""
    return rows.float() if rows.element_size() < 4 else rows


def clear(flat: Tensor, zz: Tensor, zy: Tensor | None) -> None:
    """Set covariances [..., d, d] and [..., d, o] to zero for the columns of z that do not vary, bool [..., d]."""
    if bool(flat.any()):
        zz.masked_fill_(flat[..., None] | flat[..., None, :], 0.0)
        if zy is not None:
            zy.masked_fill_(flat[..., None], 0.0)


def clear_rows(zz: Tensor, zy: Tensor) -> None:
    """Set covariances [..., d, o] to zero for the columns of z whose variance in [..., d, d] is zero."""
    zy.masked_fill_((zz.diagonal(dim1=-2, dim2=-1) <= 0)[..., None], 0.0)


def _joint(left: _Centred, right: _Centred, steps: float, more: int) -> tuple[Tensor, Tensor]:
    """Factors [g, d, 2] and [g, 2, o] of what joins a batch to the rest: of its step, less what its own rows have."""
    return torch.stack([steps * left.step, -more * left.rest], 2), torch.stack([right.step, right.rest], 1)


def positions_per_sample(columns: int, minimum: int, samples: int) -> int:
    """Return how many positions to draw from each sample: for twelve rows a column, and `minimum` in all.

    A narrow layer, depthwise for instance, has `PLENTY` rows a column at most.
    """
    return max(1, -(-max(12 * columns, min(minimum, PLENTY * columns)) // max(samples, 1)))


def grouped(y: Tensor, groups: int) -> Tensor:
    """Outputs [R, O] as [R, g, O/g]."""
    return y.reshape(len(y), groups, -1)
