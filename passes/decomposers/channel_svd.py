"""Factor a layer as a 1×1 layer and a k×k one (channel decomposition).

W [O, I, kh, kw] as a matrix [O·kh·kw, I] of rank r: r channels between, MACs r (I + k k O) against k k I O, if no
stride shrinks the image. The first half of Tucker-2 (Kim et al. 2016, mode of the inputs), whitened by the activations.
"""

from __future__ import annotations

from dataclasses import dataclass

from prunec.channels.spaces import Split
from prunec.selection.interface import Decomposer


@dataclass(frozen=True)
class ChannelSvd(Decomposer):
    """Keep the full kernel in the second layer, behind a 1×1 one. A layer of one tap is split between its channels."""

    def splits(self, kernel: tuple[int, ...]) -> tuple[Split, ...]:
        """Assign all axes longer than one tap to the second layer."""
        return (Split(kernel, tuple(size == 1 for size in kernel)),)
