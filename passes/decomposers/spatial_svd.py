"""Factor a k×k convolution as k×1 and 1×k.

W [O, I, kh, kw] as a matrix [O·kw, I·kh] of rank r: r channels between, MACs r (kh I + kw O) against kh kw I O
(Jaderberg et al. 2014; whitened by the activations, as BALF 2025 does).
"""

from __future__ import annotations

from dataclasses import dataclass

from prunec.channels.spaces import Split
from prunec.selection.interface import Decomposer


@dataclass(frozen=True)
class SpatialSvd(Decomposer):
    """Split the first axis of the kernel from the rest. A layer of one tap is split between its channels."""

    def splits(self, kernel: tuple[int, ...]) -> tuple[Split, ...]:
        """Assign the first long axis, and all of one tap, to the first layer."""
        long = [axis for axis, size in enumerate(kernel) if size > 1]
        return (Split(kernel, tuple(size == 1 or axis == long[0] for axis, size in enumerate(kernel))),)
