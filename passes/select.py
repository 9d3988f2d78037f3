"""Order the coordinates of every space by what their loss costs after compensation."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType

from prunec.channels.spaces import Channels
from prunec.errors import PassError
from prunec.facts import Curve, Curves, Statistics
from prunec.pipeline import Pass
from prunec.program import Context, Program
from prunec.readers import reader, readers_of
from prunec.registry import STRATEGIES
from prunec.strategy import Selector


@dataclass(frozen=True)
class Select(Pass):
    """Give each space a nested removal order and its error curve."""

    method: Selector = field(default_factory=lambda: STRATEGIES["selectors"].make("obs"))

    requires = (Channels, Statistics)
    provides = (Curves,)
    strategies = MappingProxyType({"method": "selectors"})

    def run(self, program: Program, context: Context) -> Program:
        """Add the `Curves` fact."""
        channels, moments = program.fact(Channels), program.fact(Statistics).moments
        curves: dict[str, Curve] = {}
        for space in context.track(channels.prunable, "select"):
            readers = [reader(program.module, one, space, moments[one.node]) for one in readers_of(channels, space)]
            if not readers:
                raise PassError(
                    f"no layer reads the space {space.name}: its channels are dead; freeze it or remove them"
                )
            curves[space.name] = self.method.curve(readers)
        return program.knowing(Curves(curves))
