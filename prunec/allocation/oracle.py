"""Evaluate counts by the output error of the pruned network, each counts once.

A search keeps the best of all counts that it tries and those of cheaper allocators, so it is never worse than they are.
All counts are finished first: within all limits, with no step left that lowers the error and fits.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from ..cost.terms import Counts, drop_useless_ranks
from ..grammar.registry import STRATEGIES
from ..statistics.agreement import Agreement
from .completion import finished
from .problem import Allocation
from .rebalancing import rebalanced

CHEAPER = ("uniform", "threshold", "gcro", "knapsack")  # allocators that try no network


@dataclass(frozen=True)
class Oracle:
    """The errors of the outputs on `images` images, by counts."""

    problem: Allocation
    images: int
    known: dict[tuple[int, ...], Agreement] = field(default_factory=dict)  # by counts

    def error(self, counts: Counts) -> float:
        """Return the relative squared error with these counts."""
        return self.tried(counts).relative_error

    def divergence(self, counts: Counts) -> float:
        """Return the KL divergence of the softened answers, else the relative squared error."""
        found = self.tried(counts)
        return found.relative_error if found.soft_kl is None else found.soft_kl

    def tried(self, counts: Counts) -> Agreement:
        """Return the agreement with these counts, useless ranks reset to full; cached."""
        settled = self.problem.closed(drop_useless_ranks(self.problem.model, counts))
        key = tuple(settled.tolist())
        if key not in self.known:
            self.known[key] = self.problem.tried(settled, self.images)
        return self.known[key]

    def cheaper(self) -> list[Counts]:
        """Return the finished counts of each allocator that tries no network."""
        makers = (STRATEGIES["allocators"].make(name) for name in CHEAPER)
        return self.ends(one.solved(self.problem) for one in makers)

    def ends(self, counts: Iterable[Counts]) -> list[Counts]:
        """Return the finished counts, without those outside a limit."""
        return [end for one in counts if (end := finished(self.problem, one)) is not None]

    def best(self, counts: Iterable[Counts]) -> Counts:
        """Return the counts of least error, ties to the first; else the fewest allowed."""
        found: Counts | None = min(counts, key=self.error, default=None)
        return drop_useless_ranks(self.problem.model, self.problem.fewest) if found is None else found

    def moved(self, counts: Counts, tries: int) -> Counts:
        """Return counts at least as good, after at most `tries` networks: the moves that the curves rank best."""
        return rebalanced(self.problem, counts, tries, self.error)

    def ranked(self) -> list[Counts]:
        """Return all evaluated counts, best first."""
        order = sorted(self.known, key=lambda one: (self.known[one].relative_error, one))
        return [np.array(one, dtype=np.int64) for one in order]
