"""Refit every layer of a plan to dense statistics at once, ignoring accumulated errors.

W_K = W S_:K (S_KK + r I)^-1,      b_K = b + W m - W_K m_K         (CaP: Xie et al. 2021; S, m of the dense network)
"""

from __future__ import annotations

from types import MappingProxyType

import torch
from torch import Tensor

from ..channels.matrix import Blocks, from_matrix, weight_of
from ..channels.spaces import Contraction
from ..ir import graph
from ..ir.parallel import each
from ..ir.program import Program
from ..solvers import least_squares, lowrank
from ..solvers.symmetric import naming
from ..statistics.facts import Statistics
from ..statistics.moments import Moments
from ..surgery.plan import Plan

RIDGE = 1e-3


def fitted(program: Program, plan: Plan, ridge: float = RIDGE, *, part: bool = False) -> Plan:
    """Return the plan with refits of layers with removed inputs or lower rank.

    `part` reads only the moments of some images, where there are such.
    """
    statistics, mask, ranks = program.fact(Statistics), plan.mask, plan.ranks
    moments = (part and statistics.part) or statistics.moments
    shared = graph.shared(program.module.graph)
    changed: list[Contraction] = []
    for one in plan.channels.contractions:
        narrow = one.node in ranks or not bool(mask[one.inputs].all())
        if one.by_group or one.bias is None or one.weight in shared or one.node not in moments:
            continue
        if narrow and one.node not in plan.gone:
            changed.append(one)

    def refit(one: Contraction) -> dict[str, Tensor]:
        with naming(one.weight):
            weight, bias = narrow_fit(program, one, moments[one.node], plan, ridge)
        return {one.weight: weight, str(one.bias): bias}

    found = {name: value for one in each(refit, changed) for name, value in one.items()}
    return Plan(plan.channels, plan.keep, MappingProxyType(found))


def narrow_fit(program: Program, one: Contraction, moments: Moments, plan: Plan, ridge: float) -> tuple[Tensor, Tensor]:
    """Return weight and bias of one layer in their narrow shapes."""
    original = graph.attribute(program.module, one.weight)
    mask, blocks, dense = plan.mask, Blocks.of(one), weight_of(program.module, one)
    wide = blocks.weight(dense)
    owners = one.inputs[: one.width][:: blocks.inputs]
    stays = mask[owners] if blocks.folded else mask[owners].repeat_interleave(blocks.taps)
    kept = stays.nonzero().flatten()
    covariance = moments.covariance
    low = least_squares.refit(covariance, wide, kept, ridge) if len(kept) < wide.shape[-1] else wide
    if one.node in plan.ranks:
        low = lowrank.truncated(low[0], covariance[0][kept][:, kept], *plan.ranks[one.node])[None]
    mean = moments.mean_z[:, :, None]
    shift = (wide @ mean - low @ mean[:, kept])[:, :, 0]
    if blocks.folded:
        low = low.unflatten(1, (-1, blocks.taps)).transpose(2, 3).flatten(2)
        shift = shift.unflatten(1, (-1, blocks.taps)).sum(-1)
    bias, numbers = graph.attribute(program.module, str(one.bias)), graph.numbers(program.module, str(one.bias))
    rows = mask[one.outputs].reshape(one.groups, -1)[0]
    low, shift = low[:, rows], (numbers.reshape(shift.shape) + shift)[:, rows]
    shape = _narrow_shape(original.shape, one, low)
    return from_matrix(low, one, shape).to(original), shift.flatten().to(bias)


def _narrow_shape(shape: torch.Size, one: Contraction, matrix: Tensor) -> torch.Size:
    groups, outputs, columns = matrix.shape
    inputs = columns // max(one.taps, 1)
    sides = (inputs * groups, outputs) if one.transposed else (outputs * groups, inputs)
    return torch.Size([*sides, *shape[2:]])
