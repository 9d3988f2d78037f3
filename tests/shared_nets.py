"""The real networks of the shared data folder, where it is present."""

from __future__ import annotations

import numpy as np
import torch
from conftest import SHARED
from torch import Tensor, nn

from prunec.errors import CaptureError
from prunec.user_code import imported

SIZES = {"cifar_resnet20": 32, "cifar_resnet56": 32, "resnet50_c4": 160}
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


def load(name: str) -> nn.Module:
    """The network with its weights, in eval mode."""
    with imported(f"{SHARED / 'nets.py'}:load", CaptureError) as loader:
        assert callable(loader)
        net: nn.Module = loader(name)
        return net


def shape_of(name: str) -> tuple[int, int, int]:
    """The shape of one input."""
    return (3, SIZES.get(name, 224), SIZES.get(name, 224))


def cifar(part: str, count: int) -> tuple[Tensor, Tensor]:
    """The first images [N, 3, 32, 32], normalised, and labels [N] of `train_8192` or `test`."""
    with np.load(SHARED / "cifar10" / f"{part}.npz") as file:
        images, labels = (
            torch.from_numpy(file["images"][:count]),
            torch.from_numpy(file["labels"][:count].astype(np.int64)),
        )
    return ((images.float() / 255 - MEAN) / STD).permute(0, 3, 1, 2).contiguous(), labels
