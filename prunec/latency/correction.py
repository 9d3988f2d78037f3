"""Scale times of layers measured alone so that the dense network's sum is exact.

    factor of a shape = Σ time within the network / Σ time alone,   over its layers

Computed from the current table, so measuring a shape again needs no new run of the network. Other shapes get the ratio
of the two sums over all shapes of the network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from .layer_shapes import LayerShape
from .table import NS, Surface, Table, Whole, Within


@dataclass(frozen=True)
class Correction:
    """Time within the network over time alone, by shape."""

    factors: Mapping[LayerShape, float] = field(default_factory=lambda: MappingProxyType({}))
    other: float = 1.0  # of shapes that the network does not have

    @staticmethod
    def of(table: Table, whole: Whole | None) -> Correction:
        """Compare the two times of each shape; 1 without a network."""
        if whole is None or not whole.within:
            return Correction()
        apart = {shape: alone_ms(table, shape, one) for shape, one in whole.within.items()}
        factors = {shape: one.ms / apart[shape] for shape, one in whole.within.items()}
        return Correction(factors, sum(one.ms for one in whole.within.values()) / sum(apart.values()))

    def factor(self, shape: LayerShape) -> float:
        """Return the factor of a shape."""
        return self.factors.get(shape, self.other)


def alone_ms(table: Table, shape: LayerShape, within: Within) -> float:
    """Sum the times in ms of a shape's layers measured alone."""
    into, out = np.array(within.widths).T
    surface = Surface.of(table, shape, (int(into.max()), int(out.max())))
    return float(surface(into, out).sum()) / NS
