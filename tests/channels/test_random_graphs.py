"""Random networks: whatever patterns are strung together, the laws hold in float64.

Each block is drawn with its sizes; widths are kept multiples of 4, so that groups, heads and shuffles fit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from measures import macs_by_torch
from torch import Tensor, nn

from prunec.api import prepared
from prunec.channels.spaces import Channels
from prunec.cost import macs
from prunec.frontend.capture import capture
from prunec.ir.drift import in_float64
from prunec.surgery import slicing
from prunec.surgery.identity import prove, random_plan
from prunec.surgery.plan import Plan


class Block(nn.Module):
    """Layers by name and a forward function over them."""

    def __init__(self, forward: Callable[[Any, Tensor], Tensor], **layers: nn.Module) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)
        self._forward = forward

    def forward(self, x: Tensor) -> Tensor:
        return self._forward(self, x)


def conv(i: int, o: int, k: int = 3, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(i, o, k, 1, k // 2, groups=groups)


def plain(c: int, o: int) -> tuple[nn.Module, int]:
    return Block(lambda m, x: F.relu(m.a(x)), a=conv(c, o)), o


def normed(c: int, o: int) -> tuple[nn.Module, int]:
    norm = nn.BatchNorm2d(o)
    norm.running_mean = torch.rand(o)
    return Block(lambda m, x: F.silu(m.n(m.a(x))), a=conv(c, o), n=norm), o


def grouped(c: int, o: int) -> tuple[nn.Module, int]:
    return Block(lambda m, x: F.relu(m.a(x)), a=conv(c, o, groups=2)), o


def depthwise(c: int, o: int) -> tuple[nn.Module, int]:
    return Block(lambda m, x: m.b(F.relu(m.a(x))), a=conv(c, c, groups=c), b=conv(c, o, 1)), o


def residual(c: int, o: int) -> tuple[nn.Module, int]:
    return Block(lambda m, x: F.relu(x + m.b(F.relu(m.a(x)))), a=conv(c, o), b=conv(o, c)), c


def dense(c: int, o: int) -> tuple[nn.Module, int]:
    return Block(lambda m, x: torch.cat([x, F.relu(m.a(x))], 1), a=conv(c, o)), c + o


def gated(c: int, o: int) -> tuple[nn.Module, int]:
    def forward(m: Any, x: Tensor) -> Tensor:
        gate: Tensor = torch.sigmoid(m.b(F.relu(m.a(x.mean((2, 3), keepdim=True)))))
        return x * gate

    return Block(forward, a=conv(c, o, 1), b=conv(o, c, 1)), c


def shuffled(c: int, o: int) -> tuple[nn.Module, int]:
    def forward(m: Any, x: Tensor) -> Tensor:
        y = m.a(x)
        n, _, h, w = y.shape
        out: Tensor = m.b(y.view(n, 2, o // 2, h, w).transpose(1, 2).reshape(n, o, h, w))
        return out

    return Block(forward, a=conv(c, o, 1, 2), b=conv(o, o, 3, o)), o


def halves(c: int, o: int) -> tuple[nn.Module, int]:
    def forward(m: Any, x: Tensor) -> Tensor:
        left, right = x.chunk(2, 1)
        return torch.cat([m.a(right), left], 1)

    return Block(forward, a=conv(c // 2, c // 2)), c


def attention(c: int, o: int) -> tuple[nn.Module, int]:
    def forward(m: Any, x: Tensor) -> Tensor:
        n, _, h, w = x.shape
        y = m.n(x.flatten(2).transpose(1, 2))
        q, k, v = m.qkv(y).reshape(n, h * w, 3, 2, c // 2).permute(2, 0, 3, 1, 4).unbind(0)
        y = y + m.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, h * w, c))
        out: Tensor = y.transpose(1, 2).reshape(n, c, h, w)
        return out

    return Block(forward, n=nn.LayerNorm(c), qkv=nn.Linear(c, 3 * c), proj=nn.Linear(c, c)), c


def group_normed(c: int, o: int) -> tuple[nn.Module, int]:
    return Block(lambda m, x: F.gelu(m.n(m.a(x))), a=conv(c, o), n=nn.GroupNorm(o // 2, o)), o


def folded(c: int, o: int) -> tuple[nn.Module, int]:
    def forward(m: Any, x: Tensor) -> Tensor:
        out: Tensor = F.pixel_shuffle(F.relu(m.a(F.pixel_unshuffle(x, 2))), 2)
        return out

    return Block(forward, a=conv(4 * c, 4 * o, 1)), o


BLOCKS = (plain, normed, grouped, depthwise, residual, dense, gated, shuffled, halves, attention, group_normed, folded)
GRAPHS = st.lists(st.tuples(st.sampled_from(BLOCKS), st.sampled_from([4, 8, 12])), min_size=2, max_size=6)


def network(blocks: list[tuple[Callable[[int, int], tuple[nn.Module, int]], int]]) -> nn.Module:
    torch.manual_seed(0)
    layers: list[nn.Module] = [conv(3, 8)]
    width = 8
    for block, size in blocks:
        layer, width = block(width, size)
        layers.append(layer)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 5)).eval()


@settings(
    max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), phases=[Phase.generate]
)
@given(GRAPHS, st.integers(0, 100))
def test_the_laws_hold_on_random_graphs(blocks: Any, seed: int) -> None:
    program = prepared(capture(network(blocks), (torch.randn(2, 3, 8, 8),)))
    channels = program.fact(Channels)
    assert channels.prunable, "something can always go"
    assert prove(program, channels, seed) < 1e-12
    plan, x = random_plan(channels, seed, 0.6), torch.randn(3, 3, 8, 8)
    narrow = slicing.apply(program.module, plan)
    assert narrow(x).shape == (3, 5)
    assert macs.Macs.of(channels).total(macs.counts_of(channels, plan.keep)) == macs_by_torch(narrow, x)


@settings(
    max_examples=10, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), phases=[Phase.generate]
)
@given(GRAPHS)
def test_keeping_everything_is_the_identity(blocks: Any) -> None:
    program = prepared(capture(network(blocks), (torch.randn(2, 3, 8, 8),)))
    channels, module, x = program.fact(Channels), in_float64(program.module), torch.randn(2, 3, 8, 8).double()
    whole = Plan(channels, {space.name: tuple(range(space.size)) for space in channels.prunable})
    assert torch.equal(slicing.apply(module, whole)(x), module(x))
