"""Factor a layer as one with r outputs and a 1×1 layer.

W [O, I·k·k] of rank r: r channels between, MACs r (k k I + O) against k k I O. The r outputs are the principal
components of the responses, so the error is exactly the sum of the omitted eigenvalues (Zhang et al. 2016; whitened
SVD: BALF 2025; CC 2021, section 3).
"""

from __future__ import annotations

from dataclasses import dataclass

from prunec.channels.spaces import Split
from prunec.selection.interface import Decomposer


@dataclass(frozen=True)
class WhitenedSvd(Decomposer):
    """Keep the full kernel in the first layer, before a 1×1 one."""

    def splits(self, kernel: tuple[int, ...]) -> tuple[Split, ...]:
        """Assign all axes to the first layer."""
        return (Split(kernel, (True,) * len(kernel)),)
