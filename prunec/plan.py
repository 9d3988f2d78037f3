"""A plan: what is kept of every space, and the refitted weights that make up for the rest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from torch import Tensor

from .channels.spaces import Channels


@dataclass(frozen=True)
class Plan:
    """Keep sets and refits for one program.

    `keep[space]` are the kept coordinates, ascending; `refit[parameter]` a weight or bias already narrowed to them,
    which surgery uses in the place of the sliced original.
    """

    channels: Channels
    keep: Mapping[str, tuple[int, ...]]
    refit: Mapping[str, Tensor] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def mask(self) -> Tensor:
        """Which coordinates stay, bool [coordinates + 1]."""
        return self.channels.mask(self.keep)

    def to_json(self) -> dict[str, Any]:
        """Every space, what was kept of it and, where it is frozen, why."""
        return {"version": 1, "spaces": [self._row(space) for space in self.channels.spaces]}

    def _row(self, space: Any) -> dict[str, Any]:
        keep = self.keep.get(space.name, tuple(range(space.size))) if space.frozen is None else range(space.size)
        sites = [{"parameter": one.parameter, "dim": one.dim, "role": one.role} for one in space.sites]
        row = {"name": space.name, "size": space.size, "kept": len(keep), "keep": list(keep), "sites": sites}
        return row if space.frozen is None else {**row, "frozen": space.frozen}
