"""Whether an exported model computes what its PyTorch module computes, or a model what the one it was made from does.

    max_abs = max|onnx − torch|        cosine = ⟨onnx, torch⟩ / (‖onnx‖ ‖torch‖)

An elementwise maximum alone is too strict for half precision and too lax for a swapped class, so the gate is a pair:
the maximum, absolute or (where outputs exceed 10, and float32 has fewer decimals left) relative to the largest output;
and the share of samples whose first class is the same. It is about numerics only: accuracy is another question.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from ..device import CPU, device_of, full_float32
from ..errors import DataError, NumericsError
from .runtime import Array, Model, run, session

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

LARGE = 10.0  # from here on, an output's tolerance is relative


@dataclass(frozen=True)
class Agreement:
    """How near two engines are at one batch size, over all outputs."""

    batch: int
    max_abs: float
    mean_abs: float
    cosine: float
    top1_agreement: float  # share of samples, or of pixels, with the same first class; 1 without classes
    largest: float  # max|torch|

    @property
    def max_relative(self) -> float:
        """`max_abs` as a share of the largest reference output; 0 where both engines give zeros."""
        return self.max_abs / self.largest if self.largest else self.max_abs

    def within(self, tolerance: float, top1: float) -> bool:
        """Whether both halves of the gate hold."""
        near = self.max_abs <= tolerance or (self.largest > LARGE and self.max_relative <= tolerance)
        return near and self.top1_agreement >= top1

    def __str__(self) -> str:
        return (
            f"batch {self.batch}: max {self.max_abs:.1e} of {self.largest:.3g}, mean {self.mean_abs:.1e},"
            f" cosine {self.cosine:.6f}, same class {self.top1_agreement:.2%}"
        )


@dataclass(frozen=True)
class Parity:
    """Agreement at several batch sizes, and the gate: `tolerance` of the outputs, `top1` the least same-class share."""

    agreements: tuple[Agreement, ...]
    tolerance: float = 1e-4
    top1: float = 1.0

    @property
    def ok(self) -> bool:
        """Whether the gate holds at every batch size."""
        return all(agreement.within(self.tolerance, self.top1) for agreement in self.agreements)

    @property
    def max_abs(self) -> float:
        """The largest difference at any batch size."""
        return max(agreement.max_abs for agreement in self.agreements)

    def require(self) -> Parity:
        """Itself. Raises NumericsError where the gate does not hold, with the first batch size that fails."""
        for agreement in self.agreements:
            if not agreement.within(self.tolerance, self.top1):
                raise NumericsError(
                    f"the exported model differs from its module at {agreement}; allowed is {self.tolerance:g}, and"
                    f" the same class for {self.top1:.2%}: a fault of the export, do not ship it"
                )
        return self

    def to_json(self) -> dict[str, Any]:
        """Finite numbers only, for the report."""
        agreements = [{**asdict(a), "max_relative": a.max_relative} for a in self.agreements]
        return {"ok": self.ok, "tolerance": self.tolerance, "top1": self.top1, "agreements": agreements}


def compare(
    module: nn.Module | InferenceSession,
    model: Model | InferenceSession,
    inputs: tuple[Tensor, ...],
    batches: Sequence[int] | None = None,
    *,
    tolerance: float = 1e-4,
    top1: float = 1.0,
) -> Parity:
    """Run `module` in PyTorch and `model` in ONNX Runtime, on one thread, on the first images of `inputs`.

    Either may be an open session: two of those compare a model with the one that it was made from.
    `inputs` are batch first and hold N samples; `batches` is by default (1, 2, N). Raises DataError where N is too
    small or the model does not take such a batch, NumericsError for outputs that are not finite or of other shapes.
    """
    available = min((len(tensor) for tensor in inputs), default=0)
    sizes = sorted({size for size in (1, 2, available) if size <= available} if batches is None else set(batches))
    if not sizes or not 1 <= sizes[0] <= sizes[-1] <= available:
        raise DataError(f"parity at batches {sizes} needs that many images in each input, and {available} were given")
    engine = session(model) if isinstance(model, bytes | Path | onnx.ModelProto) else model
    agreements = []
    for size in sizes:
        samples = tuple(tensor[:size] for tensor in inputs)
        agreements.append(agreement(size, _reference(module, samples), run(engine, samples)))
    return Parity(tuple(agreements), tolerance, top1)


def _reference(module: nn.Module | InferenceSession, inputs: tuple[Tensor, ...]) -> list[Array]:
    """The outputs of the module, flat."""
    if not isinstance(module, nn.Module):
        return run(module, inputs)
    device = device_of(module) or CPU
    with torch.no_grad(), full_float32():
        inputs = tuple(tensor.to(device) for tensor in inputs)
        return [leaf.detach().cpu().numpy() for leaf in tree_leaves(module(*inputs)) if isinstance(leaf, Tensor)]


def agreement(batch: int, reference: list[Array], outputs: list[Array]) -> Agreement:
    """Compare output by output in float64."""
    if [r.shape for r in reference] != [o.shape for o in outputs]:
        raise NumericsError(
            f"at batch {batch} the module gives {[r.shape for r in reference]}, the model {[o.shape for o in outputs]}"
        )
    if not all(np.isfinite(values).all() for values in (*reference, *outputs)):
        raise NumericsError(f"an output at batch {batch} is not finite; look for an overflow or a division by zero")
    expected = np.concatenate([r.ravel() for r in reference]).astype(np.float64)
    actual = np.concatenate([o.ravel() for o in outputs]).astype(np.float64)
    if not expected.size:
        raise NumericsError(f"at batch {batch} the network has no output to compare")
    difference = np.abs(actual - expected)
    return Agreement(
        batch=batch,
        max_abs=float(difference.max()),
        mean_abs=float(difference.mean()),
        cosine=_cosine(actual, expected),
        top1_agreement=min(_same_class(r, o) for r, o in zip(reference, outputs, strict=True)),
        largest=float(np.abs(expected).max()),
    )


def _cosine(a: Array, b: Array) -> float:
    """⟨a, b⟩ / (‖a‖ ‖b‖); 1 for two zeros, 0 for one."""
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / norms if norms else float(np.array_equal(a, b))


def _same_class(reference: Array, output: Array) -> float:
    """The share of positions whose largest entry along dimension 1 is the same one."""
    if reference.ndim < 2 or reference.shape[1] < 2:
        return 1.0
    return float((reference.argmax(1) == output.argmax(1)).mean())
