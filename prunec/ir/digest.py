"""Compute the sha256 of tensors and of networks: names, dtypes, shapes and bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import torch
from torch import Tensor, nn


def state_digest(module: nn.Module | torch.export.ExportedProgram) -> str:
    """Compute the sha256, in hexadecimal, of the state dict, in the order of the names."""
    state = module.state_dict
    named = state() if callable(state) else state
    return tensor_digest((key, value) for key, value in sorted(named.items()) if isinstance(value, Tensor))


def tensor_digest(named: Iterable[tuple[str, Tensor]]) -> str:
    """Compute the sha256, in hexadecimal, of named tensors, in the order given."""
    digest = hashlib.sha256()
    for name, tensor in named:
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
