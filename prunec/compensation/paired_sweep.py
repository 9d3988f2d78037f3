"""Compensation sweep: refit layers front to back, dense and pruned network side by side.

At each layer with a drifted input, the moments of (pruned input → dense output) are collected over all batches and the
layer is refitted before the sweep continues. Where the layer feeds a residual add whose other operand is computed
already, the target also compensates the drift of that operand:

    y = dense branch + dense shortcut - pruned shortcut          (He et al. 2017, section 3.3)

Images are dealt to folds; those of a fold run through a pruned network fitted without them. So the input of a layer has
the drift of unseen images, and the error of a fit on the left-out fold is one on unseen images.

A removed branch adds nothing to the pruned network, so a convolution on its shortcut compensates for all of the branch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

import torch
from torch import Tensor, fx

from ..channels.matrix import Blocks, groups_after
from ..channels.rules.contraction import argument
from ..channels.spaces import Contraction
from ..ir import graph
from ..ir.parallel import each
from ..statistics.folds import FEWER, Dealt, Folds, Rows, together
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
    """A layer to refit, with the nodes and channels that the sweep needs."""

    one: Contraction
    place: int  # its number among the call_function nodes of the dense network
    other: str | None  # shortcut node, if computed before this layer
    kept: Tensor  # kept output channels, int64
    layer: Layer  # the pruned layer
    alone: bool = False  # the other operand is the end of a branch that is removed
    clamp: tuple[float, float] | None = None  # range of the activation after it, or after the add


def stops_of(module: fx.GraphModule, plan: Plan) -> list[Stop]:
    """Return the layers whose input differs from the dense network's, in order."""
    mask, ranks, gone = plan.mask, plan.ranks, plan.gone
    by_node = {one.node: one for one in plan.channels.contractions}
    shared = graph.shared(module.graph)
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
        if node.name in gone or one is None or one.weight in shared or one.bias is None:
            continue
        other = _other(node, number)
        alone = other in gone
        if moved or alone or node.name in ranks or not bool(mask[one.inputs].all()):
            kept = mask[one.outputs].nonzero().flatten()
            layer = Layer.of(module, node, one, groups_after(one, mask))
            stops.append(Stop(one, place, other, kept, layer, alone, _clamp(node, other)))
    return stops


def _clamp(node: fx.Node, other: str | None) -> tuple[float, float] | None:
    """Return the clamp range of a layer's only reader, directly or after the add."""
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
    """Return the other operand of the add that reads `node`, if computed before."""
    readers = list(node.users)
    if len(readers) != 1 or readers[0].target not in ADDS or readers[0].kwargs:
        return None
    others = [source for source in readers[0].args[:2] if source is not node]
    found = others[0] if len(others) == 1 else None
    return found.name if isinstance(found, fx.Node) and number.get(found, 1 << 60) < number[node] else None


@dataclass
class Pair:
    """The dense and a pruned network, both run to some place; `fit` writes refits."""

    whole: Frontier
    narrow: Frontier
    fold: list[int]  # of each batch
    reached: tuple[int, int] = (0, 0)  # call_function nodes that each has run

    @staticmethod
    def of(dense: fx.GraphModule, pruned: fx.GraphModule, dealt: Dealt) -> Pair:
        """Build a pair at the start of both networks."""
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
        """Run to each stop in turn and fit there, from at least `rows` sampled positions.

        Larger `shares` sample more. Where a clamp follows, rows of at most `hold` bytes are stored beside their
        moments.
        """
        fitted = sum(size for size, fold in zip(self.whole.sizes, self.fold, strict=True) if fold >= 0)
        for stop in stops:
            places = stop.place, self.narrow.places[stop.one.node]
            count = positions_per_sample(Blocks.of(stop.one).columns, rows, fitted)
            draws = Draws(self.whole.samples, count, stop.one.node, seed, shares.get(stop.one.node))
            measured = partial(self._measured, stop, places, draws, hold)
            folds = Folds.merged(each(measured, together(self.fold)))
            self.reached = places
            fit(stop, folds)

    def _measured(self, stop: Stop, places: tuple[int, int], draws: Draws, hold: int, batches: Sequence[int]) -> Folds:
        """Return the layer's moments by fold over some batches, with rows of few bytes."""
        folds, stored = Folds(), True
        for batch in batches:
            self._run(batch, places)
            if (fold := self.fold[batch]) in FEWER:
                continue
            z, y, shortcut = _rows(stop, self.whole, self.narrow, batch, draws)
            folds.add(fold, z, y)
            largest = z.nbytes * max(self.whole.sizes) / self.whole.sizes[batch]
            if stop.clamp is None or shortcut is None or largest * len(self.fold) > hold:
                stored = False  # the rows of all batches, or of none
            elif stored:
                folds.rows.append(Rows(fold, in_full(z), in_full(y), in_full(shortcut), *stop.clamp))
        folds.rows = folds.rows if stored else []
        return folds.on_cpu()

    def assign(self, weights: Mapping[str, Tensor], held_out: Mapping[int, Mapping[str, Tensor]]) -> None:
        """Write weights into the pruned network; images of a fold use the fit without it."""
        for name, value in weights.items():
            graph.assign(self.narrow.module, name, value)
        for batch, fold in enumerate(self.fold):
            self.narrow.values[batch].read(held_out.get(fold, {}))

    def _run(self, batch: int, places: tuple[int, int]) -> None:
        """Advance both; images measured in another fold run the narrow one only."""
        for frontier, done, place in zip((self.whole, self.narrow), self.reached, places, strict=True):
            if frontier is self.narrow or self.fold[batch] not in FEWER:
                frontier.run(batch, done, place)


def _rows(
    stop: Stop, whole: Frontier, narrow: Frontier, batch: int, draws: Draws
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return a batch's pruned inputs, dense targets and pruned shortcut at drawn positions.

    The shortcut is None where unknown.
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
