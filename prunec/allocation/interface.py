"""Define the interface of allocators; one algorithm a file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

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

    def candidates(self, problem: Allocation) -> Iterator[Counts]:
        """Yield counts; the best after completion is used (`prunec.allocation.multi_budget`)."""
        yield self.counts(problem)
