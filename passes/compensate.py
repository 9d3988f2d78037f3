"""Refit every layer whose input has changed, front to back, in one sweep of both networks."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from types import MappingProxyType

from torch import Tensor

from prunec import surgery
from prunec.importance import by_position
from prunec.pipeline import Pass
from prunec.plan import Plan
from prunec.program import Context, Program
from prunec.refit import refitted
from prunec.registry import STRATEGIES
from prunec.statistics.folds import KEPT, Dealt, Folds
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
            found = self.method.refit(program, plan, context)
            if plan.without_kept:
                found = replace(found, without_kept=self.method.refit(program, plan.judged(), context).refit)
            return program.knowing(found)
        pruned = surgery.apply(program.module, plan.judged())
        refit: dict[str, Tensor] = {}
        without_kept: dict[str, Tensor] = {}

        stops = stops_of(program.module, plan)
        shares = by_position(program, context)
        pair = Pair.of(program.module, pruned, Dealt.of(context.images(), context.batch, kept=context.kept))

        def fit(stop: Stop, folds: Folds) -> None:
            found, held_out = refitted(self.method, program.module, pruned, stop, folds, plan)
            refit.update(found)
            without_kept.update(held_out.get(KEPT, {}))
            pair.assign(found, held_out)

        pair.sweep(context.track(stops, "compensate"), fit, rows=self.rows, seed=context.seed, shares=shares)
        return program.knowing(Plan(plan.channels, plan.keep, MappingProxyType(refit), MappingProxyType(without_kept)))
