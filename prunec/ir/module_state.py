"""Run a user's module in eval mode and restore modes, buffers, parameters and attributes.

A forward may write into a buffer (`self.calls += 1`), replace it, or keep values of its own (`self.last = x`). Tensors
are copied on entry and written back where they differ; attributes are bound again to their old values.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

Attributes = dict[str, Any]
CONTAINERS = (dict, OrderedDict, defaultdict, list, deque, set)


@contextmanager
def preserved(model: nn.Module) -> Iterator[None]:
    """Hold `model` in eval mode during the block; restore sub-modules and tensors on exit."""
    tensors = {id(one): one for one in (*model.parameters(), *model.buffers()) if not (is_lazy(one) or one.is_meta)}
    values = [(one, one.detach().clone()) for one in tensors.values()]
    attributes = [(one, {name: (value, _held(value)) for name, value in vars(one).items()}) for one in model.modules()]
    try:
        model.eval()
        yield
    finally:
        for module, before in attributes:
            _restore_attributes(module, before)
        for tensor, value in values:
            _restore_values(tensor, value)


def _held(value: Any) -> Any:
    """Copy a built-in container shallowly, as a forward may fill it; else None."""
    return value.copy() if type(value) in CONTAINERS else None


def _restore_attributes(module: nn.Module, before: Attributes) -> None:
    now = vars(module)
    for name in now.keys() - before.keys():
        del now[name]
    for name, (value, held) in before.items():
        now[name] = value
        if held is not None:
            value.clear()
            value.extend(held) if isinstance(value, (list, deque)) else value.update(held)


def _restore_values(tensor: Tensor, value: Tensor) -> None:
    if tensor.shape != value.shape or tensor.dtype != value.dtype:
        tensor.data = value
    elif not torch.equal(tensor, value):
        with torch.inference_mode():  # inference tensors can be written only in it
            tensor.copy_(value)
