"""Factor a k×k layer by Tucker-2: 1×1, k×k and 1×1 layers.

W [O, I, kh, kw] = U2 · core [r, r, kh, kw] · U1: MACs r (I + k k r + O) against k k I O (Kim et al., ICLR 2016). One
rank for both modes, so that it is one coordinate of the budget; whitened by the activations, the core and U2 by exact
least squares.
"""

from __future__ import annotations

from dataclasses import dataclass

from prunec.channels.spaces import Split
from prunec.selection.interface import Decomposer


@dataclass(frozen=True)
class Tucker2(Decomposer):
    """Three layers for one, by Tucker-2 with equal ranks. A layer of one tap is split between its channels."""

    def splits(self, kernel: tuple[int, ...]) -> tuple[Split, ...]:
        """Assign axes of one tap to the first layer, the rest to the second."""
        every = (True,) * len(kernel)
        if max(kernel, default=1) == 1:
            return (Split(kernel, every),)
        return (Split(kernel, tuple(size == 1 for size in kernel), Split(kernel, every)),)
