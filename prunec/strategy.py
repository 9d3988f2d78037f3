"""Define the interfaces of criteria, selectors, allocators, compensators and decomposers; one algorithm a file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from .allocation import Allocation
from .channels.spaces import Split
from .context import Context
from .cost import Counts
from .evidence import Evidence
from .facts import Curve
from .plan import Plan
from .program import Program
from .statistics.folds import FEWER, KEPT, Folds
from .statistics.moments import Moments


class Criterion(ABC):
    """Scores the coordinates of a space: how much each matters by itself, before anything makes up for its loss."""

    @abstractmethod
    def scores(self, evidence: Evidence) -> Tensor:
        """The importance of each coordinate, float64 [size]; the lowest go first.

        Raises PassError where the network has not what it needs, a batch norm for instance.
        """


class Selector(ABC):
    """Chooses *which* coordinates of a space go, in a nested order."""

    @abstractmethod
    def curve(self, evidence: Evidence) -> Curve:
        """The removal order of one space and the error after each removal."""


class Allocator(ABC):
    """Chooses *how many* coordinates of each space stay."""

    @abstractmethod
    def counts(self, problem: Allocation) -> Counts:
        """Coordinates kept of each prunable space, int64 [spaces]. Raises BudgetError where infeasible."""

    def settled(self, problem: Allocation) -> Allocator:
        """The allocator that does the work: itself, or the one that it would hand this problem to."""
        return self

    def candidates(self, problem: Allocation) -> Iterator[Counts]:
        """Counts of which the best is taken once each is within all limits (`prunec.several`)."""
        yield self.counts(problem)


Fit = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Fits:
    """Weight and bias of one layer fitted to all images, and to those outside some folds."""

    all: Fit
    held_out: Sequence[tuple[tuple[int, ...], Fit]] = ()
    """The folds left out, and the fit to all others."""

    def changed(self, change: Callable[[Fit], Fit]) -> Fits:
        """Return a copy with each fit changed."""
        return Fits(change(self.all), [(folds, change(fit)) for folds, fit in self.held_out])


Change = Callable[[Fits], Fits]


def unchanged(fits: Fits) -> Fits:
    """Leave fits as they are."""
    return fits


class Compensator:
    """Makes up for what is gone by changing the weights of the layers that read it."""

    sweeps: ClassVar[bool] = True  # whether it needs the compensation sweep, or the dense statistics only

    def refit(self, program: Program, plan: Plan, context: Context) -> Plan:
        """Without a sweep: the plan with the refits of all layers."""
        return plan

    def fit(self, moments: Moments, weight: Tensor, bias: Tensor) -> Fit:
        """The refitted weight [g, o, d] and bias [g, o] of a narrow layer.

        `weight`, `bias` are the sliced originals, float64; `moments` are those of the pruned inputs z and of the
        outputs y that the dense network gives at the same places. Called where `sweeps`.
        """
        raise NotImplementedError(f"{type(self).__name__} fits no layer by itself")

    def fits(self, folds: Folds, weight: Tensor, bias: Tensor, then: Change = unchanged) -> Fits:
        """The fit to all images, and those to the images outside each part of the folds; each changed by `then`.

        Those that were kept back are in the former alone: no choice and no other fit has seen them.
        """
        return then(self.fits_by(self.fit, folds, weight, bias))

    @staticmethod
    def fits_by(fit: Callable[[Moments, Tensor, Tensor], Fit], folds: Folds, weight: Tensor, bias: Tensor) -> Fits:
        """`fits` with one way to fit for all."""
        count = len(folds.parts)
        whole, held_out = fit(folds.total, weight, bias), []
        if count > 1:
            each = fit(folds.rest.as_groups(), weight.repeat(count, 1, 1), bias.repeat(count, 1))
            held_out = list(zip(folds.parts, zip(*(value.chunk(count) for value in each), strict=True), strict=True))
        if folds.kept is None:
            return Fits(whole, held_out)
        held_out.append(((KEPT,), whole))
        held_out += [((fold,), fit(folds.fewer(fold), weight, bias)) for fold in FEWER]
        return Fits(fit(folds.every, weight, bias), held_out)


class Decomposer(ABC):
    """Says how a layer may become two."""

    @abstractmethod
    def splits(self, kernel: tuple[int, ...]) -> tuple[Split, ...]:
        """The ways that may be tried: which axes of the kernel the first of the two has; empty where it stays one."""
