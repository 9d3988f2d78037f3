"""Refit every layer whose input has changed, front to back, in one sweep of both networks."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType

from torch import Tensor

from prunec import graph, surgery
from prunec.pipeline import Pass
from prunec.plan import Plan
from prunec.program import Context, Program
from prunec.refit import refitted
from prunec.registry import STRATEGIES
from prunec.statistics.moments import Moments
from prunec.statistics.pair import Pair, Stop, stops_of
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
        refit: dict[str, Tensor] = {}

        def fit(stop: Stop, moments: Moments) -> None:
            weight, bias = refitted(self.method, program.module, pruned, stop, moments, plan)
            for name, value in ((stop.one.weight, weight), (str(stop.one.bias), bias)):
                refit[name] = value
                graph.assign(pruned, name, value)

        batches, stops = list(context.images().batches(context.batch)), stops_of(program.module, plan)
        pair = Pair.of(program.module, pruned, batches)
        pair.sweep(context.track(stops, "compensate"), fit, rows=self.rows, seed=context.seed)
        return program.knowing(Plan(plan.channels, plan.keep, MappingProxyType(refit)))
