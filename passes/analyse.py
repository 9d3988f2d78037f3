"""Analyse channels: compute the channel spaces (DESIGN, "Channel analysis is abstract interpretation")."""

from __future__ import annotations

from dataclasses import dataclass

from prunec.channels.spaces import Channels
from prunec.ir.program import Program
from prunec.pipeline.context import Context
from prunec.pipeline.pipeline import Pass
from prunec.surgery.trial import analysed


@dataclass(frozen=True)
class Analyse(Pass):
    """Compute which channels are removed together, and which must be kept."""

    provides = (Channels,)

    def run(self, program: Program, context: Context) -> Program:
        """Add the `Channels` fact."""
        return program.knowing(analysed(program, context.constraints))
