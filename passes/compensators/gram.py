"""Approximate channels by ridge combinations of the kept ones.

    W' = W B on channels,      B = G_:P (G_PP + ridge · mean diag G_PP · I)^-1,      G = E[x x'] of the dense inputs

(GRAIL: Tang et al., CPAL 2026.) G is between channels, uncentred and summed over the taps of the kernel, so all taps
share B and few images are enough. The bias is unchanged.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import MappingProxyType

import torch
from torch import Tensor

from prunec.channels.matrix import Blocks, from_matrix, weight_of
from prunec.channels.spaces import Contraction
from prunec.compensation.interface import Compensator
from prunec.ir import graph
from prunec.ir.program import Program
from prunec.pipeline.context import Context
from prunec.solvers import least_squares
from prunec.statistics.facts import Statistics
from prunec.statistics.moments import Moments
from prunec.surgery.plan import Plan
from prunec.surgery.slicing import narrow


@dataclass(frozen=True)
class Gram(Compensator):
    """Mix the kept channels in each reader of removed ones, by the Gram matrix.

    `ridge` is relative to their mean power.
    """

    ridge: float = 1e-3

    sweeps = False

    def refit(self, program: Program, plan: Plan, context: Context) -> Plan:
        """Refit every layer that reads a removed channel, at once."""
        moments, mask = program.fact(Statistics).moments, plan.mask
        layers: dict[str, list[Contraction]] = {}  # the layers that share a weight share B
        for one in plan.channels.contractions:
            if not one.by_group and one.node in moments and not bool(mask[one.inputs].all()):
                layers.setdefault(one.weight, []).append(one)
        refit = {}
        for name, sharing in layers.items():
            gram = torch.stack([_channel_gram(moments[one.node], Blocks.of(one)) for one in sharing]).sum(0)
            original = graph.attribute(program.module, name)
            wide = from_matrix(self._mixed(program, sharing[0], gram, mask), sharing[0], original.shape)
            refit[name] = narrow(wide.to(original), name, plan, mask)
        return replace(plan, refit=MappingProxyType(refit))

    def _mixed(self, program: Program, one: Contraction, gram: Tensor, mask: Tensor) -> Tensor:
        """Return the full-width weight [g, o, d], with zeros for removed columns."""
        blocks = Blocks.of(one)
        kept = mask[one.inputs[: one.width]][:: blocks.inputs].nonzero().flatten()
        every = torch.eye(blocks.channels, dtype=gram.dtype).expand_as(gram)
        lift = torch.zeros_like(gram)
        lift[:, :, kept] = least_squares.refit(gram, every, kept, self.ridge)
        weight = weight_of(program.module, one).unflatten(-1, (blocks.channels, blocks.taps))
        return torch.einsum("goct,gck->gokt", weight, lift).flatten(2)


def _channel_gram(moments: Moments, blocks: Blocks) -> Tensor:
    """Return E[x x'] between channels, summed over taps, float64 [g, C, C]."""
    mean = moments.mean_z
    gram = moments.zz + mean[:, :, None] * mean[:, None, :]
    if blocks.folded:
        return gram
    taps: Tensor = gram.unflatten(2, (-1, blocks.taps)).unflatten(1, (-1, blocks.taps))
    return taps.diagonal(dim1=2, dim2=4).sum(-1)
