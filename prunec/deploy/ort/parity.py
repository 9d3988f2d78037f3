"""Compare an exported model with its PyTorch module, or with its source model.

    max_abs = max|onnx − torch|        cosine = ⟨onnx, torch⟩ / (‖onnx‖ ‖torch‖)

An elementwise maximum alone is too strict for half precision and too lax for a swapped class, so the gate is a pair:
the maximum, absolute or (if outputs exceed 10, where float32 has fewer decimals) relative to the largest output; and
the share of samples, or pixels, with an equal top class. A different class counts only if the reference scores the two
further apart than the tolerance. For integer outputs the share that differs must be within the tolerance. Equal
infinities agree. Only numerics are compared, not accuracy.
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

from ...device import CPU, device_of, full_float32
from ...errors import DataError, NumericsError
from ...ir.calling import tensors_of
from ...ir.drift import limit_of
from ...ir.original import Original
from ...statistics.agreement import same_class
from .runtime import Array, Model, run, session

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

LARGE = 10.0  # from here on, an output's tolerance is relative
TOLERANCE = 1e-4
WHOLE = "biu"  # numpy's kinds of classes and masks


@dataclass(frozen=True)
class Agreement:
    """Distance of two engines at one batch size, over all outputs."""

    batch: int
    max_abs: float
    mean_abs: float
    cosine: float
    top1_agreement: float  # share of samples, or of pixels, with the same first class or a tie; 1 without classes
    largest: float  # max|torch|
    changed: float = 0.0  # share of whole numbers, such as classes, that differ

    @property
    def max_relative(self) -> float:
        """Return `max_abs` over the largest reference output; `max_abs` itself if that is 0."""
        return self.max_abs / self.largest if self.largest else self.max_abs

    def within(self, tolerance: float, top1: float) -> bool:
        """Return whether both halves of the gate hold."""
        near = self.max_abs <= tolerance or (self.largest > LARGE and self.max_relative <= tolerance)
        return near and self.changed <= tolerance and self.top1_agreement >= top1

    def __str__(self) -> str:
        return (
            f"batch {self.batch}: max {self.max_abs:.1e} of {self.largest:.3g}, mean {self.mean_abs:.1e},"
            f" cosine {self.cosine:.6f}, same class {_percent(self.top1_agreement)}"
            + (f", whole numbers that differ {self.changed:.2g}" if self.changed else "")
        )


@dataclass(frozen=True)
class Parity:
    """Agreement at several batch sizes, with a gate: largest difference and least share of equal classes."""

    agreements: tuple[Agreement, ...]
    tolerance: float = TOLERANCE
    top1: float = 1.0

    @property
    def ok(self) -> bool:
        """Return whether the gate holds at every batch size."""
        return all(agreement.within(self.tolerance, self.top1) for agreement in self.agreements)

    @property
    def max_abs(self) -> float:
        """Return the largest difference at any batch size."""
        return max(agreement.max_abs for agreement in self.agreements)

    def require(self, what: str = "the exported model", of: str = "its module") -> Parity:
        """Return self. Raises NumericsError for the first batch size that fails the gate."""
        for agreement in self.agreements:
            if not agreement.within(self.tolerance, self.top1):
                raise NumericsError(
                    f"{what} differs from {of} at {agreement}; allowed is {self.tolerance:g}, and"
                    f" the same class for {self.top1:.2%}: a fault of the export, do not ship it"
                )
        return self

    def to_json(self) -> dict[str, Any]:
        """Return the entry for the report, in finite numbers."""
        agreements = [{**asdict(a), "max_relative": a.max_relative} for a in self.agreements]
        return {"ok": self.ok, "tolerance": self.tolerance, "top1": self.top1, "agreements": agreements}


def compare(
    module: nn.Module | Original | InferenceSession,
    model: Model | InferenceSession,
    inputs: tuple[Tensor, ...],
    batches: Sequence[int] | None = None,
) -> Parity:
    """Run `module` in PyTorch and `model` in ONNX Runtime on the first inputs.

    Either may be an open session, to compare a model with its source. `inputs` are batch first and hold N samples;
    `batches` is by default (1, 2, N). Raises DataError if N is too small
    or the model does not take a batch, NumericsError for NaN, an infinity in one alone, or other shapes.
    """
    limit = tolerance_of(module)
    engine = session(model) if isinstance(model, bytes | Path | onnx.ModelProto) else model
    agreements = []
    for size in sizes_of(inputs, batches):
        samples = tuple(tensor[:size] for tensor in inputs)
        agreements.append(agreement(size, reference(module, samples), run(engine, samples), limit))
    return Parity(tuple(agreements), limit)


def sizes_of(inputs: tuple[Tensor, ...], batches: Sequence[int] | None) -> list[int]:
    """Return the batch sizes to compare at. Raises DataError for too few images."""
    available = min((len(tensor) for tensor in inputs), default=0)
    sizes = sorted({size for size in (1, 2, available) if size <= available} if batches is None else set(batches))
    if not sizes or not 1 <= sizes[0] <= sizes[-1] <= available:
        raise DataError(f"parity at batches {sizes} needs that many images in each input, and {available} were given")
    return sizes


def tolerance_of(module: nn.Module | Original | InferenceSession) -> float:
    """Return the largest rounding difference in a module's precision."""
    network = module.model if isinstance(module, Original) else module
    if not isinstance(network, nn.Module):
        return TOLERANCE
    return max(TOLERANCE, limit_of((*network.parameters(), *network.buffers())))


def reference(module: nn.Module | Original | InferenceSession, inputs: tuple[Tensor, ...]) -> list[Array]:
    """Return the flat outputs of the module."""
    if isinstance(module, Original):
        return arrays(module.outputs(inputs))
    if not isinstance(module, nn.Module):
        return run(module, inputs)
    device = device_of(module) or CPU
    with torch.no_grad(), full_float32():
        return arrays(tensors_of(module(*(tensor.to(device) for tensor in inputs))))


def arrays(tensors: Sequence[Tensor]) -> list[Array]:
    """Convert tensors to arrays; bfloat16, which numpy lacks, to float32."""
    return [
        (one.float() if one.dtype is torch.bfloat16 else one).detach().cpu().resolve_conj().numpy() for one in tensors
    ]


def agreement(
    batch: int, reference: Sequence[Array], outputs: Sequence[Array], tolerance: float = TOLERANCE
) -> Agreement:
    """Compare output by output in float64. Raises NumericsError if not comparable."""
    if [r.shape for r in reference] != [o.shape for o in outputs]:
        raise NumericsError(
            f"at batch {batch} the module gives {[r.shape for r in reference]}, the model {[o.shape for o in outputs]}"
        )
    if not sum(r.size for r in reference):
        raise NumericsError(f"at batch {batch} the network has no output to compare")
    pairs = [(np.asarray(r), np.asarray(o)) for r, o in zip(reference, outputs, strict=True)]
    scores = [pair for pair in pairs if pair[0].dtype.kind not in WHOLE]
    expected, actual = (
        np.concatenate([np.empty(0), *(one.ravel() for one in side)]).astype(np.float64)
        for side in (tuple(pair[0] for pair in scores), tuple(pair[1] for pair in scores))
    )
    _require_numbers(batch, expected, actual)
    if not (finite := np.isfinite(expected)).all():
        expected, actual = expected[finite], actual[finite]
    difference = np.abs(actual - expected)
    largest = float(np.abs(expected).max(initial=0.0))
    margin = tolerance * (largest if largest > LARGE else 1.0)
    return Agreement(
        batch=batch,
        max_abs=float(difference.max(initial=0.0)),
        mean_abs=float(difference.mean()) if difference.size else 0.0,
        cosine=_cosine(actual, expected),
        top1_agreement=min((_same_class(r, o, margin) for r, o in scores), default=1.0),
        largest=largest,
        changed=max((float((r != o).mean()) for r, o in pairs if r.dtype.kind in WHOLE and r.size), default=0.0),
    )


def _require_numbers(batch: int, expected: Array, actual: Array) -> None:
    """Raise NumericsError for NaN, and for an infinity in one side alone."""
    if np.isnan(expected).any():
        raise NumericsError(
            f"the network itself gives NaN at batch {batch}, in {int(np.isnan(expected).sum())} of {expected.size}"
            " numbers, so nothing can be compared: look for a NaN in its weights, an overflow or a division by zero, or"
            " give images of the kind that it was trained on (--data IMAGES)"
        )
    if np.isnan(actual).any():
        raise NumericsError(
            f"the exported model gives NaN at batch {batch}, in {int(np.isnan(actual).sum())} of {actual.size} numbers,"
            " where the network gives none: do not ship it"
        )
    infinite = np.isinf(expected) | np.isinf(actual)
    if (expected[infinite] != actual[infinite]).any():
        raise NumericsError(
            f"an output at batch {batch} is not finite in one and is in the other, or of another sign: look for an"
            " overflow, as of half precision, or a division by zero"
        )


def _cosine(a: Array, b: Array) -> float:
    """Return ⟨a, b⟩ / (‖a‖ ‖b‖); 1 for two zeros, 0 for one."""
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / norms if norms else float(np.array_equal(a, b))


def _same_class(reference: Array, output: Array, margin: float) -> float:
    """Return the share of positions whose top class along dimension 1 is equal or tied."""
    if reference.ndim < 2 or reference.shape[1] < 2 or not reference.size:
        return 1.0
    return float(same_class(reference, output, margin).mean())


def _percent(share: float) -> str:
    """Format a share in percent; below 1 it never reads 100%."""
    return f"{min(share, 0.9999):.2%}" if share < 1 else "100.00%"
