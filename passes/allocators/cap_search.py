"""Binary structural search with step constraint (CaP: Xie et al. 2021), its tolerance chosen so that a budget is met.

    spaces in the order of the network, l = 1 … L:   n_l = fewest with  error(n_1 … n_l, the rest whole) <= t · l / L

Each may spend an equal slice of the tolerance t, and what is not spent rolls on. The error is that of the outputs of
the refitted network and reads no label, where the paper tests accuracy. t is bisected too, and as every try runs the
network, neighbours share a step where there are more of them than tries: the spaces are cut into runs, and what is
bisected is how far a run goes down its error curves, cheapest first.
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
    """Try about `calls` networks at most: `tolerances` searches of `rounds` bisections a run, on `images` images.

    With 0, as many as `CALLS` for each space, so that the runs are as short in a large network as in a small one. What
    a search finds is repaired to the budget; the best by the same measure, of these and of what allocators that try no
    network find, is moved about with the calls that are left.
    """

    calls: int = 0
    tolerances: int = 5
    rounds: int = 4
    images: int = 64

    def __post_init__(self) -> None:
        """Raise ValueError where not even one run can be searched."""
        if self.calls and self.calls < self.tolerances * (self.rounds + 1) + STARTS:
            raise ValueError(f"calls of {self.calls} are too few: tolerances · (rounds + 1) + {STARTS} are needed")

    def counts(self, problem: Allocation) -> Counts:
        """Coordinates kept of each prunable space."""
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
        """The spaces in the order of the network, in as many runs as there are calls for."""
        spaces = channels.prunable
        order = sorted(range(len(spaces)), key=lambda place: (first_layer(channels, spaces[place]), place))
        count = ((self._calls(channels) - STARTS) // self.tolerances - 1) // self.rounds
        return [part.tolist() for part in np.array_split(np.array(order), min(count, len(order)))]

    def _search(self, problem: Allocation, oracle: Oracle, runs: Sequence[list[int]], tolerance: float) -> Counts:
        """Each run goes as far as its slice of the tolerance lets it."""
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
    """The errors by count of a space that keeps what it has."""
    held = np.full_like(error, np.inf)
    held[count] = error[count]
    return held
