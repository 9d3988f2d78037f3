"""Channel analysis: find the channel spaces (DESIGN, "Channel analysis is abstract interpretation")."""

from __future__ import annotations

from dataclasses import dataclass

from prunec.channels.spaces import Channels
from prunec.context import Context
from prunec.fitting import analysed
from prunec.pipeline import Pass
from prunec.program import Program


@dataclass(frozen=True)
class Analyse(Pass):
    """Find which channels stand or fall together, and which may not fall."""

    provides = (Channels,)

    def run(self, program: Program, context: Context) -> Program:
        """Add the `Channels` fact."""
        return program.knowing(analysed(program, context.constraints))
