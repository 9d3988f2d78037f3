"""Choose the number of coordinates kept of each space, for one or more targets."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType

from prunec.allocation.aligned_counts import aligned
from prunec.allocation.interface import Allocator
from prunec.allocation.problem import Allocation
from prunec.channels.spaces import Channels
from prunec.errors import BudgetError
from prunec.grammar.registry import STRATEGIES
from prunec.ir.program import Program
from prunec.pipeline.context import Context
from prunec.pipeline.pipeline import Pass
from prunec.statistics.facts import Curves
from prunec.surgery.plan import Plan


@dataclass(frozen=True)
class Allocate(Pass):
    """Choose the keep sets of the plan."""

    method: Allocator = field(default_factory=lambda: STRATEGIES["allocators"].make("portfolio"))

    requires = (Channels, Curves)
    provides = (Plan,)
    strategies = MappingProxyType({"method": "allocators"})

    def run(self, program: Program, context: Context) -> Program:
        """Add the `Plan` fact. Raises BudgetError if the target is out of reach."""
        channels, curves = program.fact(Channels), program.fact(Curves)
        if not channels.products:
            raise BudgetError("the network has no layer that multiplies by weights, so there is nothing to remove")
        problem = Allocation(channels, curves, context.wanted(), program, context)
        if any(one.kind == "latency" for one in problem.target.each):
            from prunec.latency.search import within  # needs ONNX Runtime

            problem, counts, how = within(problem, self.method, program, context)
        else:
            counts, how = aligned(problem, self.method, context.constraints)
        plan = Plan(channels, problem.keep(counts))
        gone = [one.space.removesuffix(":branch") for one in plan.branches]
        budgets = [one.to_json(counts) for one in problem.budgets]
        context.notes["allocate"] = {"budgets": budgets, "branches_gone": gone, **how}
        return program.knowing(plan)
