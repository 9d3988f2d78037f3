"""Order the coordinates of every space by their compensated error."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType

from prunec.channels.spaces import Channels
from prunec.grammar.registry import STRATEGIES
from prunec.ir.program import Program
from prunec.pipeline.context import Context
from prunec.pipeline.pipeline import Pass
from prunec.selection.evidence import Evidence
from prunec.selection.interface import Selector
from prunec.solvers.symmetric import naming
from prunec.statistics.facts import Curves, Statistics


@dataclass(frozen=True)
class Select(Pass):
    """Compute a nested removal order and error curve for each space."""

    method: Selector = field(default_factory=lambda: STRATEGIES["selectors"].make("obs"))

    requires = (Channels, Statistics)
    provides = (Curves,)
    strategies = MappingProxyType({"method": "selectors"})

    def run(self, program: Program, context: Context) -> Program:
        """Add the `Curves` fact."""
        spaces = context.track(program.fact(Channels).prunable, "select")
        curves = {}
        for space in spaces:
            with naming(space.name):
                curves[space.name] = self.method.curve(Evidence(program, context, space))
        return program.knowing(Curves(curves))
