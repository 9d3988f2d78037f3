"""Refit every layer whose input has changed, front to back, in one sweep of both networks."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType

import torch
from torch import Tensor, fx

from prunec import graph, lowrank, surgery
from prunec.errors import NumericsError
from prunec.pipeline import Pass
from prunec.plan import Plan
from prunec.program import Context, Program
from prunec.readers import Blocks, as_matrix, from_matrix, groups_after, weight_of
from prunec.registry import STRATEGIES
from prunec.statistics.moments import Moments
from prunec.statistics.pair import Stop, stops_of, sweep
from prunec.strategy import Compensator


@dataclass(frozen=True)
class Compensate(Pass):
    """Fill the plan's refits; `rows` sampled positions a layer at least."""

    method: Compensator = field(default_factory=lambda: STRATEGIES["compensators"].make("sequential"))
    rows: int = 16384

    requires = (Plan,)
    provides = (Plan,)
    strategies = MappingProxyType({"method": "compensators"})

    def run(self, program: Program, context: Context) -> Program:
        """Replace the `Plan` fact by one with refitted weights."""
        plan = program.fact(Plan)
        if not self.method.sweeps:
            return program.knowing(self.method.refit(program, plan, context))
        pruned = surgery.apply(program.module, plan)
        stops = stops_of(program.module, plan)
        refit: dict[str, Tensor] = {}

        def fit(stop: Stop, moments: Moments) -> None:
            weight, bias = self._fit(program.module, pruned, stop, moments, plan)
            for name, value in ((stop.one.weight, weight), (str(stop.one.bias), bias)):
                refit[name] = value
                graph.assign(pruned, name, value)

        batches = list(context.images().batches(context.batch))
        sweep(program.module, pruned, stops, batches, fit, rows=self.rows, seed=context.seed, track=context.track)
        return program.knowing(Plan(plan.channels, plan.keep, MappingProxyType(refit)))

    def _fit(
        self, dense: fx.GraphModule, pruned: fx.GraphModule, stop: Stop, moments: Moments, plan: Plan
    ) -> tuple[Tensor, Tensor]:
        """The refitted weight and bias in the shapes of the narrow layer."""
        one, mask = stop.one, plan.mask
        old_weight, old_bias = graph.attribute(pruned, one.weight), graph.attribute(pruned, str(one.bias))
        if Blocks.of(one).folded:
            weight, bias = self._fit_folded(dense, stop, moments, mask)
        else:
            matrix = as_matrix(graph.numbers(pruned, one.weight), one, groups_after(one, mask))
            start = graph.numbers(pruned, str(one.bias)).reshape(matrix.shape[:2])
            weight, bias = self.method.fit(moments, matrix, start)
        if one.node in plan.ranks:
            low = lowrank.truncated(weight[0], moments.zz[0], *plan.ranks[one.node])[None]
            weight, bias = low, bias + ((weight - low) @ moments.mean_z[:, :, None])[:, :, 0]
        if not bool(torch.isfinite(weight).all() and torch.isfinite(bias).all()):
            raise NumericsError(f"the refit of {one.weight} is not finite; give more images or a larger ridge")
        return from_matrix(weight, one, old_weight.shape).to(old_weight), bias.flatten().to(old_bias)

    def _fit_folded(self, dense: fx.GraphModule, stop: Stop, moments: Moments, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Very wide layers: the kept channels z stand in for all channels x = L z + m, so W' = W L and b' = b + W m."""
        one, blocks = stop.one, Blocks.of(stop.one)
        stays = mask[one.inputs][:: blocks.inputs].nonzero().flatten()
        start = torch.eye(blocks.channels, dtype=torch.float64)[:, stays][None]
        lift, mean = self.method.fit(moments, start, torch.zeros(1, blocks.channels, dtype=torch.float64))
        weight = weight_of(dense, one)[0, stop.kept].unflatten(-1, (blocks.channels, blocks.taps))  # [o, C, t]
        bias = graph.numbers(dense, str(one.bias))[stop.kept]
        matrix = torch.einsum("oct,ck->okt", weight, lift[0]).flatten(1)[None]
        return matrix, bias + torch.einsum("oct,c->o", weight, mean[0])
