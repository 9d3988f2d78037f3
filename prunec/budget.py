"""The budget that a target sets, and the sentence for one that cannot be met."""

from __future__ import annotations

import numpy as np

from .channels.spaces import Channels
from .cost import Macs
from .errors import BudgetError
from .target import Target


def budget(channels: Channels, model: Macs, target: Target) -> int:
    """MACs that may remain. Raises BudgetError where even one coordinate of each space is too many."""
    dense = model.total()
    allowed = int(target.remaining * dense)
    least = model.total(np.ones_like(model.sizes)) if len(model.sizes) else dense
    if least <= allowed:
        return allowed
    frozen = [space for space in channels.spaces if space.frozen]
    shown = "; ".join(f"{space.name}: {space.frozen}" for space in frozen[:3])
    more = f" and {len(frozen) - 3} more" if len(frozen) > 3 else ""
    raise BudgetError(
        f"target {target} cannot be reached: with one channel left everywhere {least / dense:.4f} of the MACs remain"
        f" (macs:{least / dense + 0.0001:.4f} is the least to ask for). Frozen: {shown or 'nothing'}{more}"
    )
