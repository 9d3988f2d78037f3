"""Networks drawn step by step: norms after linear layers on 2, 3 and 4 axes, steps in slices, fixed batches, repeats.

Sizes are 3 to 6, so that a channel axis and another are often as long as each other: what takes one for the other is
then wrong, and not refused. A step that does not fit the shape so far leaves it as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import Tensor, nn

Step = Callable[[tuple[int, ...], int, nn.ModuleList], Callable[[Tensor], Tensor]]
"""Add layers for a shape without the batch; return the function to apply."""
NORMS: tuple[type[nn.Module], ...] = (nn.BatchNorm1d, nn.BatchNorm1d, nn.BatchNorm2d)  # by the number of axes but one
CONVOLUTIONS: tuple[type[nn.Module], ...] = (nn.Conv1d, nn.Conv2d)
TRANSPOSED: tuple[type[nn.Module], ...] = (nn.ConvTranspose1d, nn.ConvTranspose2d)


def same(x: Tensor) -> Tensor:
    return x


def linear(shape: tuple[int, ...], n: int, layers: nn.ModuleList) -> Callable[[Tensor], Tensor]:
    layer = nn.Linear(shape[-1], 3 + n % 4, bias=n % 3 > 0)
    layers.append(layer)
    return layer


def twice(shape: tuple[int, ...], n: int, layers: nn.ModuleList) -> Callable[[Tensor], Tensor]:
    """One layer, and for odd numbers its norm, applied two times."""
    layer = nn.Linear(shape[-1], shape[-1])
    layers.append(layer)
    then = norm(shape, n, layers) if n % 2 else torch.tanh
    return lambda x: then(layer(then(layer(x))))


def tied(shape: tuple[int, ...], n: int, layers: nn.ModuleList) -> Callable[[Tensor], Tensor]:
    layer = nn.Linear(shape[-1], 3 + n % 4)
    layers.append(layer)
    return lambda x: F.linear(torch.relu(layer(x)), layer.weight.T)


def norm(shape: tuple[int, ...], n: int, layers: nn.ModuleList) -> Callable[[Tensor], Tensor]:
    layer: Any = NORMS[len(shape) - 1](shape[0], affine=n % 4 > 0, eps=(1e-5, 1e-2)[n % 2])
    layer.running_mean.uniform_(-1, 1)
    layer.running_var.uniform_(0.5, 2)
    if layer.affine:
        nn.init.uniform_(layer.weight, 0.5, 2)
        nn.init.uniform_(layer.bias, -1, 1)
    layers.append(layer)
    return layer  # type: ignore[no-any-return]


def layer_norm(shape: tuple[int, ...], n: int, layers: nn.ModuleList) -> Callable[[Tensor], Tensor]:
    layer = nn.LayerNorm(shape[-1 - n % len(shape) :], eps=1e-2, elementwise_affine=n % 4 > 0)
    layers.append(layer)
    return layer


def convolution(shape: tuple[int, ...], n: int, layers: nn.ModuleList) -> Callable[[Tensor], Tensor]:
    if len(shape) < 2:
        return same
    kinds = TRANSPOSED if n % 5 == 0 else CONVOLUTIONS
    groups = shape[0] if n % 3 == 0 else 1
    out = groups * (1 + n % 2) if groups > 1 else 3 + n % 4
    layer: Any = kinds[len(shape) - 2](shape[0], out, 3, 1 + n % 2, 1, groups=groups, bias=n % 4 > 0)
    layers.append(layer)
    return layer  # type: ignore[no-any-return]


def sliced(shape: tuple[int, ...], n: int, layers: nn.ModuleList) -> Callable[[Tensor], Tensor]:
    axis, start, step = 1 + n % len(shape), n % 2, 1 + n % 3
    if shape[axis - 1] <= start + 2:
        return same
    index = (slice(None),) * axis + (slice(start, None, step),)
    return lambda x: x[index]


def picked(shape: tuple[int, ...], n: int, layers: nn.ModuleList) -> Callable[[Tensor], Tensor]:
    """Pick one position of an axis, with or without the axis."""
    axis = 1 + n % len(shape)
    at = n % shape[axis - 1]
    if len(shape) > 1 and n % 4 > 1:
        return lambda x: x.select(axis, at - shape[axis - 1] * (n % 2))
    return lambda x: x.narrow(axis, at, 1)


def attended(shape: tuple[int, ...], n: int, layers: nn.ModuleList) -> Callable[[Tensor], Tensor]:
    """Attention of the last axis but one to itself, by a kernel or written out."""
    if len(shape) < 2:
        return same
    layer = nn.Linear(shape[-1], shape[-1])
    layers.append(layer)
    if n % 3:
        return lambda x: F.scaled_dot_product_attention(layer(x), x, x, is_causal=n % 4 == 0)
    return lambda x: x + (layer(x) @ x.mT).softmax(-1) @ x


def written(shape: tuple[int, ...], n: int, layers: nn.ModuleList) -> Callable[[Tensor], Tensor]:
    """Some of a copy is written over, at a step."""
    axis = 1 + n % len(shape)
    index = (slice(None),) * axis + (slice(n % 2, None, 1 + n % 3),)

    def apply(x: Tensor) -> Tensor:
        y = x.clone()
        y[index] = torch.relu(x[index]) - 1
        return y

    return apply


def turned(shape: tuple[int, ...], n: int, layers: nn.ModuleList) -> Callable[[Tensor], Tensor]:
    return same if len(shape) < 2 else lambda x: x.transpose(1, 2 + n % (len(shape) - 1))


def joined(shape: tuple[int, ...], n: int, layers: nn.ModuleList) -> Callable[[Tensor], Tensor]:
    axis = 1 + n % len(shape)
    return same if shape[axis - 1] > 6 else lambda x: torch.cat([x, torch.sigmoid(x)], axis)


def flattened(shape: tuple[int, ...], n: int, layers: nn.ModuleList) -> Callable[[Tensor], Tensor]:
    if len(shape) == 1:
        return (lambda x: x.unsqueeze(2)) if n % 2 else lambda x: x.unsqueeze(1).expand(-1, 3, -1)
    return lambda x: x.flatten(len(shape) - 1 if n % 2 else 1)


def activation(shape: tuple[int, ...], n: int, layers: nn.ModuleList) -> Callable[[Tensor], Tensor]:
    return (torch.relu, F.gelu, torch.tanh, F.hardswish)[n % 4]


def scaled(shape: tuple[int, ...], n: int, layers: nn.ModuleList) -> Callable[[Tensor], Tensor]:
    """An offset, and a factor by which a batch norm may follow."""
    holder = nn.ParameterList([torch.rand(shape[-1]) + 0.5, torch.rand(shape[0], *[1] * (len(shape) - 1))])
    layers.append(holder)
    return lambda x: x * holder[0] + holder[1]


STEPS: tuple[Step, ...] = (linear, linear, norm, norm, twice, tied, layer_norm, convolution, sliced, picked,
                           attended, written, turned, joined, flattened, activation, scaled)  # fmt: skip
DRAWN = st.tuples(
    st.lists(st.integers(3, 5), min_size=1, max_size=3),
    st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 59)), min_size=2, max_size=5),
)
"""Shape of the input without its batch, and the steps."""


class Drawn(nn.Module):
    """A drawn network for inputs of `shape`, with an optional fixed `batch`."""

    def __init__(self, drawn: tuple[list[int], list[tuple[Step, int]]], batch: int | None) -> None:
        super().__init__()
        self.shape, steps = tuple(drawn[0]), drawn[1]
        self.described = f"{self.shape} " + " ".join(f"{step.__name__}:{n}" for step, n in steps)
        self.layers, self.batch, self.applied = nn.ModuleList(), batch, []
        value = torch.zeros(2, *self.shape)
        for step, number in steps:
            apply = step(tuple(value.shape[1:]), number, self.layers)
            self.layers.eval()
            value = apply(value)
            self.applied.append(apply)

    def forward(self, x: Tensor) -> Tensor:
        for apply in self.applied:
            x = apply(x)
        return x if self.batch is None else x.reshape(self.batch, *x.shape[1:])


class Several(nn.Module):
    """Networks side by side, an input and an output each: one export costs as much as one of them alone."""

    def __init__(self, networks: list[Drawn]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(one(x) for one, x in zip(self.networks, inputs, strict=True))
