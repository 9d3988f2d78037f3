"""What an allocator may know: the spaces, their curves, the budget, and an oracle that reads no label."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch

from . import dense_fit, surgery
from .budget import budget
from .channels.spaces import Channels, Space
from .cost import Counts, Macs
from .errors import PassError
from .facts import Curves
from .plan import Plan
from .program import Context, Program
from .statistics.sweep import floats
from .target import Target

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Allocation:
    """A budget to spend on the spaces of a network. The oracle needs `program` and `context`; nothing else does."""

    channels: Channels
    curves: Curves
    target: Target
    program: Program | None = None
    context: Context | None = None

    @cached_property
    def model(self) -> Macs:
        """MACs as a function of counts."""
        return Macs.of(self.channels)

    @cached_property
    def allowed(self) -> int:
        """MACs that may remain. Raises BudgetError where the target is out of reach."""
        return budget(self.channels, self.model, self.target)

    @cached_property
    def fewest(self) -> Counts:
        """The smallest counts that may stay."""
        return np.array([space.fewest for space in self.channels.prunable], dtype=np.int64)

    @cached_property
    def errors(self) -> list[Array]:
        """By space: the error of its curve by the count kept, infinite where that count may not be."""
        curves = self.curves.by_space
        return [_allowed(space, curves[space.name].error.numpy()[::-1]) for space in self.channels.prunable]

    def keep(self, counts: Counts) -> dict[str, tuple[int, ...]]:
        """The coordinates that stay, by space."""
        pairs = zip(self.channels.prunable, counts, strict=True)
        return {space.name: self.curves.by_space[space.name].keep(int(count)) for space, count in pairs}

    @torch.no_grad()
    def error(self, counts: Counts, images: int = 64) -> float:
        """The oracle: the relative squared error of the outputs with these counts, refitted to the dense statistics.

        It reads `images` calibration images and no label. Raises PassError where the problem has no program.
        """
        if self.program is None or self.context is None:
            raise PassError("this allocator tries networks, and was given none")
        plan = Plan(self.channels, self.keep(counts))
        narrow = surgery.apply(self.program.module, dense_fit.fitted(self.program, plan))
        wrong = size = 0.0
        for batch in self.context.images().take(images, self.context.seed).batches(self.context.batch):
            for found, wanted in zip(floats(narrow(*batch)), floats(self.program.module(*batch)), strict=True):
                wrong += float((found - wanted).square().sum())
                size += float((wanted - wanted.mean(0)).square().sum())
        return wrong / max(size, 1e-30)


def _allowed(space: Space, error: Array) -> Array:
    allowed: Array = np.where([space.may_keep(count) for count in range(len(error))], error, np.inf)
    return allowed
