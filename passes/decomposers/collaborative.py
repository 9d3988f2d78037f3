"""Choose for each layer the split with the least whitened error.

    argmin over splits of  e_split(r_split),      r_split: the rank at which the two parts cost half of the layer

(CC: Li et al., CVPR 2021, "Towards Compact CNNs via Collaborative Compression".) Each split assigns one axis of the
kernel, all axes or none to the first layer; e is relative to the variance of the output, the currency in which ranks
then compete with channels.
"""

from __future__ import annotations

from dataclasses import dataclass

from prunec.channels.spaces import Split
from prunec.selection.interface import Decomposer


@dataclass(frozen=True)
class Collaborative(Decomposer):
    """Choose the best split of one kernel axis, all or none."""

    def splits(self, kernel: tuple[int, ...]) -> tuple[Split, ...]:
        """Return the distinct splits; axes of one tap belong to the first layer."""
        long = [axis for axis, size in enumerate(kernel) if size > 1]
        chosen = [(*long,), *[(axis,) for axis in long], ()]
        first = [tuple(size == 1 or axis in mine for axis, size in enumerate(kernel)) for mine in chosen]
        return tuple(Split(kernel, each) for each in dict.fromkeys(first))
