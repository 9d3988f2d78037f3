"""One node of a narrow graph, with kept places of its channel axes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from ..channels.rules.contraction import argument
from ..channels.spaces import Axis
from ..device import CPU, device_of

aten = torch.ops.aten


@dataclass(frozen=True)
class Narrowing:
    """One node to rewrite: `new` is the copy of `node`; `tensors` collects its constants."""

    module: fx.GraphModule
    node: fx.Node
    new: fx.Node
    before: Axis | None  # of the first input
    after: Any  # of the value: an Axis, None, or a tuple of them
    mask: Tensor
    tensors: dict[str, Tensor]

    def kept(self, axis: Axis, start: int = 0, stop: int | None = None) -> int:
        """Return the number of kept places among start … stop - 1 of an axis."""
        return int(self.mask[axis.coordinates[start:stop]].sum())

    def bound(self, axis: Axis, value: int | None) -> int:
        """Return the position of a place, from either end, among the kept ones."""
        length, place = len(axis.coordinates), 0 if value is None else value
        return self.kept(axis, 0, min(max(place + length if place < 0 else place, 0), length))

    def set(self, place: int, value: Any) -> None:
        """Replace a positional argument."""
        arguments = list(self.new.args)
        arguments[place] = value
        self.new.args = tuple(arguments)

    def pick(self, source: Any, dim: int, places: Tensor) -> None:
        """Make the node select `places` of `source` along `dim`."""
        constant = self.constant(places)
        self.new.target = aten.index_select.default
        self.new.args, self.new.kwargs = (source, dim, constant), {}

    def constant(self, places: Tensor) -> fx.Node:
        """Insert a node before this one that reads `places`."""
        name = f"{self.node.name}_places"
        self.tensors[name] = places.to(device_of(self.module) or CPU)
        with self.new.graph.inserting_before(self.new):
            return self.new.graph.get_attr(name)

    def argument(self, name: str) -> Any:
        """Return an argument of the original node."""
        return argument(self.node, name)

    def along(self) -> bool:
        """Return whether the node's `dim` is the channel axis of its input."""
        return self.before is not None and int(self.argument("dim")) % self.before.rank == self.before.dim
