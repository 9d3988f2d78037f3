"""Re-estimate batch norm statistics on the compressed network.

    m <- E[x],   v <- Var[x]       over the calibration images and all positions, one norm after the other

(FSM: Duan et al. 2022; REPAIR 2022.) An unfolded norm (pre-activation networks, DenseNets) still holds the statistics
of the dense network. All batches advance together from norm to norm, so each uses the corrected ones before it and no
prefix runs twice. The mean is computed first, then the population variance about it, in float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from prunec.channels.rules.contraction import argument
from prunec.ir import graph
from prunec.ir.program import Program
from prunec.pipeline.context import Context
from prunec.pipeline.pipeline import Pass
from prunec.statistics.sweep import Frontier
from prunec.surgery.plan import Plan

aten = torch.ops.aten
NORMS = (aten.batch_norm.default, aten._native_batch_norm_legit_no_training.default)


@dataclass(frozen=True)
class ReestimateBn(Pass):
    """Re-estimate the remaining batch norms on the sliced network; the plan is kept."""

    requires = (Plan,)
    provides = (Plan,)
    rewrites = True

    def run(self, program: Program, context: Context) -> Program:
        """Return the network with new running means and variances, if it has norms."""
        norms = [node.name for node in program.module.graph.nodes if _measurable(node)]
        if not norms:
            return program
        module = graph.rebuild(program.module, {})
        frontier = Frontier(module, list(context.images().batches(context.batch)))
        done = 0
        for name in context.track(norms, "reestimate-bn"):
            _reestimate(frontier, done, frontier.places[name])
            done = frontier.places[name]
        return program.rewritten(module, program.fact(Plan))


def _measurable(node: fx.Node) -> bool:
    """Return whether a node is a batch norm with statistics that no other node reads."""
    if node.target not in NORMS or argument(node, "training", False):
        return False
    stored = [argument(node, name) for name in ("running_mean", "running_var")]
    shared = graph.shared(node.graph)
    return all(one is not None and one.op == "get_attr" and str(one.target) not in shared for one in stored)


def _reestimate(frontier: Frontier, start: int, stop: int) -> None:
    """Advance all batches to a norm and store the statistics of its input."""
    norm = frontier.nodes[stop]
    frontier.run_all(start, stop)
    seen = [values[norm.all_input_nodes[0]] for values in frontier.values]
    mean = _mean(seen)
    variance = _mean(seen, mean)
    for name, value in (("running_mean", mean), ("running_var", variance)):
        parameter = str(argument(norm, name).target)
        graph.assign(frontier.module, parameter, value.to(graph.attribute(frontier.module, parameter)))


def _mean(batches: Sequence[Tensor], about: Tensor | None = None) -> Tensor:
    """Return the channel means, or mean squares about `about`, float64 [C]."""
    total, count = batches[0].new_zeros(batches[0].shape[1], dtype=torch.float64), 0
    for batch in batches:
        rows = batch.double().transpose(0, 1).flatten(1)  # [C, N · positions]
        rows = rows if about is None else (rows - about[:, None]).square()
        total, count = total + rows.sum(1), count + rows.shape[1]
    return total / count
