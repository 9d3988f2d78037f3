"""Note the parameters that hold most weights."""

from __future__ import annotations

from dataclasses import dataclass

from prunec.ir.program import Program
from prunec.pipeline.context import Context
from prunec.pipeline.pipeline import Pass


@dataclass(frozen=True)
class LargestWeights(Pass):
    """Note the `top` largest parameters and their sizes, in weights."""

    top: int = 3

    def run(self, program: Program, context: Context) -> Program:
        """Return the program as it is."""
        sizes = {name: parameter.numel() for name, parameter in program.module.named_parameters()}
        largest = sorted(sizes, key=lambda name: (-sizes[name], name))[: self.top]
        context.notes["largest-weights"] = {name: sizes[name] for name in largest}
        return program
