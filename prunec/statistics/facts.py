"""Define the facts that passes add to a program."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from torch import Tensor

from ..ir.program import Program
from .moments import Moments


@dataclass(frozen=True)
class Norm:
    """Mean `beta` and deviation `gamma` of a layer's outputs, from its folded batch norm."""

    gamma: Tensor  # float64 [O], absolute
    beta: Tensor  # float64 [O]


@dataclass(frozen=True)
class Norms:
    """Folded batch norms, by the weight they were folded into; may be empty."""

    by_weight: Mapping[str, Norm]


def norms_anew(program: Program) -> list[Norms]:
    """Return the `Norms` of a program, copied for its rewritten form."""
    return [replace(program.fact(Norms))] if program.has(Norms) else []


@dataclass(frozen=True)
class Statistics:
    """Dense moments of the input of each contraction, by node name.

    `part` are those of the first `read` images alone, so that a plan fitted to them is tried on the others; empty where
    images are few.
    """

    moments: Mapping[str, Moments]
    part: Mapping[str, Moments] = field(default_factory=dict)
    read: int = 0


@dataclass(frozen=True)
class Curve:
    """Removal order of the coordinates of a space, and the error after each removal.

    `order` int64 [size], first removed first; `error` float64 [size + 1], error[k] without the first k; `score` float64
    [size], by coordinate, if a criterion gave the order, for global rankings.
    """

    order: Tensor
    error: Tensor
    score: Tensor | None = None

    def keep(self, count: int) -> tuple[int, ...]:
        """Return the `count` coordinates kept, ascending."""
        return tuple(sorted(self.order[len(self.order) - count :].tolist()))


@dataclass(frozen=True)
class Curves:
    """Removal curves, by prunable space; `scaled` if their errors are those of the network's outputs."""

    by_space: Mapping[str, Curve]
    scaled: bool = False
