"""Prepare the inputs of a benchmark: given images, or seeded noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

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
        """Return normal noise, or legal integers, with `batch` first. Raises SpecError for unfit or unknown shapes."""
        generator = np.random.default_rng(seed)
        arrays = []
        below = self.below or (None,) * len(self.sizes)
        for (first, *rest), kind, rows in zip(self.sizes, self.types, below, strict=True):
            if kind is None or None in rest:
                raise SpecError(f"{self.text}: noise needs numbers and fixed sizes; give real inputs (--data)")
            if first is not None and first != batch:
                raise SpecError(f"{self.text}: its batch is fixed, so ask for batch {first}")
            arrays.append(_noise(generator, (batch, *[size or 1 for size in rest]), np.dtype(kind), rows))
        return tuple(arrays)


def _noise(generator: np.random.Generator, shape: tuple[int, ...], kind: np.dtype[Any], rows: int | None) -> Array:
    """Return normal noise, 8-bit pixels, or integers below `rows`, by default 0 and 1."""
    if kind.kind == "f":
        return generator.standard_normal(shape).astype(kind)
    most = 2 if kind.kind == "b" else int(np.iinfo(kind).max) + 1
    below = rows or (256 if kind == np.uint8 else 2)
    return generator.integers(min(below, most), size=shape).astype(kind)


def noise(session: InferenceSession, batch: int, seed: int) -> Arrays:
    """Return noise of a session's shapes, with `batch` first. Raises as `Takes.noise`."""
    return Takes.of(session).noise(batch, seed)


def first_of(inputs: Sequence[Tensor | Array], batch: int) -> Arrays:
    """Return the first `batch` samples of each input. Raises SpecError for fewer."""
    arrays = tuple(each.detach().cpu().numpy() if isinstance(each, Tensor) else each for each in inputs)
    if any(len(each) < batch for each in arrays):
        raise SpecError(f"batch {batch} needs that many images in each input; give more, or ask for a smaller batch")
    return tuple(each[:batch] for each in arrays)
