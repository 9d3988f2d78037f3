"""Define the interface of allocators; one algorithm a file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

from ..cost.macs import Counts
from .problem import Allocation


class Allocator(ABC):
    """Chooses *how many* coordinates of each space stay."""

    @abstractmethod
    def counts(self, problem: Allocation) -> Counts:
        """Coordinates kept of each prunable space, int64 [spaces]. Raises BudgetError where infeasible."""

    def settled(self, problem: Allocation) -> Allocator:
        """The allocator that does the work: itself, or the one that it would hand this problem to."""
        return self

    def candidates(self, problem: Allocation) -> Iterator[Counts]:
        """Counts of which the best is taken once each is within all limits (`prunec.allocation.multi_budget`)."""
        yield self.counts(problem)
