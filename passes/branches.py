"""Add a space of one coordinate for each removable residual branch.

    x + f(x)  ->  x:      error = sum |net_without_f(x) - net(x)|² / sum |net(x) - mean net|²

Depth then competes with width and rank. The branch costs what its layers cost if kept, and nothing if removed. The
error is measured after a refit of the layers up to the end of the next branch, the last of which also compensates the
missing f. The errors of channels and ranks are measured without such refits and are about twice their final values, so
in one currency a branch costs `factor` times its own (no paper; measurements in `docs/measurements.md`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import torch
from torch import Tensor

from prunec.channels import branches
from prunec.channels.spaces import Channels
from prunec.compensation.interface import Compensator
from prunec.compensation.layer_fit import refitted
from prunec.compensation.paired_sweep import Pair, Stop, stops_of
from prunec.grammar.registry import STRATEGIES
from prunec.ir.parallel import each
from prunec.ir.program import Program
from prunec.pipeline.context import Context
from prunec.pipeline.pipeline import Pass
from prunec.statistics.facts import Curve, Curves
from prunec.statistics.folds import FEWEST, Dealt, Folds
from prunec.statistics.relative import relative_error
from prunec.statistics.sweep import Frontier
from prunec.surgery import slicing
from prunec.surgery.plan import Plan

MOST = 8  # layers refitted behind a removed branch


@dataclass(frozen=True)
class Branches(Pass):
    """Add branch spaces, with errors measured on `images` images.

    `prunec.channels.branches` says which there are. `method` refits over `rows` sampled positions a layer, or more if
    there are more columns.
    """

    method: Compensator = field(default_factory=lambda: STRATEGIES["compensators"].make("sequential"))
    images: int = 64
    rows: int = 4096
    factor: float = 3.0

    requires = (Channels, Curves)
    provides = (Channels, Curves)
    strategies = MappingProxyType({"method": "compensators"})

    def run(self, program: Program, context: Context) -> Program:
        """Replace the `Channels` and `Curves` facts by extended ones."""
        curves = dict(program.fact(Curves).by_space)
        known = branches.extended(program, program.fact(Channels), context.constraints)
        for name, error in self._errors(program, context, known).items():
            whole = torch.tensor([0.0, self.factor * error], dtype=torch.float64)
            curves[name] = Curve(torch.tensor([0]), whole)
        return program.knowing(known, Curves(curves))

    @torch.no_grad()
    def _errors(self, program: Program, context: Context, channels: Channels) -> dict[str, float]:
        """Return the error without each branch in turn, by space.

        One walk of the dense network, forked at each branch.
        """
        if not channels.branches:
            return {}
        dealt = Dealt.of(context.images().take(self.images, context.seed), context.batch, FEWEST)
        whole, reached, errors = Frontier(program.module, dealt.batches), 0, {}
        dense = _finished(whole.forked(program.module), 0)
        for one in context.track(channels.branches, "branches"):
            place = whole.places[one.add]
            whole.run_all(reached, place)
            reached = place
            plan = Plan(channels, {one.space: ()})
            narrow = self._without(program, whole, place, plan, dealt.fold, context.seed)
            errors[one.space] = relative_error(narrow, dense, whole.sizes)
        return errors

    def _without(
        self, program: Program, whole: Frontier, place: int, plan: Plan, fold: list[int], seed: int
    ) -> list[list[Tensor]]:
        """Return the outputs of all batches without one branch, run from `place`. The next branch is refitted."""
        pruned = slicing.apply(program.module, plan)
        narrow = whole.forked(pruned)
        (add,) = plan.bypassed
        pair = Pair(whole.forked(program.module), narrow, fold, (place, narrow.places[add]))

        def fit(stop: Stop, folds: Folds) -> None:
            pair.assign(*refitted(self.method, program.module, pruned, stop, folds, plan))

        if self.method.sweeps:
            after = [stop for stop in stops_of(program.module, plan) if stop.place > place]
            pair.sweep(_next(after), fit, rows=self.rows, seed=seed)
        return _finished(narrow, pair.reached[1])


def _next(stops: Sequence[Stop]) -> list[Stop]:
    """List the stops up to the first added to a branch-free value, `MOST` at most."""
    last = next((place for place, stop in enumerate(stops) if stop.other is not None), len(stops))
    return list(stops[: min(last + 1, MOST)])


def _finished(frontier: Frontier, place: int) -> list[list[Tensor]]:
    """Run all batches to the end; return the outputs of each."""
    return each(lambda values: frontier.finish(values, place), frontier.values)
