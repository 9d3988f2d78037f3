"""What a selector, an allocator and a compensator are. One algorithm a file, in the folder of its kind."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor

from .channels.spaces import Channels
from .cost import Counts
from .facts import Curve, Curves
from .linalg import Reader
from .statistics.moments import Moments
from .target import Target


class Selector(ABC):
    """Chooses *which* coordinates of a space go, in a nested order."""

    @abstractmethod
    def curve(self, readers: Sequence[Reader]) -> Curve:
        """The removal order of one space and the error after each removal, given the layers that read it."""


class Allocator(ABC):
    """Chooses *how many* coordinates of each space stay."""

    @abstractmethod
    def counts(self, channels: Channels, curves: Curves, target: Target) -> Counts:
        """Coordinates kept of each prunable space, int64 [spaces]. Raises BudgetError where infeasible."""


class Compensator(ABC):
    """Makes up for what is gone by changing the weights of the layers that read it."""

    sweeps: bool = True  # whether it needs the compensation sweep

    @abstractmethod
    def fit(self, moments: Moments, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """The refitted weight [g, o, d] and bias [g, o] of a narrow layer.

        `weight`, `bias` are the sliced originals, float64; `moments` are those of the pruned inputs z and of the
        outputs y that the dense network gives at the same places.
        """
