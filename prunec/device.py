"""Choose the device that a network computes on; keep float32 at full precision.

Code that runs the network copies images to the network's device a batch at a time. Measurements are copied to the CPU
and processed there in float64 (`prunec.ir.graph.numbers`, `Moments.on_cpu`): they are small, their steps are
sequential, and the result is the same on every machine. Results are copied back to the network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.export import ExportedProgram

from .errors import BackendError, CaptureError, SpecError

CPU = torch.device("cpu")


def named(text: str | torch.device | None) -> torch.device | None:
    """Parse `cpu`, `cuda` or `cuda:1`; None for None. Raises SpecError for other text, BackendError without a GPU."""
    if text is None:
        return None
    try:
        device = torch.device(text)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        raise SpecError(f"'{text}' is no device that prunec computes on: give cpu, cuda, or cuda:1 for the second GPU")
    if device.type == "cuda" and not torch.cuda.is_available():
        built = "finds no GPU" if torch.version.cuda else "was built without CUDA"
        raise BackendError(f"there is no device {text}: torch {torch.__version__} {built}; leave it out, or give cpu")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise BackendError(f"there is no device {text}: torch finds {torch.cuda.device_count()} GPU, counted from 0")
    return device


def device_of(model: nn.Module | ExportedProgram) -> torch.device | None:
    """Return the device of parameters, else of buffers; None without either. Raises CaptureError for several."""
    found = {tensor.device: None for tensor in (list(model.parameters()) or model.buffers())}
    if len(found) > 1:
        raise CaptureError(f"the network lies on {' and '.join(map(str, found))}: move all of it to one device")
    return next(iter(found), None)


@contextmanager
def full_float32() -> Iterator[None]:
    """Compute float32 in full precision and deterministically on GPUs inside the block.

    By default torch rounds the factors of convolutions to ten bits (TF32): a larger error than an exact pass may add.
    Torch has old and new names for the setting and refuses to read the old one if the two disagree, so both are set and
    restored.
    """
    restore = precision_restored()
    cudnn: Any = torch.backends.cudnn
    cudnn.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")
    for place in _places():
        place.fp32_precision = "ieee"
    cudnn.deterministic, cudnn.benchmark = True, False
    try:
        yield
    finally:
        restore()


def precision_restored() -> Callable[[], None]:
    """Return a function that restores the current float32 precision and determinism."""
    cudnn: Any = torch.backends.cudnn
    newer, older = {place: place.fp32_precision for place in _places()}, _older()
    repeatable = cudnn.deterministic, cudnn.benchmark

    def restore() -> None:
        cudnn.deterministic, cudnn.benchmark = repeatable
        cudnn.allow_tf32 = older[0]
        torch.set_float32_matmul_precision(older[1])
        for place, precision in newer.items():
            place.fp32_precision = precision

    return restore


def _places() -> tuple[Any, ...]:
    cudnn: Any = torch.backends.cudnn
    return cudnn.conv, cudnn.rnn, torch.backends.cuda.matmul


def _older() -> tuple[bool, str]:
    """Return the setting by its old names; torch's default if they were not used."""
    try:
        convolutions = bool(torch.backends.cudnn.allow_tf32)
    except RuntimeError:
        convolutions = True
    try:
        return convolutions, torch.get_float32_matmul_precision()
    except RuntimeError:
        return convolutions, "highest"
