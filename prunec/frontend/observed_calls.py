"""Record one call of a module at two batch sizes; infer its output sizes.

A size that changes with the batch is a multiple of an input size that does:

    out(N) = in(N) · out(2) / in(2)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from ..errors import CaptureError
from ..ir.calling import tensors_of

_TENSOR = object()


@dataclass(frozen=True)
class Values:
    """Arguments or results: their nesting, constants, and shapes and types of tensors."""

    spec: pytree.TreeSpec
    leaves: tuple[Any, ...]  # _TENSOR, or a constant
    shapes: tuple[tuple[Any, ...], ...]
    dtypes: tuple[torch.dtype, ...]

    @staticmethod
    def of(value: Any) -> Values:
        """Split a value into nesting, constants, and shapes and types of tensors."""
        leaves, spec = pytree.tree_flatten(value)
        tensors = tensors_of(leaves)
        constants = tuple(_TENSOR if isinstance(leaf, Tensor) else leaf for leaf in leaves)
        return Values(spec, constants, tuple(tuple(one.shape) for one in tensors), tuple(one.dtype for one in tensors))

    def alike(self, other: Values) -> bool:
        """Return whether nesting, constants and ranks are equal; sizes may differ."""
        ranks = [[len(shape) for shape in one.shapes] for one in (self, other)]
        return (self.spec, self.leaves, ranks[0]) == (other.spec, other.leaves, ranks[1])

    def nested(self, tensors: Sequence[Tensor]) -> Any:
        """Return the nested value with `tensors` in it."""
        given = iter(tensors)
        return pytree.tree_unflatten([next(given) if leaf is _TENSOR else leaf for leaf in self.leaves], self.spec)


Sizes = tuple[int, int]  # one size of one tensor, at both batch sizes


@dataclass(frozen=True)
class Call:
    """One observed call of a module: inputs, outputs, and sizes of both."""

    inputs: Values
    outputs: Values
    taken: tuple[tuple[Sizes, ...], ...]
    given: tuple[tuple[Sizes, ...], ...]

    def fits(self, values: Values) -> bool:
        """Return whether a call with `values` matches this one; batch-dependent sizes are free."""
        pairs = zip(self.taken, values.shapes, strict=True)
        return self.inputs.alike(values) and all(
            small != large or size == small
            for sizes, shape in pairs
            for (small, large), size in zip(sizes, shape, strict=True)
        )

    def shapes(self, inputs: Sequence[Tensor]) -> list[list[Any]]:
        """Return the output shapes for `inputs`, whose batch may be a symbol."""
        return [[self._size(each, inputs) for each in sizes] for sizes in self.given]

    def _size(self, wanted: Sizes, inputs: Sequence[Tensor]) -> Any:
        if wanted[0] == wanted[1]:
            return wanted[0]
        number, dim = self.source(wanted)
        step = self.taken[number][dim][0]
        whole = not wanted[0] % step
        size = inputs[number].shape[dim]
        return size * (wanted[0] // step) if whole else size * wanted[0] // step

    def source(self, wanted: Sizes) -> tuple[int, int]:
        """Return the input and dimension whose multiple an output size is. Raises StopIteration for none."""
        return next(
            (number, dim)
            for number, sizes in enumerate(self.taken)
            for dim, (small, large) in enumerate(sizes)
            if small != large and small * wanted[1] == large * wanted[0]
        )


Seen = tuple[Values, Values]


def learned(path: str, small: Seen, large: Seen) -> Call:
    """Build a call from its observations at two batch sizes."""
    if not all(one.alike(other) for one, other in zip(small, large, strict=True)):
        raise CaptureError(f"{path} takes or gives other things for another batch size, so it cannot be opaque")
    taken, given = (
        tuple(tuple(zip(a, b, strict=True)) for a, b in zip(one.shapes, other.shapes, strict=True))
        for one, other in zip(small, large, strict=True)
    )
    call = Call(*small, taken, given)
    for sizes in (each for shape in given for each in shape if each[0] != each[1]):
        try:
            call.source(sizes)
        except StopIteration:
            raise CaptureError(
                f"{path} gives {sizes[0]} rows for one batch and {sizes[1]} for a larger one, no multiple of any size"
                " that it is given, so it cannot be opaque; mark the module around it"
            ) from None
    return call
