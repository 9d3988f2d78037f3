"""Give each residual branch that may go whole a space of one coordinate, so that depth competes with width and rank.

    x + f(x)  ->  x:      error = sum |net_without_f(x) - net(x)|² / sum |net(x) - mean net|²

It costs what its layers cost while that coordinate stays, and nothing when it goes. The error is measured after a refit
of the layers up to the end of the next branch, whose last also makes up for the missing f: of ResNet-56 without
`layer2.7` it is 0.005, without the refit 0.022. The errors of channels and ranks are measured without such refits and
come to 2.3 times what is left of them in the end (ResNet-56 at 0.5, 0.3 and 0.2 of its MACs: 0.0345 for 0.0133, 0.127
for 0.056, 0.254 for 0.119), so in one currency a branch costs `factor` times its own. Error of the outputs on training
images that were not calibrated on, without branches and with, ResNet-56: 0.5 of the MACs 0.0176 and 0.0176, 0.3 0.0736
and 0.0732, 0.2 0.156 and 0.152, with widths in 16s 0.318 and 0.219; ResNet-20: 0.5 0.049 and 0.049, 0.3 0.161 and
0.146. With factor 1: 0.3 of ResNet-56 0.089.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import torch
from torch import Tensor

from prunec.channels import branches
from prunec.channels.spaces import Channels, Space
from prunec.compensation.interface import Compensator
from prunec.compensation.layer_fit import refitted
from prunec.compensation.paired_sweep import Pair, Stop, stops_of
from prunec.grammar.registry import STRATEGIES
from prunec.ir import graph
from prunec.ir.program import Program
from prunec.pipeline.context import Context
from prunec.pipeline.pipeline import Pass
from prunec.request.constraints import Constraints
from prunec.statistics.facts import Curve, Curves
from prunec.statistics.folds import FEWEST, Dealt, Folds
from prunec.statistics.relative import relative_error
from prunec.statistics.sweep import Frontier
from prunec.surgery import slicing
from prunec.surgery.plan import Plan

MOST = 8  # layers refitted behind a branch that is gone


@dataclass(frozen=True)
class Branches(Pass):
    """Add the spaces, with errors measured on `images` images; layers that the user holds on to hold their branch.

    `method` refits over `rows` sampled positions a layer, or more where there are more columns.
    """

    method: Compensator = field(default_factory=lambda: STRATEGIES["compensators"].make("sequential"))
    images: int = 64
    rows: int = 4096
    factor: float = 3.0

    requires = (Channels, Curves)
    provides = (Channels, Curves)
    strategies = MappingProxyType({"method": "compensators"})

    def run(self, program: Program, context: Context) -> Program:
        """Replace the `Channels` and `Curves` facts by longer ones."""
        channels, curves = program.fact(Channels), dict(program.fact(Curves).by_space)
        spaces, found, start = list(channels.spaces), list(channels.branches), channels.count
        names = [str(node.target) for node in program.module.graph.nodes if node.op == "get_attr"]
        for one in branches.found(program, channels):
            layers = list(dict.fromkeys(graph.layer_of(name) for name in names if name in one.parameters))
            if layers and _may_go(context.constraints, layers):
                found.append(replace(one, space=f"{layers[0]}:branch"))
                spaces.append(Space(found[-1].space, 1, (), None, start + len(found) - 1, least=0))
        known = replace(channels, spaces=tuple(spaces), branches=tuple(found))
        for name, error in self._errors(program, context, known).items():
            whole = torch.tensor([0.0, self.factor * error], dtype=torch.float64)
            curves[name] = Curve(torch.tensor([0]), whole)
        return program.knowing(known, Curves(curves))

    @torch.no_grad()
    def _errors(self, program: Program, context: Context, channels: Channels) -> dict[str, float]:
        """By space: the error without each branch in turn, in one walk of the dense network that forks at each."""
        if not channels.branches:
            return {}
        dealt = Dealt.of(context.images().take(self.images, context.seed), context.batch, FEWEST)
        whole, reached, errors = Frontier(program.module, dealt.batches), 0, {}
        dense = _finished(whole.forked(program.module), 0)
        for one in context.track(channels.branches, "branches"):
            place = whole.places[one.add]
            for batch in range(len(dealt.batches)):
                whole.run(batch, reached, place)
            reached = place
            plan = Plan(channels, {one.space: ()})
            narrow = self._without(program, whole, place, plan, dealt.fold, context.seed)
            errors[one.space] = relative_error(narrow, dense, whole.sizes)
        return errors

    def _without(
        self, program: Program, whole: Frontier, place: int, plan: Plan, fold: list[int], seed: int
    ) -> list[list[Tensor]]:
        """The outputs of all batches without one branch, the next refitted, from `place` on."""
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


def _may_go(constraints: Constraints, layers: list[str]) -> bool:
    """Return whether no constraint of the user keeps one of these layers, or a share of it."""
    return not any(constraints.reason([layer]) or constraints.share([layer]) < 1 for layer in layers)


def _next(stops: Sequence[Stop]) -> list[Stop]:
    """List the stops up to the first that is added to a value without the branch, `MOST` at most."""
    last = next((place for place, stop in enumerate(stops) if stop.other is not None), len(stops))
    return list(stops[: min(last + 1, MOST)])


def _finished(frontier: Frontier, place: int) -> list[list[Tensor]]:
    """Run all batches to the end; return the outputs of each."""
    return [frontier.finish(values, place) for values in frontier.values]
