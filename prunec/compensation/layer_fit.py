"""Refit one layer from the moments of a sweep, in its narrow shapes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor, fx

from ..channels.matrix import Blocks, as_matrix, from_matrix, groups_after, weight_of
from ..channels.spaces import Split
from ..errors import NumericsError
from ..ir import graph
from ..solvers import lowrank
from ..solvers.symmetric import naming
from ..statistics.folds import Folds
from ..statistics.moments import Moments
from ..surgery.plan import Plan
from .interface import Compensator, Fit, Fits, unchanged
from .paired_sweep import Stop

Named = Mapping[str, Tensor]


def refitted(
    method: Compensator, dense: fx.GraphModule, pruned: fx.GraphModule, stop: Stop, folds: Folds, plan: Plan
) -> tuple[Named, Mapping[int, Named]]:
    """Return weight and bias by name, fitted to all images and without each fold.

    Raises NumericsError where there are none, or they are not finite.
    """
    with naming(stop.one.weight):
        one = stop.one
        rank = plan.ranks.get(one.node)
        then = unchanged if rank is None else partial(truncated, folds.total, *rank)
        if Blocks.of(one).folded:
            fits = then(_folded(method, dense, stop, folds, plan.mask))
        else:
            matrix = as_matrix(graph.numbers(pruned, one.weight), one, groups_after(one, plan.mask))
            start = graph.numbers(pruned, str(one.bias)).reshape(matrix.shape[:2])
            fits = method.fits(folds, matrix, start, then)
        named = [(folds, _named(pruned, stop, fit)) for folds, fit in fits.held_out]
        return _named(pruned, stop, fits.all), {fold: each for folds, each in named for fold in folds}


def _named(pruned: fx.GraphModule, stop: Stop, fit: Fit) -> Named:
    """Return weight and bias in the narrow layer's shapes."""
    one, (weight, bias) = stop.one, fit
    old_weight, old_bias = graph.attribute(pruned, one.weight), graph.attribute(pruned, str(one.bias))
    if not bool(torch.isfinite(weight).all() and torch.isfinite(bias).all()):
        raise NumericsError("the refit is not finite; give more images or a larger ridge")
    weight = from_matrix(weight, one, old_weight.shape).to(old_weight)
    return {one.weight: weight, str(one.bias): bias.flatten().to(old_bias)}


def truncated(moments: Moments, split: Split, rank: int, fits: Fits) -> Fits:
    """Return fits of a lower rank: features chosen once, their reader fitted for each."""
    parts = lowrank.Parts.of(lowrank.Layer(fits.all[0][0], moments.covariance[0]), split, rank)
    given = [fits.all, *(fit for _, fit in fits.held_out)]
    low = []
    for (weight, bias), less in zip(given, parts.truncations(rank, [one[0][0] for one in given]), strict=True):
        low.append((less[None], bias + ((weight - less) @ moments.mean_z[:, :, None])[:, :, 0]))
    return Fits(low[0], [(folds, fit) for (folds, _), fit in zip(fits.held_out, low[1:], strict=True)])


def _folded(method: Compensator, dense: fx.GraphModule, stop: Stop, folds: Folds, mask: Tensor) -> Fits:
    """Return fits of a very wide layer. Kept channels z predict x = L z + m: W' = W L, b' = b + W m."""
    one, blocks = stop.one, Blocks.of(stop.one)
    stays = mask[one.inputs][:: blocks.inputs].nonzero().flatten()
    start = torch.eye(blocks.channels, dtype=torch.float64)[:, stays][None]
    weight = weight_of(dense, one)[0, stop.kept].unflatten(-1, (blocks.channels, blocks.taps))  # [o, C, t]
    bias = graph.numbers(dense, str(one.bias))[stop.kept]

    def lifted(fit: Fit) -> Fit:
        lift, mean = fit
        matrix = torch.einsum("oct,ck->okt", weight, lift[0]).flatten(1)[None]
        return matrix, bias + torch.einsum("oct,c->o", weight, mean[0])

    return method.fits(folds, start, torch.zeros(1, blocks.channels, dtype=torch.float64)).changed(lifted)
