"""Define the interfaces of criteria, selectors and decomposers."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from ..channels.spaces import Split
from ..statistics.facts import Curve
from .evidence import Evidence


class Criterion(ABC):
    """Score of each coordinate of a space by itself, before compensation."""

    @abstractmethod
    def scores(self, evidence: Evidence) -> Tensor:
        """Return the importance of each coordinate, float64 [size]; the lowest are removed first.

        Raises PassError if the network lacks what the criterion needs, a batch norm for instance.
        """


class Selector(ABC):
    """Nested removal order of the coordinates of a space."""

    @abstractmethod
    def curve(self, evidence: Evidence) -> Curve:
        """Return the removal order of one space and the error after each removal."""


class Decomposer(ABC):
    """Ways to factor a layer into two or more."""

    @abstractmethod
    def splits(self, kernel: tuple[int, ...]) -> tuple[Split, ...]:
        """Return the candidate splits of the kernel's axes; empty to keep one layer."""
