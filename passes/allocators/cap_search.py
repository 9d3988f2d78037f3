"""Search counts by bisection under a step constraint on the error.

    spaces in the order of the network, l = 1 … L:   n_l = fewest with  error(n_1 … n_l, the rest in full) <= t · l / L

(CaP: Xie et al. 2021.) Each space may spend an equal slice of the tolerance t, and the unspent part rolls on. The error
is that of the outputs of the refitted network, without labels; the paper tests accuracy. t is bisected until the budget
is met. Every try runs the network, so if there are more spaces than tries, neighbours form a run, removed cheapest
first along their error curves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from prunec.allocation.depth_scaling import first_layer
from prunec.allocation.greedy import descent
from prunec.allocation.interface import Allocator
from prunec.allocation.oracle import CHEAPER, Oracle
from prunec.allocation.problem import Allocation, Array
from prunec.channels.spaces import Channels
from prunec.cost.macs import Counts

CALLS = 12  # for each space: runs of less than two spaces
LEAST_CALLS = 100
STARTS = len(CHEAPER) + 1  # networks that are tried first


@dataclass(frozen=True)
class CapSearch(Allocator):
    """Search about `calls` networks on `images` images by bisection, under a step constraint.

    `tolerances` searches of `rounds` bisections a run; with `calls` 0, `CALLS` for each space. Results are repaired to
    the budget. The best of these and of the allocators without tries is rebalanced with the remaining calls.
    """

    calls: int = 0
    tolerances: int = 5
    rounds: int = 4
    images: int = 64

    def __post_init__(self) -> None:
        """Raise ValueError if `calls` are too few for one run."""
        if self.calls and self.calls < self.tolerances * (self.rounds + 1) + STARTS:
            raise ValueError(f"calls of {self.calls} are too few: tolerances · (rounds + 1) + {STARTS} are needed")

    def counts(self, problem: Allocation) -> Counts:
        """Return the coordinates kept of each prunable space, int64 [spaces]."""
        model, allowed, oracle = problem.model, problem.allowed, Oracle(problem, self.images)
        if not len(model.sizes):
            return model.sizes
        ends = oracle.cheaper()
        best = oracle.best([*oracle.ends([model.sizes]), *ends])
        low, high = 0.0, 2 * oracle.error(best)
        tolerance = high
        runs = self._runs(problem.channels)
        for _ in range(self.tolerances):
            found = self._search(problem, oracle, runs, tolerance)
            if model.total(found) <= allowed:
                high = tolerance
            else:
                low, high = tolerance, max(high, 4 * tolerance) if tolerance >= high else high
            tolerance = (low + high) / 2
            best = oracle.best([best, *oracle.ends([found])])
        return oracle.moved(best, self._calls(problem.channels) - len(oracle.known))

    def _calls(self, channels: Channels) -> int:
        return self.calls or max(LEAST_CALLS, CALLS * len(channels.prunable))

    def _runs(self, channels: Channels) -> list[list[int]]:
        """Return the spaces in network order, cut into runs that `calls` can afford."""
        spaces = channels.prunable
        order = sorted(range(len(spaces)), key=lambda place: (first_layer(channels, spaces[place]), place))
        count = ((self._calls(channels) - STARTS) // self.tolerances - 1) // self.rounds
        return [part.tolist() for part in np.array_split(np.array(order), min(count, len(order)))]

    def _search(self, problem: Allocation, oracle: Oracle, runs: Sequence[list[int]], tolerance: float) -> Counts:
        """Return the counts with each run cut as far as its slice allows."""
        model, counts = problem.model, problem.model.sizes.copy()
        for step, run in enumerate(runs):
            slice_ = tolerance * (step + 1) / len(runs)
            errors = [
                error if space in run else _held(error, int(counts[space]))
                for space, error in enumerate(problem.errors)
            ]
            ladder = [counts, *descent(model, errors, counts, problem.inside)]
            low, high = 0, len(ladder) - 1
            for _ in range(self.rounds):
                middle = (low + high + 1) // 2
                if low < high:
                    fits = oracle.error(ladder[middle]) <= slice_
                    low, high = (middle, high) if fits else (low, middle - 1)
            counts = ladder[low]
        return counts


def _held(error: Array, count: int) -> Array:
    """Return the errors by count of a space that keeps its count."""
    held = np.full_like(error, np.inf)
    held[count] = error[count]
    return held
