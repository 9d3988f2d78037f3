"""Build the networks and images of bench/replay.py, and compress one.

    python bench/replay_networks.py NAME CHECKOUT DATA OUT

It uses the prunec that Python finds. Nothing here imports a module inside prunec, so that every checkout is given the
same networks and images. Trained ones are those of the shared data; the others are networks of bench/architectures.py,
narrower by the arguments of their constructors, with random weights and noise images. One thread.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import pathlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import architectures
import numpy as np
import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Network:
    """A network, its images, and the arguments of its constructor that make it small."""

    name: str
    size: int = 12
    images: int = 16
    folder: str = ""  # of the shared data, with training images; empty: random weights, noise images
    pixels: tuple[tuple[float, ...], tuple[float, ...]] = ((0.0,), (1.0,))  # subtracted, then divided by
    options: Mapping[str, Any] = field(default_factory=dict)
    quick: bool = False


IMAGENET = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
CENTRED, CAFFE = ((127.5,), (127.5,)), ((123.68, 116.779, 103.939), (1.0,))
CIFAR, IMAGENETTE = "cifar10/train_8192.npz", "imagenette/train"
NETWORKS = (
    Network("micro:dense_block", quick=True),
    Network("micro:option_a", quick=True),
    Network("micro:written_attention", quick=True),
    Network("tv:shufflenet_v2_x0_5", 64),
    Network("tv:mobilenet_v3_small", 64, options={"width_mult": 0.5}),
    Network("tv:lraspp_mobilenet_v3_large", 64, options={"width_mult": 0.25}),
    Network("densenetblur121d", 64, options={"growth_rate": 8, "block_config": (2, 2, 2, 2)}),
    Network("skresnet18", 64, options={"channels": (16, 32, 48, 64)}),
    Network("nf_resnet26", 64, options={"channels": (16, 32, 48, 64)}),
    Network("convnextv2_atto", 64, options={"dims": (16, 24, 32, 48), "depths": (1, 1, 2, 1)}),
    Network("levit_128s", 64, options={"embed_dim": (32, 48, 64), "depth": (1, 1, 1), "num_heads": (2, 3, 4),
                                       "key_dim": 8, "img_size": 64}),
    Network("vit_tiny_patch16_224", 64, options={"embed_dim": 48, "depth": 3, "num_heads": 3, "img_size": 64}),
    Network("swin_tiny_patch4_window7_224", 64, options={"embed_dim": 24, "depths": (1, 1, 2, 1), "img_size": 64,
                                                         "num_heads": (1, 2, 4, 8), "window_size": 4}),
    Network("cifar_resnet20", 32, 64, CIFAR, IMAGENET),
    Network("cifar_resnet56", 32, 64, CIFAR, IMAGENET),
    Network("mobilenet_v1_075", 96, 32, IMAGENETTE, CENTRED),
    Network("squeezenet11", 96, 32, IMAGENETTE, IMAGENET),
    Network("resnet50_c4", 96, 32, IMAGENETTE, CAFFE),
)  # fmt: skip


def trained(network: Network, data: pathlib.Path) -> tuple[nn.Module, Tensor]:
    """Load a network of the shared data and its training images [N, 3, size, size]."""
    spec = importlib.util.spec_from_file_location("nets", data / "nets.py")
    assert spec is not None
    assert spec.loader is not None
    nets = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(nets)
    pixels = torch.from_numpy(_pixels(data / network.folder, network)).float()
    subtract, divide = (torch.tensor(each) for each in network.pixels)
    images = ((pixels - subtract) / divide).permute(0, 3, 1, 2)
    reads_bgr = network.pixels == CAFFE
    return nets.load(network.name), (images.flip(1) if reads_bgr else images).contiguous()


def _pixels(path: pathlib.Path, network: Network) -> np.ndarray[Any, np.dtype[np.uint8]]:
    if path.suffix == ".npz":
        with np.load(path) as file:
            first: np.ndarray[Any, np.dtype[np.uint8]] = file["images"][: network.images]
            return first
    from PIL import Image

    files = sorted(each for each in path.rglob("*") if each.is_file())
    chosen = files[:: len(files) // network.images][: network.images]  # some of every class
    shape = (network.size, network.size)
    return np.stack([np.asarray(Image.open(each).convert("RGB").resize(shape, Image.Resampling.BILINEAR))
                     for each in chosen])  # fmt: skip


def untrained(network: Network) -> tuple[nn.Module, Tensor]:
    """Build a network of the coverage list with seeded random weights, and noise [N, …]."""
    prefix, _, name = network.name.rpartition(":")
    listed = {each.name: each for each in architectures.listed()}[network.name]
    generator, shape = torch.Generator().manual_seed(1), (3, network.size, network.size)
    if prefix == "micro":
        model, (example,) = architectures.build(listed)
        return model, torch.randn(network.images, *example.shape[1:], generator=generator)
    _kept_shim()
    torch.manual_seed(0)
    if name.startswith("lraspp"):
        model = _segmentation(**network.options)
    elif prefix == "tv":
        model = importlib.import_module("torchvision").models.get_model(name, num_classes=10, **network.options)
    else:
        model = importlib.import_module("timm").create_model(name, num_classes=10, **network.options)
    architectures.unsettle(model)
    return model.eval(), torch.randn(network.images, *shape, generator=generator)


@functools.cache
def _kept_shim() -> object:
    """Let torchvision import; the library vanishes with its object, so it is cached."""
    return architectures.shim_torchvision()


def _segmentation(width_mult: float) -> nn.Module:
    """Build torchvision's LR-ASPP on a narrower backbone than its own constructor takes."""
    from torchvision.models import mobilenet_v3_large, segmentation
    from torchvision.models._utils import IntermediateLayerGetter

    layers = mobilenet_v3_large(width_mult=width_mult, dilated=True).features
    backbone = IntermediateLayerGetter(layers, {"4": "low", "16": "high"})
    model: nn.Module = segmentation.LRASPP(backbone, layers[4].out_channels, layers[16].out_channels, 4)
    return model


def compressed(name: str, checkout: pathlib.Path, data: pathlib.Path, out: pathlib.Path) -> None:
    """Compress one network in this process and write the files of `Result.save` to `out`."""
    torch.set_num_threads(1)
    import prunec

    found = pathlib.Path(prunec.__file__).resolve()
    assert found.is_relative_to(checkout), f"prunec came from {found}, not from {checkout}"
    network = {each.name: each for each in NETWORKS}[name]
    module, images = trained(network, data) if network.folder else untrained(network)
    prunec.compress(module, images, target="macs:0.5", align="none", seed=0).save(out)


if __name__ == "__main__":
    compressed(sys.argv[1], *map(pathlib.Path, sys.argv[2:]))
