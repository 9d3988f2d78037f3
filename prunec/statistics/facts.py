"""Define the facts that passes learn about a program and hand on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from ..ir.program import Program
from .moments import Moments


@dataclass(frozen=True)
class Norm:
    """A batch norm that was folded into the layer before it: its outputs have mean `beta` and deviation `gamma`."""

    gamma: Tensor  # float64 [O], absolute
    beta: Tensor  # float64 [O]


@dataclass(frozen=True)
class Norms:
    """The batch norms that were folded, by the weight that they were folded into; perhaps none."""

    by_weight: Mapping[str, Norm]


def norms_anew(program: Program) -> list[Norms]:
    """The `Norms` of a program for one that has rewritten it: as true as before, and a fact of its own."""
    return [replace(program.fact(Norms))] if program.has(Norms) else []


@dataclass(frozen=True)
class Statistics:
    """Dense moments of the input of each contraction, by node name."""

    moments: Mapping[str, Moments]


@dataclass(frozen=True)
class Curve:
    """The order in which the coordinates of a space go, and the error after each.

    `order` int64 [size], first to go first; `error` float64 [size + 1], error[k] with the first k gone; `score` float64
    [size], by coordinate, where a criterion gave the order: what global rankings compare.
    """

    order: Tensor
    error: Tensor
    score: Tensor | None = None

    def keep(self, count: int) -> tuple[int, ...]:
        """The `count` coordinates that stay, ascending."""
        return tuple(sorted(self.order[len(self.order) - count :].tolist()))


@dataclass(frozen=True)
class Curves:
    """The removal curve of each prunable space. `scaled` once the errors are those of the network's outputs."""

    by_space: Mapping[str, Curve]
    scaled: bool = False
