"""The budget that a target sets, and the sentence for one that cannot be met."""

from __future__ import annotations

import numpy as np

from .channels.spaces import Channels
from .cost import Macs
from .errors import BudgetError
from .target import Target


def budget(channels: Channels, model: Macs, target: Target) -> int:
    """MACs that may remain. Raises BudgetError where even the fewest coordinates of each space are too many."""
    dense = model.total()
    allowed = int(target.remaining * dense)
    fewest = np.array([space.fewest for space in channels.prunable], dtype=np.int64)
    least = model.total(fewest) if len(fewest) else dense
    if least <= allowed:
        return allowed
    frozen = [space for space in channels.spaces if space.frozen]
    shown = "; ".join(f"{space.name}: {space.frozen}" for space in frozen[:3])
    more = f" and {len(frozen) - 3} more" if len(frozen) > 3 else ""
    bound = [space for space in channels.prunable if space.fewest > 1]
    hint = f" {len(bound)} spaces have limits or are rounded: relax --limit or --round-to." if bound else ""
    raise BudgetError(
        f"target {target} cannot be reached: with the fewest channels left everywhere {least / dense:.4f} of the MACs"
        f" remain (macs:{least / dense + 0.0001:.4f} is the least to ask for).{hint} Frozen: {shown or 'nothing'}{more}"
    )
