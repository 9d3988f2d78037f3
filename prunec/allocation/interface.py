"""Define the interface of allocators; one algorithm a file."""

from __future__ import annotations

from abc import ABC, abstractmethod

from ..cost.macs import Counts
from .problem import Allocation


class Allocator(ABC):
    """Chooses how many coordinates of each space to keep."""

    @abstractmethod
    def counts(self, problem: Allocation) -> Counts:
        """Return the coordinates kept of each prunable space, int64 [spaces]. Raises BudgetError where infeasible."""

    def settled(self, problem: Allocation) -> Allocator:
        """Return the allocator that solves this problem: itself, or a delegate."""
        return self

    def solved(self, problem: Allocation) -> Counts:
        """Return `counts`, computed once a problem."""
        if self not in problem.solved:
            problem.solved[self] = self.counts(problem)
        return problem.solved[self]
