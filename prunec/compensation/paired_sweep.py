"""The compensation sweep: the dense and the pruned network side by side, one fit after the other, front to back.

At each layer whose input has drifted, the moments of (what the pruned network feeds it → what the dense network gave
there) are collected over all batches, the layer is refitted, and the sweep goes on with the refitted weight. Where the
layer feeds a residual add whose other operand is there already, the target also makes up for the drift of that operand:

    y = dense branch + dense shortcut - pruned shortcut          (He et al. 2017, section 3.3)

Images are dealt to folds, and those of a fold run through a pruned network that was fitted without them. What arrives
at a layer has then drifted as it will for images that no fit has seen, and the error of a fit on the fold left out is
one on other images.

A branch that is removed gives the pruned network nothing, so a convolution on its shortcut makes up for all of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor, fx

from ..channels.matrix import Blocks, groups_after
from ..channels.rules.contraction import argument
from ..channels.spaces import Contraction
from ..ir import graph
from ..statistics.folds import FEWER, Dealt, Folds, Rows
from ..statistics.moments import grouped, in_full, positions_per_sample
from ..statistics.patches import Draws, Layer
from ..statistics.sweep import Frontier
from ..surgery.plan import Plan

EVEN: Mapping[str, Tensor] = MappingProxyType({})
aten = torch.ops.aten
ADDS = (aten.add.Tensor, aten.add_.Tensor)
CLAMPS = {aten.relu: (0.0, math.inf), aten.relu_: (0.0, math.inf), aten.relu6: (0.0, 6.0), aten.relu6_: (0.0, 6.0)}


@dataclass(frozen=True)
class Stop:
    """A layer to refit, and where the sweep finds what it needs."""

    one: Contraction
    place: int  # its number among the call_function nodes of the dense network
    other: str | None  # the operand that it is added to, where that is known by then
    kept: Tensor  # output channels that stay, int64
    layer: Layer  # as it is when pruned
    alone: bool = False  # the other operand is the end of a branch that is removed
    clamp: tuple[float, float] | None = None  # what the activation behind it, or behind the add, lets through


def stops_of(module: fx.GraphModule, plan: Plan) -> list[Stop]:
    """The layers whose input differs from the dense network's, in order."""
    mask, ranks, gone = plan.mask, plan.ranks, plan.gone
    by_node = {one.node: one for one in plan.channels.contractions}
    shared = [one.weight for one in plan.channels.contractions]
    nodes = [node for node in module.graph.nodes if node.op == "call_function"]
    number = {node: place for place, node in enumerate(nodes)}
    drifted: set[fx.Node] = set()
    stops = []
    for place, node in enumerate(nodes):
        one = by_node.get(node.name)
        moved = any(source in drifted for source in node.all_input_nodes)
        narrower = one is not None and not bool(mask[one.outputs].all())
        if moved or narrower or node.name in ranks or node.name in plan.bypassed:
            drifted.add(node)
        if node.name in gone or one is None or shared.count(one.weight) > 1 or one.bias is None:
            continue
        other = _other(node, number)
        alone = other in gone
        if moved or alone or node.name in ranks or not bool(mask[one.inputs].all()):
            kept = mask[one.outputs].nonzero().flatten()
            layer = Layer.of(module, node, one, groups_after(one, mask))
            stops.append(Stop(one, place, other, kept, layer, alone, _clamp(node, other)))
    return stops


def _clamp(node: fx.Node, other: str | None) -> tuple[float, float] | None:
    """The range that the only reader of a layer lets through, or of the sum that it is added to."""
    readers = list(node.users)
    if other is not None:
        readers = list(readers[0].users)
    reader = readers[0] if len(readers) == 1 else None
    packet = getattr(reader and reader.target, "overloadpacket", None)
    if reader is None or (other is None and packet in (aten.add, aten.add_)):
        return None
    if packet in CLAMPS:
        return CLAMPS[packet]
    if packet in (aten.hardtanh, aten.hardtanh_):
        return float(argument(reader, "min_val")), float(argument(reader, "max_val"))
    if packet is aten.clamp:
        low, high = argument(reader, "min"), argument(reader, "max")
        if not isinstance(low, fx.Node) and not isinstance(high, fx.Node):
            return -math.inf if low is None else float(low), math.inf if high is None else float(high)
    return None


def _other(node: fx.Node, number: dict[fx.Node, int]) -> str | None:
    """The other operand of the residual add that reads `node`, if it is computed before."""
    readers = list(node.users)
    if len(readers) != 1 or readers[0].target not in ADDS or readers[0].kwargs:
        return None
    others = [source for source in readers[0].args[:2] if source is not node]
    found = others[0] if len(others) == 1 else None
    return found.name if isinstance(found, fx.Node) and number.get(found, 1 << 60) < number[node] else None


@dataclass
class Pair:
    """The dense network and a pruned one, both run as far as some place; `fit` writes its refits into the pruned."""

    whole: Frontier
    narrow: Frontier
    fold: list[int]  # of each batch
    reached: tuple[int, int] = (0, 0)  # call_function nodes that each has run

    @staticmethod
    def of(dense: fx.GraphModule, pruned: fx.GraphModule, dealt: Dealt) -> Pair:
        """Both at the start."""
        return Pair(Frontier(dense, dealt.batches), Frontier(pruned, dealt.batches), dealt.fold)

    @torch.no_grad()
    def sweep(
        self,
        stops: Iterable[Stop],
        fit: Callable[[Stop, Folds], None],
        *,
        rows: int,
        seed: int,
        shares: Mapping[str, Tensor] = EVEN,
        hold: int = 0,
    ) -> None:
        """Go to each stop in turn, and fit there: `rows` sampled positions at least, more where `shares` are larger.

        Where a clamp follows, the rows themselves are kept beside their moments, if they take `hold` bytes at most.
        """
        fitted = sum(size for size, fold in zip(self.whole.sizes, self.fold, strict=True) if fold >= 0)
        for stop in stops:
            self._run(stop.place, self.narrow.places[stop.one.node])
            count = positions_per_sample(Blocks.of(stop.one).columns, rows, fitted)
            folds, draws = Folds(), Draws(self.whole.samples, count, stop.one.node, seed, shares.get(stop.one.node))
            for batch, fold in ((batch, fold) for batch, fold in enumerate(self.fold) if fold not in FEWER):
                z, y, shortcut = _measured(stop, self.whole, self.narrow, batch, draws)
                folds.add(fold, z, y)
                fits = folds.rows or (batch == 0 and z.nbytes * len(self.fold) <= hold)  # those of all batches, or none
                if stop.clamp is not None and shortcut is not None and fits:
                    folds.rows.append(Rows(fold, in_full(z), in_full(y), in_full(shortcut), *stop.clamp))
            fit(stop, folds.on_cpu())

    def assign(self, weights: Mapping[str, Tensor], held_out: Mapping[int, Mapping[str, Tensor]]) -> None:
        """Write weights into the pruned network, and for the images of each fold those that were fitted without it."""
        for name, value in weights.items():
            graph.assign(self.narrow.module, name, value)
        for batch, fold in enumerate(self.fold):
            self.narrow.own[batch].update(held_out.get(fold, {}))

    def _run(self, *places: int) -> None:
        """Advance both, batch by batch; of images that are measured in another fold, the narrow one alone."""
        for batch, fold in enumerate(self.fold):
            for frontier, done, place in zip((self.whole, self.narrow), self.reached, places, strict=True):
                if frontier is self.narrow or fold not in FEWER:
                    frontier.run(batch, done, place)
        self.reached = (places[0], places[1])


def _measured(
    stop: Stop, whole: Frontier, narrow: Frontier, batch: int, draws: Draws
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return the pruned inputs and dense targets of one batch at one stop, at the positions drawn.

    And what the pruned network adds to its outputs there; None where that is not known.
    """
    samples = whole.slice_of(batch)
    node, thin = whole.nodes[stop.place], narrow.nodes[narrow.places[stop.one.node]]
    dense_in, pruned_in = whole.values[batch][node.all_input_nodes[0]], narrow.values[batch][thin.all_input_nodes[0]]
    layer, blocks = stop.layer, Blocks.of(stop.one)
    if blocks.folded:
        at = draws.of(layer.space(dense_in), samples)
        return blocks.rows(layer.rows(pruned_in, at)), blocks.rows(layer.rows(dense_in, at)), None
    output = whole.value_ahead(batch, stop.place)
    at = draws.of(layer.space(output), samples)
    target = at.of(output, layer.channel_axis)[:, stop.kept]
    rows, shortcut = layer.rows(pruned_in, at), None if stop.other is None else whole.named(batch, stop.other)
    if shortcut is None:
        return rows, grouped(target, layer.groups), grouped(torch.zeros_like(target), layer.groups)
    if shortcut.shape != output.shape:  # one that is broadcast has no value at each position
        return rows, grouped(target, layer.groups), None
    target = target + at.of(shortcut, layer.channel_axis)[:, stop.kept]
    if stop.alone:
        return rows, grouped(target, layer.groups), grouped(torch.zeros_like(target), layer.groups)
    brought = at.of(narrow.named(batch, str(stop.other)), layer.channel_axis)
    return rows, grouped(target - brought, layer.groups), grouped(brought, layer.groups)
