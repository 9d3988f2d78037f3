"""Sampled rows times the weight are the layer's own outputs, for every kind of convolution."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from prunec.channels.analysis import analyse
from prunec.channels.matrix import as_matrix, from_matrix
from prunec.frontend.capture import capture
from prunec.statistics.patches import Draws, Layer

LAYERS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "linear": (nn.Linear(8, 6), (8,)),
    "tokens": (nn.Linear(8, 6), (5, 8)),
    "pointwise": (nn.Conv2d(8, 6, 1), (8, 7, 7)),
    "strided pointwise": (nn.Conv2d(8, 6, 1, 2), (8, 7, 7)),
    "padded": (nn.Conv2d(8, 6, 3, 1, 1), (8, 7, 7)),
    "strided": (nn.Conv2d(8, 6, 3, 2, 1), (8, 7, 9)),
    "dilated": (nn.Conv2d(8, 6, (3, 2), dilation=2, padding=(2, 0)), (8, 9, 7)),
    "same": (nn.Conv2d(8, 6, 4, padding="same"), (8, 7, 7)),
    "grouped": (nn.Conv2d(8, 6, 3, groups=2), (8, 7, 7)),
    "depthwise": (nn.Conv2d(8, 8, 3, padding=1, groups=8), (8, 7, 7)),
    "transposed": (nn.ConvTranspose2d(8, 6, 4, 2, 1), (8, 5, 4)),
    "transposed, uneven": (
        nn.ConvTranspose2d(8, 6, (3, 2), (2, 3), (1, 0), (1, 2), groups=2, dilation=(2, 1)),
        (8, 5, 4),
    ),
    "transposed, cropped": (nn.ConvTranspose2d(8, 6, 1, 2, 1, 1), (8, 5, 4)),
    "transposed depthwise": (nn.ConvTranspose2d(8, 8, 3, 2, groups=8), (8, 5, 4)),
    "signal": (nn.Conv1d(8, 6, 3, 2, 1), (8, 11)),
    "volume": (nn.Conv3d(8, 6, 3, padding=1), (8, 5, 4, 6)),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("per_sample", [3, 10_000])
def test_rows_times_weight_are_the_outputs(name: str, per_sample: int) -> None:
    layer, shape = LAYERS[name]
    program = capture(layer.eval(), (torch.randn(2, *shape),))
    (one,) = analyse(program).contractions
    (node,) = (node for node in program.module.graph.nodes if node.name == one.node)
    x = torch.randn(4, *shape)
    y = layer(x)
    sampler = Layer.of(program.module, node, one, one.groups)
    at = Draws(4, per_sample, name, 0).of(sampler.space(y), slice(0, 4))
    rows = sampler.rows(x, at)
    weight = as_matrix(layer.weight, one, one.groups)
    assert torch.equal(from_matrix(weight, one, layer.weight.shape), layer.weight)
    found = torch.einsum("rgd,god->rgo", rows, weight).flatten(1) + layer.bias
    torch.testing.assert_close(found, at.of(y, sampler.channel_axis), rtol=1e-4, atol=1e-5)
