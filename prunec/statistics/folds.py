"""Accumulate the moments of a layer by fold, for cross-validated fits in one run.

Images are dealt to folds one by one, or by batch if the network fixes its batch; all positions of an image are in one
fold. Few images give few folds, as each fold runs by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from ..data.images import Images
from ..ir.parallel import each
from .moments import Moments
from .parts import Parts

FOLDS = 16
SHARED, LEAST = 4, 4  # images of a fold, and folds, before there are more folds
WIDE = 512  # columns; in wider layers several folds are left out at a time
FEWEST = 4  # parts
JUDGED = 4  # one part in four is left out at once, and its error decides; few parts are left out in turn
KEPT = -1  # the fold of images that no choice uses
FEWER = (-2, -4)  # the same images, for fits to a half and to a quarter of the others


@dataclass(frozen=True)
class Dealt:
    """Calibration images in batches, each of one fold."""

    batches: list[tuple[Tensor, ...]]
    fold: list[int]
    """The fold of each batch."""

    @property
    def folds(self) -> int:
        """Return the number of folds used for choices."""
        return len({number for number in self.fold if number >= 0})

    @staticmethod
    def of(images: Images, size: int, folds: int = FOLDS, kept: Images | None = None) -> Dealt:
        """Deal image i to fold i mod n, n <= `folds`.

        Batches hold `size` images at most. Images held out are the fold `KEPT`, and each fold of `FEWER` too.
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
        for number in () if kept is None else (KEPT, *FEWER):
            dealt = list(kept.batches(size))  # type: ignore[union-attr]
            batches += dealt
            fold += [number] * len(dealt)
        return Dealt(batches, fold)


def together(fold: Sequence[int]) -> list[list[int]]:
    """Group batches by `fold`, so that no groups share a part of `Folds`."""
    groups: dict[int, list[int]] = {}
    for batch, number in enumerate(fold):
        groups.setdefault(number % FEWEST if number >= 0 else KEPT, []).append(batch)
    return list(groups.values())


@dataclass(frozen=True)
class Rows:
    """Rows of one fold, and the clamp `low` … `high` on outputs plus `shortcut`."""

    fold: int
    z: Tensor  # [R, g, d]
    y: Tensor  # [R, g, o]
    shortcut: Tensor  # [R, g, o]
    low: float
    high: float


@dataclass
class Folds:
    """Moments of one layer by fold; the folds of a wide layer share some."""

    parts: dict[tuple[int, ...], Moments] = field(default_factory=dict)
    """By the folds, of all `FOLDS`, whose images they are of."""
    kept: Moments | None = None
    """Moments of the fold `KEPT`."""
    rows: list[Rows] = field(default_factory=list)
    """The rows themselves, where what follows clamps them."""
    like: Folds | None = None
    """The moments of the same rows with other targets."""
    _fewer: dict[int, Moments] = field(default_factory=dict)

    def add(self, fold: int, z: Tensor, y: Tensor) -> None:
        """Add rows z [R, g, d] and y [R, g, o] of one fold."""
        if fold == KEPT:
            self.kept = self.kept or Moments()
            self.kept.add(z, y)
            return
        parts = FOLDS  # halved, so that those of every layer have a half and a quarter of the folds
        while parts > FEWEST and parts * z.shape[-1] > FOLDS * WIDE:  # ends: parts fall to FEWEST
            parts //= 2
        self.parts.setdefault(tuple(range(fold % parts, FOLDS, parts)), Moments()).add(z, y)

    def aimed(self, targets: Sequence[Tensor]) -> Folds:
        """Return the moments with other targets, [R, g, o] for each of `rows`. The moments of the inputs are shared."""
        pairs = list(zip(self.rows, targets, strict=True))

        def aimed(folds: tuple[int, ...]) -> Moments:
            return known[folds].aimed([(rows.z, y) for rows, y in pairs if rows.fold in folds])

        known = self.parts if self.kept is None else {(KEPT,): self.kept, **self.parts}
        found = dict(zip(known, each(aimed, list(known)), strict=True))
        kept = found.pop((KEPT,), None)
        return Folds(found, kept, like=self)

    @staticmethod
    def merged(groups: Sequence[Folds]) -> Folds:
        """Join groups that share no part. Rows are joined if all groups have some."""
        found = Folds(dict(sorted(item for one in groups for item in one.parts.items())))
        found.kept = next((one.kept for one in groups if one.kept is not None), None)
        if all(one.rows for one in groups if one.parts or one.kept):
            found.rows = [rows for one in groups for rows in one.rows]
        return found

    def on_cpu(self) -> Folds:
        """Return a copy on the CPU."""
        kept = None if self.kept is None else self.kept.on_cpu()
        return Folds({folds: one.on_cpu() for folds, one in self.parts.items()}, kept, self.rows)

    @cached_property
    def total(self) -> Moments:
        """Return the moments of all images but those held out."""
        known = None if self.like is None else self.like.total
        return next(iter(self.parts.values())) if len(self.parts) == 1 else self.own.joined(known)

    @cached_property
    def every(self) -> Moments:
        """Return the moments of all images."""
        if self.kept is None:
            return self.total
        return Parts.of([self.total, self.kept]).joined(None if self.like is None else self.like.every)

    def fewer(self, fold: int) -> Moments:
        """Return the moments of one fold of `FEWER`; of all if folds are too few."""
        if fold not in self._fewer:
            some = [one for folds, one in self.parts.items() if folds[0] % -fold == 0]
            known = None if self.like is None else self.like.fewer(fold)
            whole = len(some) in (0, len(self.parts))
            self._fewer[fold] = self.total if whole else Parts.of(some).joined(known)
        return self._fewer[fold]

    @cached_property
    def own(self) -> Parts:
        """Return the moments of each part."""
        return Parts.of(list(self.parts.values()), None if self.like is None else self.like.own.inputs)

    @cached_property
    def rest(self) -> Parts:
        """Return, for each part, the moments of all other parts; undefined for a single part."""
        return self.own.without_each(self.total, None if self.like is None else self.like.rest.inputs)

    @cached_property
    def judges(self) -> tuple[Parts, Parts]:
        """Return the moments of the parts left out and, for each, of all others.

        Their errors decide choices. All of four parts are left out one by one, half of eight in two pairs, a quarter of
        sixteen at once.
        """
        known = None if self.like is None else self.like.judges
        parts = list(self.parts.values())
        turns = min(JUDGED, len(parts), FOLDS // len(parts))
        some = [Parts.of(parts[turn::JUDGED]).joined() for turn in range(turns)]
        own = Parts.of(some, None if known is None else known[0].inputs)
        return own, own.without_each(self.total, None if known is None else known[1].inputs)
