"""Slice the network to its plan, with the refitted weights."""

from __future__ import annotations

from dataclasses import dataclass

from prunec.ir.program import Program
from prunec.pipeline.context import Context
from prunec.pipeline.pipeline import Pass
from prunec.surgery import slicing
from prunec.surgery.bypass import tidied
from prunec.surgery.plan import Plan


@dataclass(frozen=True)
class Slice(Pass):
    """Remove the plan's channels; the plan is kept as the record."""

    requires = (Plan,)
    provides = (Plan,)
    rewrites = True

    def run(self, program: Program, context: Context) -> Program:
        """Return the narrow network."""
        plan = program.fact(Plan)
        narrow = slicing.apply(program.module, plan)
        return program.rewritten(tidied(narrow, plan) if plan.bypassed else narrow, plan)
