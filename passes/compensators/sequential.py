"""Least squares with asymmetric, sequential targets (He et al. 2017, section 3.2).

    min over W', b' of  E|y - W' z - b'|² + r |W' - W_K|²,       r = (ridge + s / (1 - s)) · mean diag Cov[z]
    W' = (Cov[y, z] + r W_K) (Cov[z] + r I)^-1,                  b' = E[y] - W' E[z]

z is what the *pruned* network really feeds the layer, y what the *dense* network really gave (before a residual add,
less what the pruned shortcut already brings). The ridge shrinks towards the sliced original weight W_K, not to zero;
s is what the number of rows leaves uncertain of Cov[z] (`prunec.statistics.moments`), next to nothing but where a layer
has fewer rows than columns.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from prunec.solvers import add_ridge, ridge_level, solve
from prunec.statistics.moments import Moments
from prunec.strategy import Compensator


@dataclass(frozen=True)
class Sequential(Compensator):
    """Refit weight and bias in closed form; `ridge` is relative to the mean variance of the inputs."""

    ridge: float = 1e-3

    def fit(self, moments: Moments, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """The refitted weight and bias."""
        gram, share = moments.zz, moments.shrinkage.clamp(max=0.999)
        ridge = self.ridge + share / (1 - share)
        level = ridge_level(gram, ridge)[:, None, None]  # r
        fitted = solve(add_ridge(gram, ridge), moments.zy + level * weight.mT).mT
        return fitted, moments.mean_y - (fitted @ moments.mean_z[:, :, None])[:, :, 0]
