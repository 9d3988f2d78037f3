"""Tucker-2: a 1×1 layer to r channels, the k×k one among them, a 1×1 layer back (Kim et al., ICLR 2016).

W [O, I, kh, kw] = U2 · core [r, r, kh, kw] · U1: MACs r (I + k k r + O) against k k I O. One rank for both modes, so
that it is a budget's coordinate like any other; whitened by the activations, the core and U2 by exact least squares.
"""

from __future__ import annotations

from dataclasses import dataclass

from prunec.channels.spaces import Split
from prunec.selection.interface import Decomposer


@dataclass(frozen=True)
class Tucker2(Decomposer):
    """Three layers for one; a layer of one tap is split between its channels."""

    def splits(self, kernel: tuple[int, ...]) -> tuple[Split, ...]:
        """Only axes of one tap go to the first layer, the rest to the second, and none to the third."""
        every = (True,) * len(kernel)
        if max(kernel, default=1) == 1:
            return (Split(kernel, every),)
        return (Split(kernel, tuple(size == 1 for size in kernel), Split(kernel, every)),)
