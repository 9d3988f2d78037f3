"""Improve a removal order by exchanges of coordinates across a level.

Source: OSSCAR (Meng et al., ICML 2024). With the columns K kept at a level, G = S + r I, and W_K the refitted weight:

    cost(i) = tr(W_i ([G_KK^-1]_ii)^-1 W_i')                                          to remove i as well
    gain(j) = tr(C_j' (G_jj - G_jK G_KK^-1 G_Kj)^-1 C_j),  C_j = S_j: W' - G_jK W_K'  to restore j

Only coordinates between this level and its neighbours are exchanged, so the sets at other levels are unchanged and the
order remains an order. An exchange is kept if the error falls at the level and in sum over all counts.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from . import least_squares, symmetric
from .least_squares import Reader
from .symmetric import add_ridge

LEVELS = (0.25, 0.5, 0.75)


def exchanged(readers: Sequence[Reader], order: Tensor, ridge: float, tries: int) -> tuple[Tensor, Tensor]:
    """Return an order no worse than `order`, and its errors; `tries` pairs per level."""
    size = len(order)
    levels = sorted({min(max(1, round(size * level)), size) for level in LEVELS})
    errors = least_squares.along(readers, order, ridge)
    for place, level in enumerate(levels):
        start = levels[place - 1] if place else 0
        end = levels[place + 1] if place + 1 < len(levels) else size
        prices = [_prices(reader, order, level, ridge) for reader in readers]
        gain = torch.stack([each[0] for each in prices]).sum(0)[start:level].argsort(descending=True, stable=True)
        cost = torch.stack([each[1] for each in prices]).sum(0)[: end - level].argsort(stable=True)
        back, out = order[start:level][gain[:tries]], order[level:end][cost[:tries]]
        for one, other in zip(back.tolist(), out.tolist(), strict=False):
            changed = _across(order, level, one, other)
            found = least_squares.along(readers, changed, ridge)
            if found[level] < errors[level] and found.sum() <= errors.sum():
                order, errors = changed, found
    return order, errors


def _across(order: Tensor, level: int, back: int, out: int) -> Tensor:
    """Return the order with `out` removed last before the level, `back` first after."""
    before, after = order[:level], order[level:]
    middle = torch.tensor([out, back], dtype=order.dtype)
    return torch.cat([before[before != back], middle, after[after != out]])


def _prices(reader: Reader, order: Tensor, level: int, ridge: float) -> tuple[Tensor, Tensor]:
    """Compute gain per removed coordinate if restored, and cost per kept one if removed. Both in removal order."""
    gone, left = reader.columns[order[:level]], reader.columns[order[level:]]
    stays = torch.ones(reader.covariance.shape[-1], dtype=torch.bool)
    stays[gone.flatten()] = False
    kept, lost = stays.nonzero().flatten(), gone.flatten()
    gram, target = add_ridge(reader.covariance, ridge), reader.covariance @ reader.weight.mT
    inverse = symmetric.inverse(gram[:, kept[:, None], kept])
    fitted = inverse @ target[:, kept]  # [g, k, o]
    link = gram[:, lost[:, None], kept]
    residual = gram[:, lost[:, None], lost] - link @ inverse @ link.mT
    own = torch.arange(len(lost)).reshape(gone.shape)
    gain = least_squares.explained(residual, target[:, lost] - link @ fitted, own)
    cost = least_squares.explained(inverse, fitted, (stays.cumsum(0) - 1)[left])
    return gain * reader.scale, cost * reader.scale
