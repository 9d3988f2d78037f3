"""`prunec init`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import typer

from .flags import Checks, flattened
from .options import ShapedNetwork


@dataclass(frozen=True, kw_only=True)
class Init(ShapedNetwork, Checks):
    """Record the options of `prunec init`."""


@flattened(Init)
def init(options: Init) -> None:
    """Print a recipe for a network: model and input shape filled in, every other key with its default as a comment.

    \b
        prunec init nets.py:make --weights net.safetensors --input-shape 3x32x32 > net.toml
        prunec init torchvision:resnet18 > resnet18.toml
        prunec compress --recipe net.toml --data photos/ -o out/
    """
    from ..request.template import template_of
    from ..request.values import shape_of

    loaded, shape = options.load(), options.input_shape
    if shape is not None:
        shape_of("--input-shape", shape)  # raises for what is no shape
    given: dict[str, Any] = {
        "model": options.model,
        "weights": None if options.weights is None else str(options.weights),
        "input_shape": shape or loaded.input_size_hint,
        "target": "macs:0.5",
    }
    typer.echo(template_of(given), nl=False)
