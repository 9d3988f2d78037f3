"""Judge counts by the outputs of the network that they leave, each once, beside those of allocators that try none.

A search keeps the best by this measure of all that it tries and of what cheaper allocators find, so that it is never
worse than they are. Each is finished first: within all limits, and nothing left over that a step would lower the error
for.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from ..cost.terms import Counts, drop_useless_ranks
from ..grammar.registry import STRATEGIES
from .completion import finished
from .problem import Allocation
from .rebalancing import rebalanced

CHEAPER = ("uniform", "threshold", "gcro", "knapsack")  # allocators that try no network


@dataclass(frozen=True)
class Oracle:
    """The relative squared error of the outputs on `images` images, by counts."""

    problem: Allocation
    images: int
    known: dict[tuple[int, ...], float] = field(default_factory=dict)  # such as were tried

    def error(self, counts: Counts) -> float:
        """The error with these counts, ranks that save nothing whole; the network is tried once."""
        settled = self.problem.closed(drop_useless_ranks(self.problem.model, counts))
        key = tuple(settled.tolist())
        if key not in self.known:
            self.known[key] = self.problem.error(settled, self.images)
        return self.known[key]

    def cheaper(self) -> list[Counts]:
        """The counts that each allocator that tries no network ends in."""
        makers = (STRATEGIES["allocators"].make(name) for name in CHEAPER)
        return self.ends(counts for one in makers for counts in [one.counts(self.problem)])

    def ends(self, counts: Iterable[Counts]) -> list[Counts]:
        """The counts once finished, without those that end outside a limit."""
        return [end for one in counts if (end := finished(self.problem, one)) is not None]

    def best(self, counts: Iterable[Counts]) -> Counts:
        """The counts with the least error, of equals the first; the fewest that may stay where there are none."""
        found: Counts | None = min(counts, key=self.error, default=None)
        return drop_useless_ranks(self.problem.model, self.problem.fewest) if found is None else found

    def moved(self, counts: Counts, tries: int) -> Counts:
        """Counts at least as good, of so many networks about these at most: the moves that the curves hold best."""
        return rebalanced(self.problem, counts, tries, self.error)

    def ranked(self) -> list[Counts]:
        """All that were tried, the best first."""
        order = sorted(self.known, key=lambda one: (self.known[one], one))
        return [np.array(one, dtype=np.int64) for one in order]
