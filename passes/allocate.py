"""Choose how many coordinates of each space stay, for a target."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType

from prunec.channels.spaces import Channels
from prunec.facts import Curves
from prunec.pipeline import Pass
from prunec.plan import Plan
from prunec.program import Context, Program
from prunec.registry import STRATEGIES
from prunec.strategy import Allocator


@dataclass(frozen=True)
class Allocate(Pass):
    """Fill the plan's keep sets."""

    method: Allocator = field(default_factory=lambda: STRATEGIES["allocators"].make("knapsack"))

    requires = (Channels, Curves)
    provides = (Plan,)
    strategies = MappingProxyType({"method": "allocators"})

    def run(self, program: Program, context: Context) -> Program:
        """Add the `Plan` fact."""
        channels, curves = program.fact(Channels), program.fact(Curves)
        counts = self.method.counts(channels, curves, context.wanted())
        keep = {
            space.name: curves.by_space[space.name].keep(int(count))
            for space, count in zip(channels.prunable, counts, strict=True)
        }
        return program.knowing(Plan(channels, keep))
