"""The refit of one layer from what a sweep of both networks has found at it, in the shapes of the narrow layer."""

from __future__ import annotations

import torch
from torch import Tensor, fx

from . import graph, lowrank
from .errors import NumericsError
from .plan import Plan
from .readers import Blocks, as_matrix, from_matrix, groups_after, weight_of
from .solvers import naming
from .statistics.moments import Moments
from .statistics.pair import Stop
from .strategy import Compensator


def refitted(
    method: Compensator, dense: fx.GraphModule, pruned: fx.GraphModule, stop: Stop, moments: Moments, plan: Plan
) -> tuple[Tensor, Tensor]:
    """Weight and bias. Raises NumericsError where there are none, or they are not finite."""
    with naming(stop.one.weight):
        return _refitted(method, dense, pruned, stop, moments, plan)


def _refitted(
    method: Compensator, dense: fx.GraphModule, pruned: fx.GraphModule, stop: Stop, moments: Moments, plan: Plan
) -> tuple[Tensor, Tensor]:
    one, mask = stop.one, plan.mask
    old_weight, old_bias = graph.attribute(pruned, one.weight), graph.attribute(pruned, str(one.bias))
    if Blocks.of(one).folded:
        weight, bias = _folded(method, dense, stop, moments, mask)
    else:
        matrix = as_matrix(graph.numbers(pruned, one.weight), one, groups_after(one, mask))
        start = graph.numbers(pruned, str(one.bias)).reshape(matrix.shape[:2])
        weight, bias = method.fit(moments, matrix, start)
    if one.node in plan.ranks:
        low = lowrank.truncated(weight[0], moments.covariance[0], *plan.ranks[one.node])[None]
        weight, bias = low, bias + ((weight - low) @ moments.mean_z[:, :, None])[:, :, 0]
    if not bool(torch.isfinite(weight).all() and torch.isfinite(bias).all()):
        raise NumericsError("the refit is not finite; give more images or a larger ridge")
    return from_matrix(weight, one, old_weight.shape).to(old_weight), bias.flatten().to(old_bias)


def _folded(
    method: Compensator, dense: fx.GraphModule, stop: Stop, moments: Moments, mask: Tensor
) -> tuple[Tensor, Tensor]:
    """Very wide layers: the kept channels z stand in for all channels x = L z + m, so W' = W L and b' = b + W m."""
    one, blocks = stop.one, Blocks.of(stop.one)
    stays = mask[one.inputs][:: blocks.inputs].nonzero().flatten()
    start = torch.eye(blocks.channels, dtype=torch.float64)[:, stays][None]
    lift, mean = method.fit(moments, start, torch.zeros(1, blocks.channels, dtype=torch.float64))
    weight = weight_of(dense, one)[0, stop.kept].unflatten(-1, (blocks.channels, blocks.taps))  # [o, C, t]
    bias = graph.numbers(dense, str(one.bias))[stop.kept]
    matrix = torch.einsum("oct,ck->okt", weight, lift[0]).flatten(1)[None]
    return matrix, bias + torch.einsum("oct,c->o", weight, mean[0])
