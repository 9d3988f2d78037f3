"""Evolution of the counts, tried on the network (MetaPruning: Liu et al., ICCV 2019).

    child = repair(mutate(parent))  or  repair(mix(parent, other));    fitness = error of the refitted network's outputs

MetaPruning trains a network that gives weights for any widths; least squares give them here, without training, and
without labels. Repair goes down the error curves to the budget and back up to it, each space's curve times a random
factor, so that it does not undo what was tried.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prunec.allocation import Allocation
from prunec.cost import Counts
from prunec.registry import STRATEGIES
from prunec.spending import afford, give_back, nearest
from prunec.strategy import Allocator

NOISE = 0.1  # of the curves in a repair, as a factor


@dataclass(frozen=True)
class Evolve(Allocator):
    """Start from the knapsack's counts and keep the best `population` of what mutation and crossover make of them.

    Each of the `generations` tries `population` children on `images` images. A mutation moves a `share` of the spaces
    by a factor of about `step`; what is returned is never worse than the start by that measure.
    """

    generations: int = 5
    population: int = 8
    share: float = 0.1
    step: float = 0.2
    images: int = 64

    def counts(self, problem: Allocation) -> Counts:
        """Coordinates kept of each prunable space."""
        random = np.random.default_rng(0 if problem.context is None else problem.context.seed)
        start = problem.model.whole(STRATEGIES["allocators"].make("knapsack").counts(problem))
        if not len(start):
            found: Counts = start
            return found
        tried = {tuple(start): problem.error(start, self.images)}
        for _ in range(self.generations):
            parents = sorted(tried, key=lambda one: (tried[one], one))[: self.population]
            for child in (self._child(problem, parents, random) for _ in range(self.population)):
                if tuple(child) not in tried:
                    tried[tuple(child)] = problem.error(child, self.images)
        return np.array(min(tried, key=lambda one: (tried[one], one)), dtype=np.int64)

    def _child(self, problem: Allocation, parents: list[tuple[int, ...]], random: np.random.Generator) -> Counts:
        """Counts within the budget, of one parent changed or of two mixed."""
        first, second = (np.array(parents[random.integers(len(parents))], dtype=np.int64) for _ in range(2))
        if (first == second).all() or random.random() < 0.5:
            child = self._mutant(problem, first, random)
        else:
            child = np.where(random.random(len(first)) < 0.5, first, second)
        factors = np.exp(random.normal(0.0, NOISE, len(child)))
        errors = [error * factor for error, factor in zip(problem.errors, factors, strict=True)]
        model, allowed = problem.model, problem.allowed
        child = afford(model, errors, child, allowed, problem.inside)
        return problem.closed(model.whole(give_back(model, errors, child, allowed, inside=problem.inside)))

    def _mutant(self, problem: Allocation, counts: Counts, random: np.random.Generator) -> Counts:
        moved = random.random(len(counts)) < self.share
        moved[random.integers(len(counts))] = True
        factors = np.exp(random.normal(0.0, self.step, len(counts)))
        spaces = problem.channels.prunable
        wanted = [
            nearest(space, max(count * factor + 0.5, 1)) if move else count
            for space, count, factor, move in zip(spaces, counts, factors, moved, strict=True)
        ]
        return np.array(wanted, dtype=np.int64)
