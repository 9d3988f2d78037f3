"""Plan of a compression: kept coordinates of every space, and refitted weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any

from torch import Tensor

from ..channels.spaces import Branch, Channels, Space, Split


@dataclass(frozen=True)
class Plan:
    """Keep sets and refits for one program.

    `keep[space]` are the kept coordinates, ascending; `refit[parameter]` a weight or bias already narrowed, which
    replaces the sliced original. `judging[k]` are refits to 1/k of the images without held-out ones, for the estimate;
    empty where no refit reads the held-out images.
    """

    channels: Channels
    keep: Mapping[str, tuple[int, ...]]
    refit: Mapping[str, Tensor] = field(default_factory=lambda: MappingProxyType({}))
    judging: Mapping[int, Mapping[str, Tensor]] = field(default_factory=lambda: MappingProxyType({}))

    def judged(self, part: int = 1) -> Plan:
        """Return the plan with refits to 1/`part` of the images, without held-out ones."""
        return Plan(self.channels, self.keep, self.judging.get(part, self.refit))

    @cached_property
    def mask(self) -> Tensor:
        """Kept coordinates, bool [coordinates + 1]."""
        return self.channels.mask(self.keep)

    @cached_property
    def ranks(self) -> Mapping[str, tuple[Split, int]]:
        """Split and rank by node, for factored layers."""
        sizes = {space.name: space.size for space in self.channels.prunable}
        return {
            one.node: (one.split, len(self.keep[one.space]))
            for one in self.channels.factorings
            if len(self.keep.get(one.space, range(sizes[one.space]))) < sizes[one.space] and one.node not in self.gone
        }

    @cached_property
    def branches(self) -> tuple[Branch, ...]:
        """Removed residual branches."""
        return tuple(one for one in self.channels.branches if not self.keep.get(one.space, (0,)))

    @cached_property
    def bypassed(self) -> Mapping[str, str]:
        """Shortcut by the name of the add, for removed branches."""
        return {one.add: one.shortcut for one in self.branches}

    @cached_property
    def gone(self) -> frozenset[str]:
        """Nodes of the removed branches."""
        return frozenset().union(*(one.nodes for one in self.branches))

    def to_json(self) -> dict[str, Any]:
        """Return every space of channels or ranks: what is kept, and why if frozen.

        A layer with all ranks kept is not factored; within a removed branch nothing is kept.
        """
        gone = {name for one in self.branches for name in self.channels.inside(one)}
        return {"version": 1, "spaces": [self._row(space, space.name in gone) for space in self.channels.spaces]}

    def _row(self, space: Space, gone: bool) -> dict[str, Any]:
        keep = self.keep.get(space.name, tuple(range(space.size))) if space.frozen is None else range(space.size)
        keep = () if gone else keep
        sites = [{"parameter": one.parameter, "dim": one.dim, "role": one.role} for one in space.sites]
        row = {"name": space.name, "kind": self.channels.kind_of(space), "size": space.size, "kept": len(keep)}
        row |= {"keep": list(keep), "sites": sites}
        return row if space.frozen is None else {**row, "frozen": space.frozen}
