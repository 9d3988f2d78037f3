"""Slice the network to its plan: remove the channels, use the refitted weights."""

from __future__ import annotations

from dataclasses import dataclass

from prunec import surgery
from prunec.bypass import tidied
from prunec.context import Context
from prunec.pipeline import Pass
from prunec.plan import Plan
from prunec.program import Program


@dataclass(frozen=True)
class Slice(Pass):
    """Apply the plan; the plan stays known, as the record of what was done."""

    requires = (Plan,)
    provides = (Plan,)
    rewrites = True

    def run(self, program: Program, context: Context) -> Program:
        """The narrow network."""
        plan = program.fact(Plan)
        narrow = surgery.apply(program.module, plan)
        return program.rewritten(tidied(narrow, plan) if plan.bypassed else narrow, plan)
