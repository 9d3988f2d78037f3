"""Skip decomposition: remove channels alone."""

from __future__ import annotations

from dataclasses import dataclass

from prunec.channels.spaces import Split
from prunec.selection.interface import Decomposer


@dataclass(frozen=True)
class NoDecomposition(Decomposer):
    """Keep every layer unfactored."""

    def splits(self, kernel: tuple[int, ...]) -> tuple[Split, ...]:
        """Return no split."""
        return ()
