"""Refit every layer whose input has changed, front to back."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from torch import Tensor

from prunec.compensation.interface import Compensator
from prunec.compensation.layer_fit import refitted
from prunec.compensation.paired_sweep import Pair, Stop, stops_of
from prunec.grammar.registry import STRATEGIES
from prunec.ir.program import Program
from prunec.pipeline.context import Context
from prunec.pipeline.pipeline import Pass
from prunec.selection.importance import by_position
from prunec.statistics.folds import FEWER, KEPT, Dealt, Folds
from prunec.surgery import slicing
from prunec.surgery.plan import Plan

HOLD = 5 << 28  # bytes of the rows of one layer


@dataclass(frozen=True)
class Compensate(Pass):
    """Refit the plan's layers over at least `rows` sampled positions each."""

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
        pruned = slicing.apply(program.module, plan.judged())
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
