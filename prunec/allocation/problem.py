"""Define the input of an allocator: spaces, curves, budget, and a label-free oracle."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..channels.spaces import Channels, Space
from ..compensation import dense_fit
from ..cost.budget import Budget, budgets
from ..cost.resources import Resource
from ..cost.terms import Cost, Counts, Mixed
from ..errors import PassError
from ..ir.graph import floats
from ..ir.parallel import each
from ..ir.program import Program
from ..pipeline.context import Context
from ..request.target import Target
from ..statistics.agreement import Agreement, agreement_between
from ..statistics.facts import Curves, Statistics
from ..statistics.memo import once
from ..statistics.sweep import channels_last
from ..surgery import slicing
from ..surgery.plan import Plan

Array = npt.NDArray[np.float64]
UNIT = 10**9  # the cost that may remain where several are mixed


@dataclass(frozen=True)
class Allocation:
    """A budget to spend on the spaces of a network. Only the oracle needs `program` and `context`."""

    channels: Channels
    curves: Curves
    target: Target
    program: Program | None = None
    context: Context | None = None
    latency: Resource | None = None  # where the target asks for one
    weights: Array | None = None  # [limits], sum 1, for several limits (`prunec.allocation.multi_budget`)
    start: Array | None = None  # initial weights, of a similar problem

    @cached_property
    def solved(self) -> dict[Hashable, Counts]:
        """Return the counts found so far, by allocator."""
        return {}

    @property
    def can_try(self) -> bool:
        """Return whether there is a network to try counts on."""
        return self.program is not None and self.context is not None

    @cached_property
    def budgets(self) -> tuple[Budget, ...]:
        """Compute how much of each resource may remain. Raises BudgetError where one of them is out of reach."""
        return budgets(self.channels, self.target, self.program, self.latency)

    @cached_property
    def model(self) -> Cost:
        """Return the cost of the counts. Several resources give the weighted mean of used / allowed."""
        if self.weights is None:
            return self.budgets[0].quantity.cost
        return self._mixed(self.weights)

    def _mixed(self, weights: Array) -> Cost:
        rows = np.split(weights, np.cumsum([one.quantity.steps for one in self.budgets])[:-1])
        parts = zip(self.budgets, rows, strict=True)
        return Mixed.of([one.quantity.weighted(row * UNIT / one.allowed) for one, row in parts])

    @cached_property
    def allowed(self) -> int:
        """Return the cost that may remain. Raises BudgetError where the target is out of reach."""
        return self.budgets[0].allowed if self.weights is None else UNIT

    def weighed(self, weights: Array) -> Allocation:
        """Return a copy with these weights; its budgets are not computed again."""
        found = replace(self, weights=weights)
        vars(found).update(budgets=self.budgets, errors=self.errors, inside=self.inside, alone=self.alone)
        return found

    def with_errors(self, errors: list[Array]) -> Allocation:
        """Return a copy with other curves, by space and count kept, sharing all else."""
        found = replace(self)
        vars(found).update(budgets=self.budgets, errors=errors, inside=self.inside, alone=self.alone)
        return found

    @cached_property
    def alone(self) -> list[Cost]:
        """Return each limit by itself, as a cost of which `UNIT` may remain."""
        return [self._mixed(row) for row in np.eye(self.limits)]

    @cached_property
    def limits(self) -> int:
        """Count the limits: one for each resource, and for each step of the graph in memory."""
        return sum(one.quantity.steps for one in self.budgets)

    def used(self, counts: Counts) -> Array:
        """Compute used / allowed of each limit, [limits], with these counts."""
        return np.concatenate([one.quantity.used(counts) / max(one.allowed, 1) for one in self.budgets])

    @cached_property
    def fewest(self) -> Counts:
        """Return the smallest allowed counts, int64 [spaces]."""
        return np.array([space.fewest for space in self.channels.prunable], dtype=np.int64)

    @cached_property
    def errors(self) -> list[Array]:
        """Return the error of each space by count kept, infinite at counts not allowed."""
        curves = self.curves.by_space
        return [_allowed(space, curves[space.name].error.numpy()[::-1]) for space in self.channels.prunable]

    @cached_property
    def inside(self) -> dict[int, list[int]]:
        """Map each removable residual branch to the spaces that only it has, by index."""
        places = {space.name: place for place, space in enumerate(self.channels.prunable)}
        return {
            places[one.space]: sorted(places[name] for name in self.channels.inside(one))
            for one in self.channels.branches
        }

    def closed(self, counts: Counts) -> Counts:
        """Return the counts with all spaces inside a removed branch full: they add no error of their own."""
        found = counts.copy()
        for branch, inside in self.inside.items():
            if not counts[branch]:
                found[inside] = self.model.sizes[inside]
        return found

    def expected(self, counts: Counts) -> float:
        """Sum the curve errors of these counts. Spaces inside a removed branch add none."""
        return float(sum(error[count] for error, count in zip(self.errors, self.closed(counts), strict=True)))

    def keep(self, counts: Counts) -> dict[str, tuple[int, ...]]:
        """Return the coordinates kept, by space."""
        pairs = zip(self.channels.prunable, counts, strict=True)
        return {space.name: self.curves.by_space[space.name].keep(int(count)) for space, count in pairs}

    @torch.no_grad()
    def tried(self, counts: Counts, images: int = 64) -> Agreement:
        """Compare the network with these counts, refitted to dense statistics, with the dense one.

        Reads at most `images` calibration images, which the refit has not read, and no label. Raises PassError where
        the problem has no program.
        """
        if self.program is None or self.context is None:
            raise PassError("this allocator tries networks, and was given none")
        plan = Plan(self.channels, self.keep(counts))
        narrow = slicing.apply(self.program.module, dense_fit.fitted(self.program, plan, part=True))
        module, given = self.program.module, self._unread(self.program, self.context, images)
        key = "dense outputs", self.context.choosing, images, self.context.seed, self.context.batch
        dense = once(self.program, key, lambda: each(lambda batch: floats(module(*batch)), given))
        found = each(lambda batch: floats(narrow(*batch)), given)
        return agreement_between(found, dense, [len(batch[0]) for batch in given])

    def error(self, counts: Counts, images: int = 64) -> float:
        """Compute the relative squared output error of a network tried with these counts."""
        return self.tried(counts, images).relative_error

    @staticmethod
    def _unread(program: Program, context: Context, images: int) -> list[tuple[Tensor, ...]]:
        """Return batches of images that the part of the statistics has not read."""
        chosen = context.choosing.take(images, context.seed)
        batches, more = list(chosen.batches(context.batch)), images - len(chosen)
        read = program.fact(Statistics).read
        if read and more > 0:
            places = torch.arange(read, len(context.fitting))
            batches += context.fitting.at(places[: more // chosen.step * chosen.step]).batches(context.batch)
        return [channels_last(program.module, batch) for batch in batches]


def _allowed(space: Space, error: Array) -> Array:
    allowed: Array = np.where([space.may_keep(count) for count in range(len(error))], error, np.inf)
    return allowed
