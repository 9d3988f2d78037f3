"""Match mean and variance of a pruned layer's outputs to the dense network.

W' = diag(s_y / s_Wz) W_K,      b' = E[y] - W' E[z]       (REPAIR: Jordan et al. 2022; FSM: Duan et al. 2022)
"""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

import torch
from torch import Tensor

from ..channels.matrix import Blocks, as_matrix, from_matrix, groups_after, weight_of
from ..ir import graph
from ..ir.program import Program
from ..pipeline.context import Context
from ..solvers import lowrank
from ..statistics.folds import Dealt, Folds
from ..statistics.moments import Moments
from ..statistics.patches import Layer
from ..surgery import slicing
from ..surgery.plan import Plan
from .paired_sweep import Pair, Stop, stops_of

SMALLEST = 1e-12  # of the target variance: an output that varies less is constant, and not scaled


def matched(moments: Moments, weight: Tensor, limit: float) -> tuple[Tensor, Tensor]:
    """Return weight [g, o, d] and bias [g, o] that match the moments of y. No row grows by more than `limit`."""
    found = ((weight @ moments.zz) * weight).sum(-1)
    wanted = moments.variance_y
    scale = (wanted / found.clamp_min(torch.finfo(wanted.dtype).tiny)).sqrt().clamp_max(limit)
    scaled = weight * torch.where(found > SMALLEST * wanted, scale, 1.0)[..., None]
    return scaled, moments.mean_y - (scaled @ moments.mean_z[:, :, None])[:, :, 0]


def repaired(program: Program, plan: Plan, context: Context, rows: int, limit: float) -> Plan:
    """Return the plan with each refitted or drifted layer matched, front to back."""
    pruned = slicing.apply(program.module, plan)
    refit = dict(plan.refit)

    def fit(stop: Stop, folds: Folds) -> None:
        one, moments = stop.one, folds.total
        weight, bias = (graph.attribute(pruned, name) for name in (one.weight, str(one.bias)))
        matrix = as_matrix(graph.numbers(pruned, one.weight), one, groups_after(one, plan.mask))
        if Blocks.of(one).folded:
            shifted = _mean(program, stop, moments, matrix)
        else:
            low = _low(plan, stop, moments, matrix)
            matrix, shifted = matched(moments, low, limit)  # scaled rows have the rank that they had
        refit[one.weight] = from_matrix(matrix, one, weight.shape).to(weight)
        refit[str(one.bias)] = shifted.flatten().to(bias)
        for name in (one.weight, str(one.bias)):
            graph.assign(pruned, name, refit[name])

    stops = context.track(_stops(program, plan), "compensate")
    pair = Pair.of(program.module, pruned, Dealt.of(context.images(), context.batch, folds=1))
    pair.sweep(stops, fit, rows=rows, seed=context.seed)
    return replace(plan, refit=MappingProxyType(refit))


def _low(plan: Plan, stop: Stop, moments: Moments, matrix: Tensor) -> Tensor:
    """Return the weight at the rank of the plan."""
    if stop.one.node not in plan.ranks:
        return matrix
    return lowrank.truncated(matrix[0], moments.zz[0], *plan.ranks[stop.one.node])[None]


def _stops(program: Program, plan: Plan) -> list[Stop]:
    """Return the layers to match: those with a drifted input, and the plan's refits.

    The drift of a shortcut is not added to their targets: it would count as variance of the layer.
    """
    drifted = {stop.one.node for stop in stops_of(program.module, plan)}
    by_node = {one.node: one for one in plan.channels.contractions}
    shared = graph.shared(program.module.graph)
    found = []
    for place, node in enumerate(node for node in program.module.graph.nodes if node.op == "call_function"):
        one = by_node.get(node.name)
        if one is None or one.bias is None or one.weight in shared or one.node in plan.gone:
            continue
        if one.node in drifted or one.weight in plan.refit:
            kept = plan.mask[one.outputs].nonzero().flatten()
            layer = Layer.of(program.module, node, one, groups_after(one, plan.mask))
            found.append(Stop(one, place, None, kept, layer))
    return found


def _mean(program: Program, stop: Stop, moments: Moments, matrix: Tensor) -> Tensor:
    """Return the bias that gives a very wide layer its dense mean."""
    taps, one = Blocks.of(stop.one).taps, stop.one
    dense = weight_of(program.module, one)[0, stop.kept]
    bias = graph.numbers(program.module, str(one.bias))[stop.kept]
    mean_y, mean_z = (each[0].repeat_interleave(taps) for each in (moments.mean_y, moments.mean_z))
    found: Tensor = bias + dense @ mean_y - matrix[0] @ mean_z
    return found
