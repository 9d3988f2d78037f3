"""Labels: one integer per removable channel, joined by union-find where channels meet.

The labels of a value are an int64 tensor of its shape, so that operators that only move data run on them unchanged.
Dimensions along which they do not vary have stride 0. Label 0, FIXED, marks elements that cannot be removed. During
interpretation labels may vary along several dimensions (heads and their width); an operator that needs one dimension
ties the others, and the rest is tied at the end.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

FIXED = 0


class Labels:
    """Union-find forest of all labels, with the reasons of frozen ones."""

    def __init__(self) -> None:
        self.parent = torch.zeros(1, dtype=torch.int64)
        self.reasons: dict[int, str] = {}  # by any member of the frozen component
        self.joins = 0  # how often two labels became one

    def fresh(self, count: int) -> Tensor:
        """Return `count` new labels, int64 [count]."""
        start = len(self.parent)
        new = torch.arange(start, start + count)
        self.parent = torch.cat([self.parent, new])
        return new

    def find(self, labels: Tensor) -> Tensor:
        """Return the representative of each label; FIXED maps to FIXED.

        Ends, since no parent is larger than its child: each round makes a label smaller, or changes none.
        """
        narrow = compress(labels, only_strides=True)
        flat = narrow.reshape(-1)
        first = roots = self.parent.index_select(0, flat)
        while not torch.equal(roots, above := self.parent.index_select(0, roots)):
            roots = above
        if roots is not first:  # shorten the path for the next time
            self.parent[flat] = roots
        return roots.reshape(narrow.shape).expand(labels.shape)

    def join(self, a: Tensor, b: Tensor, reason: str) -> Tensor:
        """Join labels element by element; one that meets FIXED is frozen with `reason`.

        Both have the same shape, as has the result.
        """
        shape = a.shape
        keep = tuple(
            slice(0, 1) if not sa and not sb else slice(None) for sa, sb in zip(a.stride(), b.stride(), strict=True)
        )
        a, b = a[keep], b[keep]
        self.freeze(a[(b == FIXED) & (a != FIXED)], reason)
        self.freeze(b[(a == FIXED) & (b != FIXED)], reason)
        both = (a != FIXED) & (b != FIXED)
        self._union(a[both], b[both])
        return self.find(torch.where(a != FIXED, a, b)).expand(shape)

    def _union(self, a: Tensor, b: Tensor) -> None:
        """Join pairs of labels, none FIXED. Ends: each round turns a root into a child."""
        a, b = self.find(a), self.find(b)
        while bool((differ := a != b).any()):
            a, b = a[differ], b[differ]
            self.joins += 1
            self.parent.scatter_reduce_(0, torch.maximum(a, b), torch.minimum(a, b), "amin")
            a, b = self.find(a), self.find(b)

    def freeze(self, labels: Tensor, reason: str) -> None:
        """Freeze labels; the first reason for a label is kept."""
        for label in compress(labels, only_strides=True).unique().tolist():
            if label != FIXED:
                self.reasons.setdefault(label, reason)

    def frozen_roots(self) -> dict[int, str]:
        """Return the reason of each frozen component, by its representative."""
        members = torch.tensor(sorted(self.reasons), dtype=torch.int64)
        roots: dict[int, str] = {}
        for member, root in zip(members.tolist(), self.find(members).tolist(), strict=True):
            roots.setdefault(root, self.reasons[member])
        return roots

    def tie(self, labels: Tensor, axes: Iterable[int]) -> Tensor:
        """Join labels along `axes`, so that they no longer vary there.

        A label that meets FIXED is frozen, and its own label represents both.
        """
        first, axes = labels, list(axes)
        for axis in axes:
            first = first.narrow(axis, 0, 1)
        if first is labels or not labels.numel():
            return labels
        tied = self.join(labels, first.expand(labels.shape), "it is reshaped together with a channel that is fixed")
        return compress(compress(tied, only_strides=True).amax(axes, keepdim=True).expand(labels.shape))

    def rectangular(self, labels: Tensor) -> Tensor:
        """Tie labels until they vary along one dimension only, so that slices are rectangular.

        The free dimension is the one with the most distinct slices: after `view(N, g, C/g, …)` of a channel shuffle the
        C/g positions are free and the g groups are tied.
        """
        labels = compress(self.find(labels))
        if len(axes := varying(labels)) < 2:
            return labels
        free = max(axes, key=lambda axis: (distinct(labels, axis), -axis))
        return self.tie(labels, [axis for axis in axes if axis != free])


def fixed(shape: Sequence[int]) -> Tensor:
    """Return frozen labels of `shape`."""
    return torch.zeros((), dtype=torch.int64).expand(shape)


def along(vector: Tensor, axis: int, shape: Sequence[int]) -> Tensor:
    """Return labels of `shape`, equal to `vector` along `axis`."""
    view = [1] * len(shape)
    view[axis] = -1
    return vector.reshape(view).expand(shape)


def varying(labels: Tensor) -> list[int]:
    """Return the dimensions along which compressed labels vary."""
    if not labels.numel():
        return []
    return [
        axis
        for axis, (size, stride) in enumerate(zip(labels.shape, labels.stride(), strict=True))
        if size > 1 and stride
    ]


def compress(labels: Tensor, *, only_strides: bool = False) -> Tensor:
    """Return a view with stride 0 along each dimension without variation.

    With `only_strides` the dimensions that have stride 0 already are narrowed to size 1 and nothing is compared.
    """
    keep = tuple(
        slice(0, 1) if not stride and size else slice(None)
        for size, stride in zip(labels.shape, labels.stride(), strict=True)
    )
    narrow = labels[keep]
    if only_strides:
        return narrow
    if not narrow.numel():
        return labels
    for axis, size in enumerate(narrow.shape):
        first = narrow.narrow(axis, 0, 1)
        if size > 1 and torch.equal(narrow, first.expand(narrow.shape)):
            narrow = first
    strides = [stride if size > 1 else 0 for size, stride in zip(narrow.shape, narrow.stride(), strict=True)]
    return narrow.as_strided(narrow.shape, strides).expand(labels.shape)


def distinct(labels: Tensor, axis: int) -> int:
    """Return the number of distinct slices of `labels` along `axis`."""
    narrow = compress(labels, only_strides=True)
    slices = narrow.movedim(axis, 0).reshape(narrow.shape[axis], -1)
    return len(slices.unique(dim=0) if slices.shape[1] > 1 else slices.unique())  # the latter is far faster
