"""Factor a convolution as a tensor train of 1×1, k×1, 1×k and 1×1 layers.

W [O, I, kh, kw] = G1 [I, r] G2 [r, kh, r] G3 [r, kw, r] G4 [r, O]: MACs r (I + kh r + kw r + O) against kh kw I O, cut
from the left (the train's SVD), each cut whitened by its layer's inputs (Oseledets 2011; Garipov et al. 2016). One rank
throughout. The train of a linear layer is its SVD.
"""

from __future__ import annotations

from dataclasses import dataclass

from prunec.channels.spaces import Split
from prunec.selection.interface import Decomposer


@dataclass(frozen=True)
class TT(Decomposer):
    """Tensor train of one layer per kernel axis, between two 1×1 layers.

    A layer of one tap is split between its channels.
    """

    def splits(self, kernel: tuple[int, ...]) -> tuple[Split, ...]:
        """Return the splits: channels first, then each axis longer than one tap."""
        long = [axis for axis, size in enumerate(kernel) if size > 1]
        every = (True,) * len(kernel)
        found = None if long else Split(kernel, every)
        for place in reversed(range(len(long))):
            sizes = tuple(1 if axis in long[:place] else size for axis, size in enumerate(kernel))
            found = Split(sizes, tuple(size == 1 or axis == long[place] for axis, size in enumerate(sizes)), found)
        return (Split(kernel, tuple(size == 1 for size in kernel), found),) if long else (Split(kernel, every),)
