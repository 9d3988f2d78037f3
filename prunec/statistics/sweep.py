"""Walks that run a graph over batches of images.

`Frontier` runs any stretch of nodes for any batch and drops each value after its last reader, so two programs can be
advanced side by side, segment by segment, and no prefix is ever run twice.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, fx

from ..ir import graph

BY_STRIDE = {torch.ops.aten.as_strided, torch.ops.aten.as_strided_copy, torch.ops.aten.view_as_complex}


class Frontier:
    """The live values of one program for each of several batches."""

    def __init__(self, module: fx.GraphModule, batches: Sequence[tuple[Tensor, ...]]) -> None:
        self.module = module
        self.nodes: list[fx.Node] = [node for node in module.graph.nodes if node.op == "call_function"]
        self.places = {node.name: place for place, node in enumerate(self.nodes)}
        self._dying = graph.last_uses(module.graph.nodes)
        inputs = graph.placeholders(module)
        laid_out = (channels_last(module, batch) for batch in batches)
        self.values: list[graph.Values] = [dict(zip(inputs, batch, strict=True)) for batch in laid_out]
        self.sizes = [len(batch[0]) for batch in batches]
        self.own: list[dict[str, Tensor]] = [{} for _ in batches]  # weights of one batch alone, in the network's place

    @property
    def samples(self) -> int:
        """In all batches."""
        return sum(self.sizes)

    def slice_of(self, batch: int) -> slice:
        """The samples of one batch among all."""
        start = sum(self.sizes[:batch])
        return slice(start, start + self.sizes[batch])

    def fork(self, module: fx.GraphModule) -> Frontier:
        """Return a copy with the values of nodes of the same names in another network, or in this one once more."""
        found = Frontier(module, [])
        names = {node.name: node for node in module.graph.nodes}
        for values in self.values:
            found.values.append({names[node.name]: value for node, value in values.items() if node.name in names})
        found.sizes, found.own = self.sizes, [{} for _ in self.sizes]
        return found

    @torch.no_grad()
    def run(self, batch: int, start: int, stop: int) -> None:
        """Compute nodes start … stop - 1 for one batch; one computed ahead is not computed again."""
        values = self.values[batch]
        for node in self.nodes[start:stop]:
            self._compute(node, batch)
            for dead in self._dying.get(node, ()):
                values.pop(dead, None)

    @torch.no_grad()
    def value_ahead(self, batch: int, place: int) -> Tensor:
        """The value of a node whose turn has not come: its inputs stay alive until it has."""
        values, node = self.values[batch], self.nodes[place]
        self._compute(node, batch)
        value: Tensor = values[node]
        return value

    def named(self, batch: int, name: str) -> Tensor:
        """The live value of the node called `name`."""
        value: Tensor = self.values[batch][self.nodes[self.places[name]]]
        return value

    def _compute(self, node: fx.Node, batch: int) -> None:
        values, own = self.values[batch], self.own[batch]
        if node in values:
            return
        for source in node.all_input_nodes:
            if source.op == "get_attr":  # read as it is now, so a refit is seen at once
                name = str(source.target)
                values[source] = own[name] if name in own else graph.attribute(self.module, name)
        values[node] = graph.run_node(self.module, node, values)


def channels_last(module: fx.GraphModule, batch: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The images with their channels innermost: CPUs run convolutions faster so, and gather rows whole.

    They stay as they are where an operator looks at how its input lies in memory.
    """
    if any(getattr(node.target, "overloadpacket", None) in BY_STRIDE for node in module.graph.nodes):
        return batch
    images = torch.channels_last
    return tuple(one.contiguous(memory_format=images) if one.dim() == 4 else one for one in batch)
