"""Correct the times of layers measured alone by those within a whole network, so that the dense network's sum is exact.

    factor of a shape = Σ time within the network / Σ time alone,   over its layers

Computed from the table as it is now, so a shape that is measured again needs no network to be measured again. Shapes
that the network does not have are given the ratio of the sums over all shapes that it has.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from .layer_shapes import LayerShape
from .surface import NS, Surface
from .table import Table, Whole, Within


@dataclass(frozen=True)
class Correction:
    """How many times as long layers take within the network as alone, by shape."""

    factors: Mapping[LayerShape, float] = field(default_factory=lambda: MappingProxyType({}))
    other: float = 1.0  # of shapes that the network does not have

    @staticmethod
    def of(table: Table, whole: Whole | None) -> Correction:
        """Compare the two times of every shape; 1 without a network."""
        if whole is None or not whole.within:
            return Correction()
        apart = {shape: alone_ms(table, shape, one) for shape, one in whole.within.items()}
        factors = {shape: one.ms / apart[shape] for shape, one in whole.within.items()}
        return Correction(factors, sum(one.ms for one in whole.within.values()) / sum(apart.values()))

    def factor(self, shape: LayerShape) -> float:
        """Look up the factor of a shape."""
        return self.factors.get(shape, self.other)


def alone_ms(table: Table, shape: LayerShape, within: Within) -> float:
    """Sum the times in ms that the layers of a shape take alone, as the table has them."""
    into, out = np.array(within.widths).T
    surface = Surface.of(table, shape, (int(into.max()), int(out.max())))
    return float(surface(into, out).sum()) / NS
