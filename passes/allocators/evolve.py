"""Evolve the counts by trying networks.

    child = repair(mutate(parent))  or  repair(mix(parent, other));    fitness = error of the refitted network's outputs

MetaPruning (Liu et al., ICCV 2019) trains a network that gives weights for any widths; here least squares give them,
without training or labels. Repair follows the error curves down to the budget and back up to it, each curve times a
random factor, so that it does not undo the mutation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from prunec.allocation.completion import finished
from prunec.allocation.greedy import afford, give_back, nearest
from prunec.allocation.interface import Allocator
from prunec.allocation.oracle import Oracle
from prunec.allocation.problem import Allocation
from prunec.cost.macs import Counts

NOISE = 0.1  # of the curves in a repair, as a factor
DRAWS = 32  # for a child that was not tried before: most of those of a small network were


@dataclass(frozen=True)
class Evolve(Allocator):
    """Evolve the counts, from a `population` of the allocators that try no network.

    Each of the `generations` tries `population` children on `images` images. A mutation moves a `share` of the spaces
    by a factor of about `step`, or to the next count. The result is never worse than the start by that measure.
    """

    generations: int = 5
    population: int = 8
    share: float = 0.1
    step: float = 0.2
    images: int = 64

    def counts(self, problem: Allocation) -> Counts:
        """Return the coordinates kept of each prunable space, int64 [spaces]."""
        random = np.random.default_rng(0 if problem.context is None else problem.context.seed)
        oracle = Oracle(problem, self.images)
        best = oracle.best(oracle.cheaper())
        if not len(best):
            return best
        for _ in range(self.generations):
            parents = oracle.ranked()[: self.population]
            children: dict[tuple[int, ...], Counts] = {}
            draws = 0
            while len(children) < self.population and draws < DRAWS:  # ends: more children, or draws in vain
                child = self._child(problem, parents, random)
                draws += 1
                if child is not None and (key := tuple(child.tolist())) not in oracle.known and key not in children:
                    children[key], draws = child, 0
            best = oracle.best([best, *children.values()])
        return best

    def _child(self, problem: Allocation, parents: Sequence[Counts], random: np.random.Generator) -> Counts | None:
        """Return counts within the budget from one or two parents; None if repair fails."""
        first, second = (parents[int(random.integers(len(parents)))] for _ in range(2))
        if (first == second).all() or random.random() < 0.5:
            child = self._mutant(problem, first, random)
        else:
            child = np.where(random.random(len(first)) < 0.5, first, second)
        factors = np.exp(random.normal(0.0, NOISE, len(child)))
        errors = [error * factor for error, factor in zip(problem.errors, factors, strict=True)]
        model, allowed = problem.model, problem.allowed
        child = afford(model, errors, child, allowed, problem.inside)
        return finished(problem, give_back(model, errors, child, allowed, inside=problem.inside))

    def _mutant(self, problem: Allocation, counts: Counts, random: np.random.Generator) -> Counts:
        moved = random.random(len(counts)) < self.share
        moved[random.integers(len(counts))] = True
        factors = np.exp(random.normal(0.0, self.step, len(counts)))
        wanted = counts.copy()
        for place in moved.nonzero()[0]:
            wanted[place] = _moved(problem, int(place), int(counts[place]), float(factors[place]))
        return wanted


def _moved(problem: Allocation, place: int, count: int, factor: float) -> int:
    """Return the count times a factor, or the next allowed count that way. The count of a branch toggles."""
    may = np.isfinite(problem.errors[place]).nonzero()[0]
    wanted = nearest(problem.channels.prunable[place], max(count * factor + 0.5, 1))
    if wanted != count and count and wanted in may:
        return wanted
    further = may[may < count][-1:] if factor < 1 else may[may > count][:1]
    return int(further[0]) if len(further) else count
