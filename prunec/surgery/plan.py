"""A plan: what is kept of every space, and the refitted weights that make up for the rest."""

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

    `keep[space]` are the kept coordinates, ascending; `refit[parameter]` a weight or bias already narrowed to them,
    which surgery uses in the place of the sliced original. `judging[k]` are the same fitted to one of k images, none
    of them kept back, by which the plan is judged; empty where no refit has read those kept back.
    """

    channels: Channels
    keep: Mapping[str, tuple[int, ...]]
    refit: Mapping[str, Tensor] = field(default_factory=lambda: MappingProxyType({}))
    judging: Mapping[int, Mapping[str, Tensor]] = field(default_factory=lambda: MappingProxyType({}))

    def judged(self, part: int = 1) -> Plan:
        """The plan with the refits to one of `part` images that have not read those kept back."""
        return Plan(self.channels, self.keep, self.judging.get(part, self.refit))

    @property
    def mask(self) -> Tensor:
        """Which coordinates stay, bool [coordinates + 1]."""
        return self.channels.mask(self.keep)

    @property
    def ranks(self) -> Mapping[str, tuple[Split, int]]:
        """By node: how it is split, and its rank; layers that stay one, or go, are not named."""
        sizes = {space.name: space.size for space in self.channels.prunable}
        return {
            one.node: (one.split, len(self.keep[one.space]))
            for one in self.channels.factorings
            if len(self.keep.get(one.space, range(sizes[one.space]))) < sizes[one.space] and one.node not in self.gone
        }

    @cached_property
    def branches(self) -> tuple[Branch, ...]:
        """The residual branches that go."""
        return tuple(one for one in self.channels.branches if not self.keep.get(one.space, (0,)))

    @cached_property
    def bypassed(self) -> Mapping[str, str]:
        """By the add of a branch that goes: the operand that it hands on."""
        return {one.add: one.shortcut for one in self.branches}

    @cached_property
    def gone(self) -> frozenset[str]:
        """The nodes of the branches that go."""
        return frozenset().union(*(one.nodes for one in self.branches))

    def to_json(self) -> dict[str, Any]:
        """Every space of channels or ranks, what was kept of it and, where it is frozen, why.

        A layer whose ranks are all kept is whole; of what is inside a branch that goes nothing is kept.
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
