"""Load the shipped network and its images, so that `prunec demo` needs no download.

Fashion-MNIST, Zalando SE, MIT licence (see NOTICE): 1,024 unlabelled training images, 2,000 labelled test images.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..data.images import Images
from ..frontend.load import load_weights
from .network import MEAN, STD, FashionResNet

FOLDER = Path(__file__).parent


def load_network() -> FashionResNet:
    """Return the trained network in eval mode, [N, 1, 28, 28] to logits [N, 10]."""
    network = FashionResNet()
    load_weights(network, FOLDER / "weights.safetensors")
    return network.eval()


def calibration_images() -> Images:
    """Return 1,024 training images, normalised, without labels."""
    return _images("calibration.npz")


def test_images() -> Images:
    """Return 2,000 test images, normalised, with labels."""
    return _images("test.npz")


def card() -> dict[str, Any]:
    """Return the training recipe and the accuracy on all 10,000 test images."""
    found: dict[str, Any] = json.loads((FOLDER / "demo.json").read_text(encoding="utf-8"))
    return found


def _images(name: str) -> Images:
    with np.load(FOLDER / name, allow_pickle=False) as stored:
        pixels = torch.from_numpy(stored["images"]).to(torch.float32).unsqueeze(1)
        labels = torch.from_numpy(stored["labels"]).to(torch.int64) if "labels" in stored.files else None
    return Images(((pixels - MEAN) / STD,), labels, f"the demo's {name}")
