"""Define the interfaces of criteria, selectors and decomposers; one algorithm a file."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from ..channels.spaces import Split
from ..statistics.facts import Curve
from .evidence import Evidence


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


class Decomposer(ABC):
    """Says how a layer may become two."""

    @abstractmethod
    def splits(self, kernel: tuple[int, ...]) -> tuple[Split, ...]:
        """The ways that may be tried: which axes of the kernel the first of the two has; empty where it stays one."""
