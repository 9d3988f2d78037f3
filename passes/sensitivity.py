"""Scale each curve to what the outputs feel: remove a part of one space at a time, refit its readers, run to the end.

    scale_s = ( sum |f_s(x) - f(x)|² / sum |f(x) - mean f|² ) / error_s(k)

with k = level · size removed at first, and what the plan removes where there is a plan already.

The squared error of the outputs, not the KL divergence: on images that the network has memorised KL vanishes. The walk
shares every prefix: it forks where the first reader of a space is and runs only what follows. Where a norm runs over
the space, masking is not removing, and the sliced network is run whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx

from prunec import graph, linalg, lowrank, surgery
from prunec.channels.spaces import Channels, Contraction, Space, Split
from prunec.facts import Curve, Curves, Statistics
from prunec.pipeline import Pass
from prunec.plan import Plan
from prunec.program import Context, Program
from prunec.readers import Blocks, columns_of, from_matrix, readers_of, weight_of
from prunec.statistics.sweep import channels_last, floats, outputs


@dataclass(frozen=True)
class Sensitivity(Pass):
    """Measure, one space at a time, the error of the outputs on `images` images with `level` of the space gone."""

    images: int = 16
    level: float = 0.5
    ridge: float = 1e-3

    requires = (Channels, Statistics, Curves)
    provides = (Curves,)

    def run(self, program: Program, context: Context) -> Program:
        """Replace the `Curves` fact by one whose errors are those of the outputs."""
        channels, curves = program.fact(Channels), program.fact(Curves).by_space
        gone = {space.name: self._gone(program, space) for space in channels.prunable}
        splits = {one.space: one.split for one in channels.factorings}
        places = {one.node: one.space for one in channels.factorings}
        layers = {places[one.node]: one for one in channels.contractions if one.node in places}
        forks: dict[str, list[tuple[Space, Mapping[str, Tensor]]]] = {}
        sliced: dict[str, fx.GraphModule] = {}
        for space in channels.prunable:
            readers = readers_of(channels, space) or [layers[space.name]]
            if space.sites:
                weights = self._weights(program, space, readers, gone[space.name])
            else:
                weights = _truncated(program, splits[space.name], readers[0], space.size - gone[space.name])
            if space.renormalised:
                sliced[space.name] = _sliced(program.module, channels, curves[space.name], space, gone, weights)
            else:
                forks.setdefault(readers[0].node, []).append((space, weights))
        totals: dict[str, float] = {}
        subset = context.images().take(self.images, context.seed)
        batches = list(subset.batches(context.batch))
        for batch in context.track(batches, "sensitivity"):
            for name, error in _errors(program.module, batch, forks, sliced).items():
                totals[name] = totals.get(name, 0.0) + error / len(batches)
        scaled = {name: _scaled(curves[name], gone[name], total) for name, total in totals.items()}
        return program.knowing(Curves(scaled, scaled=True))

    def _gone(self, program: Program, space: Space) -> int:
        """How many coordinates are tried."""
        planned = space.size - len(program.fact(Plan).keep[space.name]) if program.has(Plan) else 0
        return planned or min(max(1, round(space.size * self.level)), max(1, space.size - 1))

    def _weights(self, program: Program, space: Space, readers: list[Contraction], count: int) -> dict[str, Tensor]:
        """Full-size weights and biases of the readers, refitted without the part of the space that is gone."""
        statistics, curve = program.fact(Statistics).moments, program.fact(Curves).by_space[space.name]
        gone = curve.order[:count]
        changed: dict[str, Tensor] = {}
        for one in readers:
            moments, original = statistics[one.node], graph.attribute(program.module, one.weight)
            blocks = Blocks.of(one)
            weight = blocks.weight(weight_of(program.module, one))
            stays = torch.ones(weight.shape[-1], dtype=torch.bool)
            stays[columns_of(one, space)[gone].flatten()] = False
            kept = stays.nonzero().flatten()
            fitted = torch.zeros_like(weight)
            fitted[:, :, kept] = linalg.refit(moments.zz, weight, kept, self.ridge)
            shift = ((weight - fitted) @ moments.mean_z[:, :, None])[:, :, 0]
            if blocks.folded:
                groups, rows, width = fitted.shape
                fitted = fitted.reshape(groups, rows // blocks.taps, blocks.taps, width).transpose(2, 3).flatten(2)
                shift = shift.reshape(groups, -1, blocks.taps).sum(-1)
            changed[one.weight] = from_matrix(fitted, one, original.shape).to(original)
            if one.bias is not None:
                bias = graph.attribute(program.module, one.bias)
                changed[one.bias] = bias + shift.flatten().to(bias)
        return changed


def _truncated(program: Program, split: Split, one: Contraction, rank: int) -> dict[str, Tensor]:
    """Weight and bias of a layer with a lower rank."""
    moments, original = program.fact(Statistics).moments[one.node], graph.attribute(program.module, one.weight)
    weight = weight_of(program.module, one)[0]
    low = lowrank.truncated(weight, moments.zz[0], split, rank)
    bias = graph.attribute(program.module, str(one.bias))
    shift = (weight - low) @ moments.mean_z[0]
    return {one.weight: low.reshape(original.shape).to(original), str(one.bias): bias + shift.to(bias)}


def _scaled(curve: Curve, gone: int, measured: float) -> Curve:
    local = float(curve.error[gone])
    return replace(curve, error=curve.error * (measured / local if local > 0 else 0.0))


def _sliced(
    module: fx.GraphModule,
    channels: Channels,
    curve: Curve,
    space: Space,
    gone: Mapping[str, int],
    weights: Mapping[str, Tensor],
) -> fx.GraphModule:
    """The network without a part of one space: what a norm or a mean over it makes of the rest cannot be masked."""
    plan = Plan(channels, {space.name: curve.keep(space.size - gone[space.name])})
    refit = {name: surgery.narrow(weight, name, plan, plan.mask) for name, weight in weights.items()}
    return surgery.apply(module, replace(plan, refit=refit))


@torch.no_grad()
def _errors(
    module: fx.GraphModule,
    batch: tuple[Tensor, ...],
    forks: Mapping[str, list[Any]],
    sliced: Mapping[str, fx.GraphModule],
) -> dict[str, float]:
    """The relative squared error of the outputs for each fork and for each sliced network, on one batch."""
    values: graph.Values = dict(zip(graph.placeholders(module), channels_last(module, batch), strict=True))
    nodes = [node for node in module.graph.nodes if node.op in ("get_attr", "call_function")]
    dying = graph.last_uses(module.graph.nodes)
    ends: dict[str, list[Tensor]] = {}
    for place, node in enumerate(nodes):
        for space, changed in forks.get(node.name, ()):
            ends[space.name] = _finish(module, nodes[place:], dict(values), changed, dying)
        _advance(module, node, values, {}, dying)
    dense = outputs(module, values)
    for name, narrow in sliced.items():
        ends[name] = floats(narrow(*batch))
    return {name: _relative_error(end, dense) for name, end in ends.items()}


def _finish(
    module: fx.GraphModule, nodes: list[fx.Node], values: graph.Values, changed: Mapping[str, Tensor], dying: Any
) -> list[Tensor]:
    for node in [one for one in values if one.op == "get_attr" and str(one.target) in changed]:
        values[node] = changed[str(node.target)]
    for node in nodes:
        _advance(module, node, values, changed, dying)
    return outputs(module, values)


def _advance(
    module: fx.GraphModule, node: fx.Node, values: graph.Values, changed: Mapping[str, Tensor], dying: Any
) -> None:
    name = str(node.target)
    known = node.op == "get_attr" and name in changed
    values[node] = changed[name] if known else graph.run_node(module, node, values)
    for dead in dying.get(node, ()):
        values.pop(dead, None)


def _relative_error(found: list[Tensor], wanted: list[Tensor]) -> float:
    error = sum(float((a - b).square().sum()) for a, b in zip(found, wanted, strict=True))
    size = sum(float((b - b.mean(0)).square().sum()) for b in wanted)
    return error / max(size, 1e-30)
