"""Name the weights of an imported network after their ONNX initialisers, as paths of modules."""

from __future__ import annotations

import re

import torch
from torch import nn

from .node import Node

ROLES = {
    "BatchNormalization": ("", "weight", "bias", "running_mean", "running_var"),
    "Conv": ("", "weight", "bias"),
    "ConvTranspose": ("", "weight", "bias"),
    "Linear": ("", "weight", "bias"),
}


def path_of(name: str, node: Node, place: int) -> str:
    """Return the path for a constant.

    It is the constant's own name, or for a generated name the node's and its role.
    """
    plain = name.removesuffix(".T")
    if "::" in plain and node.name:
        roles = ROLES.get(node.kind, ())
        role = roles[place] if place < len(roles) else f"input_{place}"
        plain = f"{node.name}.{role}"
    parts = [re.sub(r"\W", "_", part) for part in re.split(r"[/.:]+", plain)]
    return ".".join(part for part in parts if part) or "constant"


def register(module: nn.Module, path: str, value: torch.Tensor, buffer: bool) -> str:
    """Store a tensor at a free path below `module`; return the path."""
    *folders, leaf = path.split(".")
    place, taken = module, []
    for wanted in folders:
        folder = wanted
        while hasattr(place, folder) and type(getattr(place, folder)) is not nn.Module:
            folder = f"{folder}_"
        if not hasattr(place, folder):
            place.add_module(folder, nn.Module())
        place = getattr(place, folder)
        taken.append(folder)
    while hasattr(place, leaf):
        leaf = f"{leaf}_"
    if buffer:
        place.register_buffer(leaf, value)
    else:
        place.register_parameter(leaf, nn.Parameter(value, requires_grad=False))
    return ".".join((*taken, leaf))
