"""One node of a narrow graph whose arguments are rewritten, and the places of a channel axis that stay."""

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
    """One node to rewrite: `new` is the copy of `node`; `tensors` takes the constants that it needs."""

    module: fx.GraphModule
    node: fx.Node
    new: fx.Node
    before: Axis | None  # of the first input
    after: Any  # of the value: an Axis, None, or a tuple of them
    mask: Tensor
    tensors: dict[str, Tensor]

    def kept(self, axis: Axis, start: int = 0, stop: int | None = None) -> int:
        """How many of the places start … stop - 1 of an axis stay."""
        return int(self.mask[axis.coordinates[start:stop]].sum())

    def bound(self, axis: Axis, value: int | None) -> int:
        """Compute the position of a place of an axis, counted from either end, among those that remain."""
        length, place = len(axis.coordinates), 0 if value is None else value
        return self.kept(axis, 0, min(max(place + length if place < 0 else place, 0), length))

    def set(self, place: int, value: Any) -> None:
        """Replace a positional argument."""
        arguments = list(self.new.args)
        arguments[place] = value
        self.new.args = tuple(arguments)

    def pick(self, source: Any, dim: int, places: Tensor) -> None:
        """Let the node select these places of `source` along an axis."""
        constant = self.constant(places)
        self.new.target = aten.index_select.default
        self.new.args, self.new.kwargs = (source, dim, constant), {}

    def constant(self, places: Tensor) -> fx.Node:
        """A node before this one that reads these places."""
        name = f"{self.node.name}_places"
        self.tensors[name] = places.to(device_of(self.module) or CPU)
        with self.new.graph.inserting_before(self.new):
            return self.new.graph.get_attr(name)

    def argument(self, name: str) -> Any:
        """An argument of the original node."""
        return argument(self.node, name)

    def along(self) -> bool:
        """Return whether the node's `dim` is the channel axis of its input."""
        return self.before is not None and int(self.argument("dim")) % self.before.rank == self.before.dim
