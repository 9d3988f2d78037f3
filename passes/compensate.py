"""Refit every layer whose input has changed, front to back, in one sweep of both networks."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from torch import Tensor

from prunec import surgery
from prunec.compensation_interface import Compensator
from prunec.context import Context
from prunec.importance import by_position
from prunec.pipeline import Pass
from prunec.plan import Plan
from prunec.program import Program
from prunec.refit import refitted
from prunec.registry import STRATEGIES
from prunec.statistics.folds import FEWER, KEPT, Dealt, Folds
from prunec.statistics.pair import Pair, Stop, stops_of

HOLD = 5 << 28  # bytes of the rows of one layer


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
            if plan.judging:
                found = replace(found, judging={1: self.method.refit(program, plan.judged(), context).refit})
            return program.knowing(found)
        pruned = surgery.apply(program.module, plan.judged())
        refit: dict[str, Tensor] = {}
        judging: dict[int, dict[str, Tensor]] = defaultdict(dict)

        stops = stops_of(program.module, plan)
        shares = by_position(program, context)
        pair = Pair.of(program.module, pruned, Dealt.of(context.images(), context.batch, kept=context.kept))

        def fit(stop: Stop, folds: Folds) -> None:
            found, held_out = refitted(self.method, program.module, pruned, stop, folds, plan)
            refit.update(found)
            for fold in (KEPT, *FEWER) if KEPT in held_out else ():
                judging[-fold].update(held_out[fold])
            pair.assign(found, held_out)

        pair.sweep(context.track(stops, "compensate"), fit, rows=self.rows, seed=context.seed, shares=shares, hold=HOLD)
        return program.knowing(Plan(plan.channels, plan.keep, MappingProxyType(refit), MappingProxyType(dict(judging))))
