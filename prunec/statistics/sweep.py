"""Run a graph over several batches, segment by segment."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, fx

from ..ir.interpreter import Interpreter, Live
from ..ir.parallel import each

BY_STRIDE = {torch.ops.aten.as_strided, torch.ops.aten.as_strided_copy, torch.ops.aten.view_as_complex}


class Frontier(Interpreter):
    """Run of one program over several batches, side by side."""

    def __init__(self, module: fx.GraphModule, batches: Sequence[tuple[Tensor, ...]]) -> None:
        super().__init__(module)
        self.values = [self.start(channels_last(module, batch)) for batch in batches]
        self.sizes = [len(batch[0]) for batch in batches]

    @property
    def samples(self) -> int:
        """Count the samples of all batches."""
        return sum(self.sizes)

    def slice_of(self, batch: int) -> slice:
        """Return the slice of one batch among all samples."""
        start = sum(self.sizes[:batch])
        return slice(start, start + self.sizes[batch])

    def forked(self, module: fx.GraphModule) -> Frontier:
        """Return a copy that runs `module`, with the values of nodes of equal name."""
        found = Frontier(module, [])
        names = {node.name: node for node in module.graph.nodes}
        for values in self.values:
            named = {names[node.name]: value for node, value in values.items() if node.name in names}
            found.values.append(Live(module, named))
        found.sizes = self.sizes
        return found

    @torch.no_grad()
    def run(self, batch: int, start: int, stop: int) -> None:
        """Compute nodes start … stop - 1 for one batch, skipping those computed ahead."""
        self.advance(self.values[batch], start, stop)

    def run_all(self, start: int, stop: int) -> None:
        """Compute nodes start … stop - 1 for all batches."""
        each(lambda batch: self.run(batch, start, stop), range(len(self.values)))

    @torch.no_grad()
    def value_ahead(self, batch: int, place: int) -> Tensor:
        """Compute the value of a node ahead of its turn. Its inputs are kept until then."""
        value: Tensor = self.compute(self.nodes[place], self.values[batch])
        return value

    def named(self, batch: int, name: str) -> Tensor:
        """Return the live value of the node called `name`."""
        value: Tensor = self.values[batch][self.nodes[self.places[name]]]
        return value


def channels_last(module: fx.GraphModule, batch: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Return the images with channels innermost, for faster convolutions and row gathers.

    They are unchanged if an operator depends on the memory layout of its input.
    """
    if any(getattr(node.target, "overloadpacket", None) in BY_STRIDE for node in module.graph.nodes):
        return batch
    images = torch.channels_last
    return tuple(one.contiguous(memory_format=images) if one.dim() == 4 else one for one in batch)
