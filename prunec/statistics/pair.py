"""The compensation sweep: the dense and the pruned network side by side, one fit after the other, front to back.

At each layer whose input has drifted, the moments of (what the pruned network feeds it → what the dense network gave
there) are collected over all batches, the layer is refitted, and the sweep goes on with the refitted weight. Where the
layer feeds a residual add whose other operand is there already, the target also makes up for the drift of that operand:

    y = dense branch + dense shortcut - pruned shortcut          (He et al. 2017, section 3.3)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from ..channels.spaces import Contraction
from ..plan import Plan
from ..progress import Track
from ..readers import Blocks, groups_after
from .moments import Moments, grouped, positions_per_sample
from .patches import Layer, Positions
from .sweep import Frontier

ADDS = (torch.ops.aten.add.Tensor, torch.ops.aten.add_.Tensor)


@dataclass(frozen=True)
class Stop:
    """A layer to refit, and where the sweep finds what it needs."""

    one: Contraction
    place: int  # its number among the call_function nodes
    other: str | None  # the operand that it is added to, where that is known by then
    kept: Tensor  # output channels that stay, int64
    layer: Layer  # as it is when pruned


def stops_of(module: fx.GraphModule, plan: Plan) -> list[Stop]:
    """The layers whose input differs from the dense network's, in order."""
    mask, ranks = plan.mask, plan.ranks
    by_node = {one.node: one for one in plan.channels.contractions}
    shared = [one.weight for one in plan.channels.contractions]
    nodes = [node for node in module.graph.nodes if node.op == "call_function"]
    number = {node: place for place, node in enumerate(nodes)}
    drifted: set[fx.Node] = set()
    stops = []
    for place, node in enumerate(nodes):
        one = by_node.get(node.name)
        moved = any(source in drifted for source in node.all_input_nodes)
        if moved or node.name in ranks or (one is not None and not bool(mask[one.outputs].all())):
            drifted.add(node)
        if one is None or shared.count(one.weight) > 1 or one.bias is None:
            continue
        if moved or node.name in ranks or not bool(mask[one.inputs].all()):
            kept = mask[one.outputs].nonzero().flatten()
            layer = Layer.of(module, node, one, groups_after(one, mask))
            stops.append(Stop(one, place, _other(node, number), kept, layer))
    return stops


def _other(node: fx.Node, number: dict[fx.Node, int]) -> str | None:
    """The other operand of the residual add that reads `node`, if it is computed before."""
    readers = list(node.users)
    if len(readers) != 1 or readers[0].target not in ADDS or readers[0].kwargs:
        return None
    others = [source for source in readers[0].args[:2] if source is not node]
    found = others[0] if len(others) == 1 else None
    return found.name if isinstance(found, fx.Node) and number.get(found, 1 << 60) < number[node] else None


@torch.no_grad()
def sweep(
    dense: fx.GraphModule,
    pruned: fx.GraphModule,
    stops: Sequence[Stop],
    batches: Sequence[tuple[Tensor, ...]],
    fit: Callable[[Stop, Moments], None],
    *,
    rows: int,
    seed: int,
    track: Track,
) -> None:
    """Run both networks to each stop in turn; `fit` must write the refitted weight into `pruned`."""
    generator = torch.Generator().manual_seed(seed)
    whole, narrow = Frontier(dense, batches), Frontier(pruned, batches)
    samples = sum(len(batch[0]) for batch in batches)
    done = 0
    steps: Iterable[Stop] = track(stops, "compensate")
    for stop in steps:
        count = positions_per_sample(Blocks.of(stop.one).columns, rows, samples)
        moments = Moments()
        for batch in range(len(batches)):
            whole.run(batch, done, stop.place)
            narrow.run(batch, done, stop.place)
            drawn = count * len(batches[batch][0])
            _measure(moments, stop, whole, narrow, batch, drawn, generator)
        fit(stop, moments.on_cpu())
        done = stop.place


def _measure(
    moments: Moments, stop: Stop, whole: Frontier, narrow: Frontier, batch: int, rows: int, generator: torch.Generator
) -> None:
    """Sample one batch at one stop: pruned inputs, dense targets."""
    node, thin = whole.nodes[stop.place], narrow.nodes[stop.place]
    dense_in, pruned_in = whole.values[batch][node.all_input_nodes[0]], narrow.values[batch][thin.all_input_nodes[0]]
    layer, blocks = stop.layer, Blocks.of(stop.one)
    if blocks.folded:
        at = Positions.draw(layer.space(dense_in), rows, generator)
        moments.add(blocks.rows(layer.rows(pruned_in, at)), blocks.rows(layer.rows(dense_in, at)))
        return
    output = whole.value_ahead(batch, stop.place)
    at = Positions.draw(layer.space(output), rows, generator)
    target = at.of(output, layer.channel_axis)[:, stop.kept]
    shortcut = None if stop.other is None else whole.named(batch, stop.other)
    if shortcut is not None and shortcut.shape == output.shape:  # one that is broadcast has no value at each position
        drifted = at.of(narrow.named(batch, str(stop.other)), layer.channel_axis)
        target = target + at.of(shortcut, layer.channel_axis)[:, stop.kept] - drifted
    moments.add(layer.rows(pruned_in, at), grouped(target, layer.groups))
