"""What the models of a benchmark are run on: given images, or seeded noise of the shapes that one of them declares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from ...errors import SpecError
from ..runtime import Array, signature

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

DTYPES = {"float": "float32", "float16": "float16", "double": "float64"}

Arrays = tuple[Array, ...]


@dataclass(frozen=True)
class Takes:
    """What a model takes: as text, and of each input its sizes (None: any) and, if it is floating point, its type."""

    text: str
    sizes: tuple[tuple[int | None, ...], ...]
    types: tuple[str | None, ...]

    @classmethod
    def of(cls, session: InferenceSession) -> Takes:
        """Of a session of ONNX Runtime."""
        entries = session.get_inputs()
        sizes = tuple(tuple(size if isinstance(size, int) else None for size in one.shape or [None]) for one in entries)
        types = tuple(DTYPES.get(one.type.removeprefix("tensor(").removesuffix(")")) for one in entries)
        return cls(signature(session), sizes, types)

    def noise(self, batch: int, seed: int) -> Arrays:
        """Normal noise with `batch` first. Raises SpecError where the shapes do not tell, or are of another batch."""
        generator = np.random.default_rng(seed)
        arrays = []
        for (first, *rest), kind in zip(self.sizes, self.types, strict=True):
            if kind is None or None in rest:
                raise SpecError(f"{self.text}: noise needs floats and fixed sizes; give inputs=(images, …) instead")
            if first is not None and first != batch:
                raise SpecError(f"{self.text}: its batch is fixed, so ask for batch {first}")
            arrays.append(generator.standard_normal((batch, *[size or 1 for size in rest])).astype(kind))
        return tuple(arrays)


def noise(session: InferenceSession, batch: int, seed: int) -> Arrays:
    """Normal noise of the shapes that a session declares, with `batch` first. Raises as `Takes.noise`."""
    return Takes.of(session).noise(batch, seed)


def first_of(inputs: Sequence[Tensor | Array], batch: int) -> Arrays:
    """The first `batch` samples of each. Raises SpecError where there are fewer."""
    arrays = tuple(each.detach().cpu().numpy() if isinstance(each, Tensor) else each for each in inputs)
    if any(len(each) < batch for each in arrays):
        raise SpecError(f"batch {batch} needs that many images in each input; give more, or ask for a smaller batch")
    return tuple(each[:batch] for each in arrays)
