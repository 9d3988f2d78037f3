"""Moments kept a fold, so that a fit can be tried on images that it has not seen, none of which is run again.

Images are dealt to folds one by one, or by whole steps where the network fixes its batch; the positions of an image
stay together. Few images are dealt to few folds, for each fold is run by itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from ..data import Images
from .moments import Moments
from .parts import Parts

FOLDS = 16
SHARED, LEAST = 4, 4  # images of a fold, and folds, before there are more folds
WIDE = 512  # columns of a layer; of a wider one folds are left out several at a time
FEWEST = 3  # parts
KEPT = -1  # the fold of images of which no choice is made


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
    def of(images: Images, size: int, folds: int = FOLDS, kept: Images | None = None) -> Dealt:
        """Deal images to `folds` folds at most, image i to fold i mod their number; batches hold `size` at most.

        Those that were kept back are the fold `KEPT`, the last.
        """
        steps = torch.arange(len(images)) // images.step
        folds = min(folds, max(LEAST, len(images) // images.step // SHARED))
        batches, fold = [], []
        for number in range(folds):
            mine = (steps % folds == number).nonzero().flatten()
            if len(mine):
                dealt = list(images.at(mine).batches(size))
                batches += dealt
                fold += [number] * len(dealt)
        last = [] if kept is None else list(kept.batches(size))
        return Dealt(batches + last, fold + [KEPT] * len(last))


@dataclass
class Folds:
    """The moments of one layer, those of each fold by themselves; folds of a wide layer share some."""

    parts: dict[tuple[int, ...], Moments] = field(default_factory=dict)
    """By the folds, of all `FOLDS`, whose images they are of."""
    kept: Moments | None = None
    """Moments of the fold `KEPT`."""

    def add(self, fold: int, z: Tensor, y: Tensor) -> None:
        """Add rows z [R, g, d] and y [R, g, o] of one fold."""
        if fold == KEPT:
            self.kept = self.kept or Moments()
            self.kept.add(z, y)
            return
        parts = max(FEWEST, min(FOLDS, FOLDS * WIDE // z.shape[-1]))
        self.parts.setdefault(tuple(range(fold % parts, FOLDS, parts)), Moments()).add(z, y)

    def on_cpu(self) -> Folds:
        """Return a copy on the CPU, where all that follows is computed."""
        kept = None if self.kept is None else self.kept.on_cpu()
        return Folds({folds: one.on_cpu() for folds, one in self.parts.items()}, kept)

    @cached_property
    def total(self) -> Moments:
        """The moments of all images but those kept back."""
        return next(iter(self.parts.values())) if len(self.parts) == 1 else self.own.joined()

    @cached_property
    def every(self) -> Moments:
        """The moments of all images."""
        return self.total if self.kept is None else Parts.of([self.total, self.kept]).joined()

    @cached_property
    def own(self) -> Parts:
        """Return the moments of each part."""
        return Parts.of(list(self.parts.values()))

    @cached_property
    def rest(self) -> Parts:
        """Return for each part the moments of all of `total` but its own; undefined for one part alone."""
        return self.own.without_each(self.total)
