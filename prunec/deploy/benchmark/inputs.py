"""Prepare the inputs of a benchmark: given images, or seeded noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...data.noise import noise_of
from ...errors import SpecError
from ..onnx.model_inputs import numpy_type
from ..ort.runtime import NUMBERS, Array, signature

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

NOTHING: Mapping[str, int] = MappingProxyType({})
Arrays = tuple[Array, ...]


@dataclass(frozen=True)
class Takes:
    """Inputs of a model: text, sizes (None: any) and types (None: not numeric)."""

    text: str
    sizes: tuple[tuple[int | None, ...], ...]
    types: tuple[str | None, ...]
    below: tuple[int | None, ...] = ()
    """Rows of the table that an integer input indexes."""

    @classmethod
    def of(cls, session: InferenceSession, rows: Mapping[str, int] = NOTHING) -> Takes:
        """Read the inputs of an ONNX Runtime session; `rows` as in `below`, by input."""
        entries = session.get_inputs()
        sizes = tuple(tuple(size if isinstance(size, int) else None for size in one.shape or [None]) for one in entries)
        kinds = [numpy_type(one.type) for one in entries]
        types = tuple(kind if kind in (*NUMBERS, "bool") else None for kind in kinds)
        return cls(signature(session), sizes, types, tuple(rows.get(one.name) for one in entries))

    def noise(self, batch: int, seed: int) -> Arrays:
        """Normal noise, or legal integers, with `batch` first.

        Raises SpecError where the shapes do not tell, or are of another batch.
        """
        generator = torch.Generator().manual_seed(seed)
        arrays = []
        below = self.below or (None,) * len(self.sizes)
        for (first, *rest), kind, rows in zip(self.sizes, self.types, below, strict=True):
            if kind is None or None in rest:
                raise SpecError(f"{self.text}: noise needs numbers and fixed sizes; give real inputs (--data)")
            if first is not None and first != batch:
                raise SpecError(f"{self.text}: its batch is fixed, so ask for batch {first}")
            drawn = noise_of([size or 1 for size in rest], getattr(torch, kind), batch, rows, generator)
            arrays.append(drawn.numpy())
        return tuple(arrays)


def noise(session: InferenceSession, batch: int, seed: int) -> Arrays:
    """Return noise of a session's shapes, with `batch` first. Raises as `Takes.noise`."""
    return Takes.of(session).noise(batch, seed)


def first_of(inputs: Sequence[Tensor | Array], batch: int) -> Arrays:
    """Return the first `batch` samples of each input. Raises SpecError for fewer."""
    arrays = tuple(each.detach().cpu().numpy() if isinstance(each, Tensor) else each for each in inputs)
    if any(len(each) < batch for each in arrays):
        raise SpecError(f"batch {batch} needs that many images in each input; give more, or ask for a smaller batch")
    return tuple(each[:batch] for each in arrays)
