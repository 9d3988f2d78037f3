"""Approximate each removed filter by a ridge combination of kept ones, without data.

    a_p = argmin |f_p - sum_k a_pk f_k|² + ridge · mean|f_k|² · |a_p|²,      W'_:k = W_:k + sum_p a_pk W_:p

f_j are the weights and biases of all layers that produce coordinate j (LBYL: "Leave Before You Leave", 2022, with its
batch norm term in the folded biases; Neuron Merging: Kim et al., NeurIPS 2020, has one k for each p). Exact if the mix
is exact and the layers are linear; an approximation with an activation between.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import MappingProxyType

import torch
from torch import Tensor

from prunec.channels.spaces import CONSUMES
from prunec.compensation import channel_mixing
from prunec.compensation.interface import Compensator
from prunec.ir.program import Program
from prunec.pipeline.context import Context
from prunec.solvers import least_squares
from prunec.surgery.plan import Plan


@dataclass(frozen=True)
class Merge(Compensator):
    """Mix removed filters from kept ones in their readers, by the weights alone.

    `ridge` is relative to the mean square of a kept filter.
    """

    ridge: float = 0.1

    sweeps = False

    def refit(self, program: Program, plan: Plan, context: Context) -> Plan:
        """Refit every layer that reads a removed channel, at once."""
        module, mixes = program.module, []
        for space, kept in channel_mixing.changed(plan):
            mixes.append((space, {CONSUMES: self._mix(channel_mixing.filters(module, plan.channels, space), kept)}))
        return replace(plan, refit=MappingProxyType(channel_mixing.mixed(module, plan, mixes)))

    def _mix(self, filters: Tensor, kept: Tensor) -> Tensor:
        """Compute the factor of column j in a reader's column k, float64 [size, size]."""
        gram, every = filters @ filters.T, torch.eye(len(filters), dtype=filters.dtype)
        found = torch.zeros_like(gram)
        found[kept] = least_squares.refit(gram[None], every[None], kept, self.ridge)[0].T
        found[:, kept] = every[:, kept]
        return found
