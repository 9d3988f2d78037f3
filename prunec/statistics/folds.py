"""Moments kept a fold, so that a fit can be tried on images that it has not seen.

    error_f = E_f|y - W z - b|² = tr(Cov_f[y, y] - 2 W Cov_f[z, y] + W Cov_f[z, z] W') + |E_f[y] - W E_f[z] - b|²

is known in closed form for any W, b and any fold f: no image is run again. Images are dealt to folds one by one, or by
whole steps where the network fixes its batch; the positions of an image stay together.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from ..data import Images
from .moments import Moments

FOLDS = 16
WIDE = 512  # columns of a layer; of a wider one folds are left out in groups
FEWEST = 3  # groups


@dataclass(frozen=True)
class Dealt:
    """Calibration images in batches, each of one fold."""

    batches: list[tuple[Tensor, ...]]
    fold: list[int]
    """The fold of each batch."""

    @property
    def folds(self) -> int:
        """The number of folds that hold an image."""
        return len(set(self.fold))

    @staticmethod
    def of(images: Images, size: int, folds: int = FOLDS) -> Dealt:
        """Deal images to `folds` folds, image i to fold i mod `folds`; batches hold `size` at most."""
        steps = torch.arange(len(images)) // images.step
        batches, fold = [], []
        for number in range(folds):
            mine = (steps % folds == number).nonzero().flatten()
            if len(mine):
                dealt = list(images.at(mine).batches(size))
                batches += dealt
                fold += [number] * len(dealt)
        return Dealt(batches, fold)


@dataclass
class Folds:
    """The moments of each fold of one layer."""

    parts: dict[int, Moments] = field(default_factory=dict)

    def add(self, fold: int, z: Tensor, y: Tensor) -> None:
        """Add rows z [R, g, d] and y [R, g, o] of one fold."""
        self.parts.setdefault(fold, Moments()).add(z, y)

    def on_cpu(self) -> Folds:
        """The same on the CPU, where all that follows is computed."""
        return Folds({fold: one.on_cpu() for fold, one in self.parts.items()})

    @cached_property
    def total(self) -> Moments:
        """The moments of all images."""
        return Moments.joined(list(self.parts.values()))

    def splits(self) -> list[HeldOut]:
        """Each fold, or a group of them where the layer is so wide that fits are dear; none of one alone."""
        found = []
        for group in self._groups() if len(self.parts) > 1 else ():
            own = [one for fold, one in self.parts.items() if fold in group]
            rest = [one for fold, one in self.parts.items() if fold not in group]
            found.append(HeldOut(group, Moments.joined(rest), Moments.joined(own)))
        return found

    def _groups(self) -> list[tuple[int, ...]]:
        folds = sorted(self.parts)
        width = next(iter(self.parts.values())).width
        count = min(len(folds), max(FEWEST, FOLDS * WIDE // width))
        return [tuple(folds[number::count]) for number in range(count)]


@dataclass(frozen=True)
class HeldOut:
    """The folds that are left out of a fit, the moments of all others, and their own."""

    folds: tuple[int, ...]
    rest: Moments
    own: Moments
