"""Initialise lazy layers (`nn.LazyConv2d`, `nn.LazyLinear`) by one run under seed 0."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from ..errors import CaptureError, one_line


def has_lazy(model: nn.Module) -> bool:
    """Return whether a parameter or buffer has no shape yet."""
    return any(is_lazy(one) for one in (*model.parameters(), *model.buffers()))


def initialise(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """Run `model` once if it has lazy layers, in place, modes kept. Raises CaptureError if it fails."""
    if not has_lazy(model):
        return
    modes = [(module, module.training) for module in model.modules()]
    try:
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(0)
            model.eval()(*args, **kwargs)
    except Exception as error:
        raise CaptureError(
            f"{type(model).__name__} has lazy layers, and fails on the example inputs that would give them their"
            f" sizes: {one_line(error)}; check the input shape (--input-shape)"
        ) from error
    finally:
        for module, training in modes:
            module.training = training
    if has_lazy(model):
        raise CaptureError(f"{type(model).__name__} has lazy layers that forward never runs: leave them out")
