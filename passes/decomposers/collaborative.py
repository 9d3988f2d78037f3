"""Each layer in the way that suits it (CC: Li et al., CVPR 2021, "Towards Compact CNNs via Collaborative Compression").

    argmin over splits of  e_split(r_split),      r_split: the rank at which the two parts cost half of the layer

The splits are those of an axis of the kernel each, of all axes to the first layer and of all to the second; e is the
whitened error relative to the variance of the output, the currency in which ranks then compete with channels.
"""

from __future__ import annotations

from dataclasses import dataclass

from prunec.channels.spaces import Split
from prunec.selection.interface import Decomposer


@dataclass(frozen=True)
class Collaborative(Decomposer):
    """Offer every split in which each of the two layers has one long axis, all or none; the better one is taken."""

    def splits(self, kernel: tuple[int, ...]) -> tuple[Split, ...]:
        """Without repetition: axes of one tap make no difference, and go to the first layer."""
        long = [axis for axis, size in enumerate(kernel) if size > 1]
        chosen = [(*long,), *[(axis,) for axis in long], ()]
        first = [tuple(size == 1 or axis in mine for axis, size in enumerate(kernel)) for mine in chosen]
        return tuple(Split(kernel, each) for each in dict.fromkeys(first))
