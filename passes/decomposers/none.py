"""No decomposition: channels alone."""

from __future__ import annotations

from dataclasses import dataclass

from prunec.channels.spaces import Split
from prunec.selection.interface import Decomposer


@dataclass(frozen=True)
class NoDecomposition(Decomposer):
    """Leave every layer one."""

    def splits(self, kernel: tuple[int, ...]) -> tuple[Split, ...]:
        """None."""
        return ()
