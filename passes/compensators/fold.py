"""Fold each removed channel into the most similar kept one.

    producers: f'_k = mean of f_j over j in cluster k,      consumers: W'_:k = sum of W_:j over j in cluster k

(Model Folding: Wang et al., ICLR 2025.) Cluster k holds the kept coordinate k and the removed ones whose filters f_j,
over all layers that produce them, are nearest to f_k. Depthwise layers, norms and biases that carry a channel are
averaged too. Averages vary less than their terms, so each output is then rescaled to its dense mean and variance
(REPAIR: Jordan et al. 2022), front to back.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import MappingProxyType

import torch
from torch import Tensor

from prunec.channels.spaces import CONSUMES
from prunec.compensation import channel_mixing, moment_matching
from prunec.compensation.interface import Compensator
from prunec.ir.program import Program
from prunec.pipeline.context import Context
from prunec.surgery.plan import Plan


@dataclass(frozen=True)
class Fold(Compensator):
    """Cluster and average removed channels; with `repair`, restore means and variances.

    The repair uses `rows` sampled positions a layer, and no output grows beyond `limit`.
    """

    repair: bool = True
    rows: int = 4096
    limit: float = 10.0

    sweeps = False

    def refit(self, program: Program, plan: Plan, context: Context) -> Plan:
        """Refit every layer that produces, carries or reads a folded channel."""
        module, mixes = program.module, []
        for space, kept in channel_mixing.changed(plan):
            summed = _clusters(channel_mixing.filters(module, plan.channels, space), kept)
            averaged = summed / summed.sum(1, keepdim=True).clamp_min(1)
            mixes.append((space, {CONSUMES: summed, **dict.fromkeys(channel_mixing.MADE, averaged)}))
        folded = replace(plan, refit=MappingProxyType(channel_mixing.mixed(module, plan, mixes)))
        return moment_matching.repaired(program, folded, context, self.rows, self.limit) if self.repair else folded


def _clusters(filters: Tensor, kept: Tensor) -> Tensor:
    """Return 1 where j is in the cluster of k, float64 [size (k), size (j)]."""
    nearest = kept[torch.cdist(filters, filters[kept]).argmin(1)]
    nearest[kept] = kept
    return torch.nn.functional.one_hot(nearest, len(filters)).T.to(filters.dtype)
