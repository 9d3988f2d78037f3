"""Solve least squares on blocks of columns, in float64.

A reader of a space has the covariance S = Cov[x] and the weight W. With the columns K kept, the compensated error is

    e(K) = tr(W S W') - tr(W S_:K (S_KK + r I)^-1 S_K: W'),        attained by  W_K = W S_:K (S_KK + r I)^-1.

Removing block j from a fitted set costs exactly  tr(W_j ([H^-1]_jj)^-1 W_j'), H = S_KK + r I  (OBS: Hassibi & Stork
1993; blocks: OSSCAR, Meng et al. 2024). Adding block j gains  tr(G_j (R_jj)^-1 G_j') with R, G the residual covariance
and cross-covariance (CaP, Xie et al. 2021, forward selection). All shapes have a leading axis of groups g.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .symmetric import add_ridge, cholesky, inverse, solve

LEAST_VARIANCE = 1e-100
STEPS = 32  # n // STEPS of n coordinates are removed per update
CANDIDATES = 4  # times as many are candidates
SHRINK = 0.75  # share of columns alive below which the state is copied smaller


@dataclass(frozen=True)
class Reader:
    """A contraction that reads a space."""

    covariance: Tensor  # [g, d, d]
    weight: Tensor  # [g, o, d]
    columns: Tensor  # int64 [size, b]: the columns that each coordinate owns, the same in every group

    @property
    def variance(self) -> float:
        """Total variance of the output, tr(W S W')."""
        return float(((self.weight @ self.covariance) * self.weight).sum())

    @property
    def scale(self) -> float:
        """1 / variance, the factor to relative errors; finite for constant outputs."""
        return 1.0 / max(self.variance, LEAST_VARIANCE)


def refit(covariance: Tensor, weight: Tensor, kept: Tensor, ridge: float) -> Tensor:
    """Return the least-squares weight on kept columns, [g, o, |kept|], from dense statistics."""
    gram = add_ridge(covariance[:, kept][:, :, kept], ridge)
    return solve(gram, covariance[:, kept] @ weight.mT).mT


def absorb(covariance: Tensor, weight: Tensor, kept: Tensor, ridge: float) -> Tensor:
    """Return W_K + W_R S_RK (S_KK + r I)^-1, [g, o, |kept|].

    R are the removed columns. The ridge shrinks towards the sliced weight W_K; without a ridge this is `refit`.
    """
    removed = torch.ones(weight.shape[-1], dtype=torch.bool)
    removed[kept] = False
    rows = covariance[:, kept]
    gram = add_ridge(rows[:, :, kept], ridge)
    return weight[:, :, kept] + solve(gram, rows[:, :, removed] @ weight[:, :, removed].mT).mT


def backward(readers: Sequence[Reader], ridge: float) -> tuple[Tensor, Tensor]:
    """Remove coordinates one by one, each of least cost after refitting (OBS).

    Of many coordinates several are removed in one update: chosen one by one, each priced exactly, among the candidates
    that were cheapest before (a removal makes others dearer, seldom cheaper).

    Returns the removal order, int64 [size], and the error after removing 0, 1 … of them, float64 [size + 1]: the sum
    over readers of the compensated error relative to the variance of the reader's output.
    """
    states = [_Backward.of(reader, ridge) for reader in readers]
    left = torch.arange(len(readers[0].columns))
    order, errors = [], [0.0]
    while len(left):  # ends: each round takes one or more
        cost = torch.stack([state.cost() for state in states]).sum(0)
        step = max(1, len(left) // STEPS)
        near = cost.argsort(stable=True)[: step * CANDIDATES if step > 1 else 1].sort().values
        gone, paid = _cheapest([state.alone(near) for state in states], step)
        order += left[near[gone]].tolist()
        errors += [errors[-1] + sum(paid[: place + 1]) for place in range(len(paid))]
        stays = torch.ones(len(left), dtype=torch.bool)
        stays[near[gone]] = False
        for state in states:
            state.remove(near[gone], stays)
        left = left[stays]
    return torch.tensor(order), torch.tensor(errors, dtype=torch.float64)


def _cheapest(states: Sequence[_Backward], count: int) -> tuple[Tensor, list[float]]:
    """Choose `count` coordinates one by one; return their places and costs."""
    left = torch.arange(len(states[0].columns))
    taken, paid = [], []
    for _ in range(count):
        cost = torch.stack([state.cost() for state in states]).sum(0)
        place = int(cost.argmin())
        taken.append(int(left[place]))
        paid.append(float(cost[place]))
        stays = torch.arange(len(left)) != place
        for state in states if len(taken) < count else ():
            state.remove(torch.tensor([place]), stays)
        left = left[stays]
    return torch.tensor(taken), paid


@dataclass
class _Backward:
    """Fitted weight and H^-1 of one reader's remaining columns, `columns[i]` of coordinate i."""

    inverse: Tensor  # [g, d, d]
    weight: Tensor  # [g, d, o]: rows are gathered far faster than columns
    columns: Tensor  # [n, b]
    alive: Tensor  # bool [d]: not removed; columns that belong to no coordinate are always alive
    scale: float

    @staticmethod
    def of(reader: Reader, ridge: float) -> _Backward:
        gram = add_ridge(reader.covariance, ridge)
        alive, scale = torch.ones(gram.shape[-1], dtype=torch.bool), reader.scale
        return _Backward(
            inverse(gram), reader.weight.mT.clone(memory_format=torch.contiguous_format), reader.columns, alive, scale
        )

    def cost(self) -> Tensor:
        blocks = self.inverse[:, self.columns[:, :, None], self.columns[:, None, :]]  # [g, n, b, b]
        weight = self.weight.index_select(1, self.columns.flatten()).unflatten(1, self.columns.shape)  # [g, n, b, o]
        return _explained(blocks, weight) * self.scale

    def alone(self, places: Tensor) -> _Backward:
        """Return the state of some coordinates only, whose mutual costs matter."""
        columns = self.columns[places].flatten()
        inverse, weight = self.inverse[:, columns[:, None], columns], self.weight.index_select(1, columns)
        own = torch.arange(len(columns)).reshape(len(places), -1)
        return _Backward(inverse, weight, own, torch.ones(len(columns), dtype=torch.bool), self.scale)

    def remove(self, places: Tensor, stays: Tensor) -> None:
        columns = self.columns[places].flatten()
        factor = _factor(self.inverse[:, columns[:, None], columns[None, :]])
        rows = torch.linalg.solve_triangular(factor, self.inverse.index_select(1, columns), upper=False)  # [g, b, d]
        weight = torch.linalg.solve_triangular(factor, self.weight.index_select(1, columns), upper=False)  # [g, b, o]
        self.weight.baddbmm_(rows.mT, weight, alpha=-1)
        self.inverse.baddbmm_(rows.mT, rows, alpha=-1)
        self.columns = self.columns[stays]
        self.alive[columns] = False
        if int(self.alive.sum()) < SHRINK * len(self.alive):
            self._shrink()

    def _shrink(self) -> None:
        """Drop the removed columns."""
        kept = self.alive.nonzero().flatten()
        self.inverse, self.weight = self.inverse[:, kept[:, None], kept], self.weight.index_select(1, kept)
        self.columns = (self.alive.cumsum(0) - 1)[self.columns]
        self.alive = torch.ones(len(kept), dtype=torch.bool)


def along(readers: Sequence[Reader], order: Tensor, ridge: float) -> Tensor:
    """Return the error after removing 0, 1 … coordinates in `order`, as `backward`.

    One Cholesky factor per reader: with the columns sorted from last to first removed, each coordinate's rows of L^-1 S
    W' are what it explains beyond the later ones.
    """
    errors = torch.zeros(len(order) + 1, dtype=torch.float64)
    for reader in readers:
        taken = reader.columns[order.flip(0)]
        others = torch.ones(reader.covariance.shape[-1], dtype=torch.bool)
        others[taken.flatten()] = False
        columns = torch.cat([others.nonzero().flatten(), taken.flatten()])
        gram = add_ridge(reader.covariance, ridge)[:, columns[:, None], columns]
        cross = reader.covariance[:, columns] @ reader.weight.mT
        explained = torch.linalg.solve_triangular(_factor(gram), cross, upper=False).square().sum((0, 2))
        gained = explained[int(others.sum()) :].reshape(taken.shape).sum(1).flip(0)  # in removal order
        errors[1:] += gained.cumsum(0) * reader.scale
    return errors


def forward(readers: Sequence[Reader], ridge: float) -> tuple[Tensor, Tensor]:
    """Add coordinates one by one, each explaining most of the rest (CaP).

    Returns the removal order (the reverse of the order of adding) and the errors, as `backward` does. Channels of other
    spaces count as kept from the start.
    """
    size = len(readers[0].columns)
    states = [_Forward(reader, ridge) for reader in readers]
    left = torch.arange(size)
    added, errors = [], [sum(state.error() for state in states)]
    while len(left):  # ends: each round takes one or more
        gain = torch.stack([state.gain(left) for state in states]).sum(0)
        place = int(gain.argmax())
        added.append(int(left[place]))
        for state in states:
            state.add(state.columns[added[-1]])
        errors.append(sum(state.error() for state in states))
        left = torch.cat([left[:place], left[place + 1 :]])
    curve = torch.tensor(errors[::-1], dtype=torch.float64)
    return torch.tensor(added[::-1]), (curve - curve[0]).clamp_min(0)


class _Forward:
    def __init__(self, reader: Reader, ridge: float) -> None:
        self.residual = add_ridge(reader.covariance, ridge)
        self.cross = reader.weight @ reader.covariance  # [g, o, d]
        self.columns = reader.columns
        self.scale = reader.scale
        self.left = reader.variance
        owned = torch.zeros(self.residual.shape[-1], dtype=torch.bool)
        owned[reader.columns.flatten()] = True
        if not bool(owned.all()):
            self.add((~owned).nonzero().flatten())

    def error(self) -> float:
        return self.left * self.scale

    def gain(self, left: Tensor) -> Tensor:
        columns = self.columns[left]
        blocks = self.residual[:, columns[:, :, None], columns[:, None, :]]
        cross = self.cross[:, :, columns].permute(0, 2, 3, 1)
        return _explained(blocks, cross) * self.scale

    def add(self, columns: Tensor) -> None:
        factor = _factor(self.residual[:, columns[:, None], columns[None, :]])
        rows = torch.linalg.solve_triangular(factor, self.residual[:, columns], upper=False)
        cross = torch.linalg.solve_triangular(factor, self.cross[:, :, columns].mT, upper=False)
        self.left -= float(cross.square().sum())
        self.cross.baddbmm_(cross.mT, rows, alpha=-1)
        self.residual.baddbmm_(rows.mT, rows, alpha=-1)


def explained(matrix: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Compute `_explained` for blocks of [g, d, d] and rows of [g, d, o]. `columns` [n, b] are those of each block."""
    return _explained(matrix[:, columns[:, :, None], columns[:, None, :]], rows[:, columns])


def _explained(blocks: Tensor, rows: Tensor) -> Tensor:
    """Return tr(rows' blocks^-1 rows), [n]. Blocks are [g, n, b, b], rows [g, n, b, o]."""
    eye = torch.eye(blocks.shape[-1], dtype=blocks.dtype).expand_as(blocks)
    whitened = torch.linalg.solve_triangular(_factor(blocks), eye, upper=False) @ rows  # the blocks are far smaller
    found: Tensor = torch.linalg.vector_norm(whitened, dim=(0, 2, 3)).square()
    return found


def _factor(blocks: Tensor) -> Tensor:
    """Return Cholesky factors of small blocks, with a ridge where rounding needs one."""
    return cholesky(blocks, (1e-6, 1e-3, 1.0, 100.0))
