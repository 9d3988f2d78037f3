"""Small networks, one graph pattern each, for the laws that every network must obey."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import micro_tokens
import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Net(nn.Module):
    """Layers by name and a forward function over them."""

    def __init__(self, forward: Callable[[Any, Tensor], Any], **layers: nn.Module) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)
        self._forward = forward
        generator = torch.Generator().manual_seed(0)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                for tensor in (module.weight.data, module.bias.data, *module.buffers()):
                    if tensor.is_floating_point():
                        tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self._forward(self, x)
        return out


def conv(i: int, o: int, k: int = 3, groups: int = 1, stride: int = 1, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(i, o, k, stride, k // 2, groups=groups, bias=bias)


def head(i: int) -> nn.Linear:
    return nn.Linear(i, 5)


def three(*widths: int) -> nn.Sequential:
    """Three convolutions of so many channels on images of 3x12x12, and three classes."""
    torch.manual_seed(0)
    a, b, c = widths
    last = nn.Linear(c * 144, 3)
    return nn.Sequential(conv(3, a), nn.ReLU(), conv(a, b), nn.ReLU(), conv(b, c), nn.ReLU(), nn.Flatten(), last).eval()


def pooled(x: Tensor) -> Tensor:
    return x.mean((2, 3))


def shuffle(x: Tensor, groups: int) -> Tensor:
    n, c, h, w = x.shape
    return x.view(n, groups, c // groups, h, w).transpose(1, 2).reshape(n, c, h, w)


def plain(m: Any, x: Tensor) -> Any:
    return m.fc(pooled(F.relu(m.b(F.relu(m.a(x))))))


def batch_norm_after(m: Any, x: Tensor) -> Any:
    return m.fc(pooled(F.relu(m.bn(m.b(F.relu(m.an(m.a(x))))))))


def batch_norm_before(m: Any, x: Tensor) -> Any:
    y = m.a(x)
    return m.fc(pooled(m.b(F.relu(m.bn(y))) + y))


def residual(m: Any, x: Tensor) -> Any:
    y = F.relu(m.a(x))
    return m.fc(pooled(y + m.c(F.relu(m.b(y)))))


def concatenation(m: Any, x: Tensor) -> Any:
    y = torch.cat([F.relu(m.a(x)), F.relu(m.b(x))], 1)
    return m.fc(pooled(m.c(y)))


def dense_block(m: Any, x: Tensor) -> Any:
    y = F.relu(m.a(x))
    z = F.relu(m.b(y))
    w = F.relu(m.c(torch.cat([y, z], 1)))
    return m.fc(pooled(torch.cat([y, z, w], 1)))


def chunks(m: Any, x: Tensor) -> Any:
    a, b = F.relu(m.a(x)).chunk(2, 1)
    return m.fc(pooled(m.b(torch.cat([a, F.relu(m.c(b))], 1))))


def splits(m: Any, x: Tensor) -> Any:
    a, b, c = F.relu(m.a(x)).split([2, 4, 6], 1)
    return m.fc(pooled(torch.cat([m.b(a), b, m.c(c)], 1)))


def slices(m: Any, x: Tensor) -> Any:
    y = F.relu(m.a(x))
    return m.fc(pooled(m.b(y[:, :8]) + m.c(y[:, 8:])))


def flat(m: Any, x: Tensor) -> Any:
    y = F.adaptive_avg_pool2d(F.relu(m.a(x)), (3, 2))
    return m.fc(F.relu(m.hidden(torch.flatten(y, 1))))


def view_flat(m: Any, x: Tensor) -> Any:
    y = F.adaptive_avg_pool2d(F.relu(m.a(x)), 2)
    return m.fc(F.relu(m.hidden(y.view(-1, 48))))


def depthwise(m: Any, x: Tensor) -> Any:
    return m.fc(pooled(m.c(F.relu6(m.b(F.relu(m.a(x)))))))


def gate(m: Any, x: Tensor) -> Any:
    y = F.relu(m.a(x))
    s = torch.sigmoid(m.up(F.relu(m.down(F.adaptive_avg_pool2d(y, 1)))))
    return m.fc(pooled(y * s))


def broadcast_add(m: Any, x: Tensor) -> Any:
    y = F.relu(m.a(x))
    s = m.down(F.adaptive_avg_pool2d(y, 1))
    return m.fc(pooled(F.relu(m.b(y) + s)))


def prelu(m: Any, x: Tensor) -> Any:
    return m.fc(pooled(m.act(m.b(m.act0(m.a(x))))))


def channel_shuffle(m: Any, x: Tensor) -> Any:
    return m.fc(pooled(m.c(shuffle(F.relu(m.b(F.relu(m.a(x)))), 3))))


def option_a(m: Any, x: Tensor) -> Any:
    y = F.relu(m.a(x))
    shortcut = F.pad(y[:, :, ::2, ::2], (0, 0, 0, 0, 4, 4))
    return m.fc(pooled(F.relu(m.c(F.relu(m.b(y))) + shortcut)))


def spatial_pad(m: Any, x: Tensor) -> Any:
    y = F.max_pool2d(F.pad(F.relu(m.a(x)), (1, 1, 1, 1)), 3, 2)
    return m.fc(pooled(m.b(y)))


def spatial_gate(m: Any, x: Tensor) -> Any:
    y = F.relu(m.a(x))
    return m.fc(pooled(m.b(y * torch.sigmoid(m.c(y)))))


def tokens(m: Any, x: Tensor) -> Any:
    y = m.a(x).flatten(2).permute(0, 2, 1)
    return m.fc((y + m.fc2(F.gelu(m.fc1(y)))).mean(1))


def layer_scale(m: Any, x: Tensor) -> Any:
    y = F.relu(m.a(x))
    return m.fc(pooled(y + m.scale.weight.view(1, -1, 1, 1) * m.b(y)))


def upsampled(m: Any, x: Tensor) -> Any:
    y = F.interpolate(F.relu(m.b(F.max_pool2d(m.a(x), 2))), scale_factor=2, mode="nearest")
    return m.fc(pooled(m.c(y)))


def mean_over_channels(m: Any, x: Tensor) -> Any:
    y = F.relu(m.a(x))
    return m.fc(pooled(m.b(y) * y.mean(1, keepdim=True)))


def softmax_over_channels(m: Any, x: Tensor) -> Any:
    return m.fc(pooled(m.b(F.softmax(m.a(x), 1))))


def shared_layer(m: Any, x: Tensor) -> Any:
    y = F.relu(m.a(x))
    return m.fc(pooled(m.b(F.relu(m.b(y)))))


def image_added(m: Any, x: Tensor) -> Any:
    return m.fc(pooled(m.b(F.relu(m.a(x))) + x))


def outer_product(m: Any, x: Tensor) -> Any:
    y = pooled(m.a(x))
    return m.fc((y[:, :, None] * y[:, None, :]).flatten(1))


class Scale(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(0.1, 1.0, channels))


def networks() -> dict[str, Net]:
    """Every micro-network by its pattern's name; inputs are [N, 3, 12, 12]."""
    torch.manual_seed(0)
    bn = nn.BatchNorm2d
    nets = {
        "same_padding": Net(
            plain,
            a=nn.Conv2d(3, 12, 4, padding="same"),
            b=nn.Conv2d(12, 10, (2, 3), padding="same", dilation=2),
            fc=head(10),
        ),
        "plain": Net(plain, a=conv(3, 12), b=conv(12, 10), fc=head(10)),
        "batch_norm_after": Net(
            batch_norm_after, a=conv(3, 12, bias=False), an=bn(12), b=conv(12, 10), bn=bn(10), fc=head(10)
        ),
        "batch_norm_before": Net(batch_norm_before, a=conv(3, 12), bn=bn(12), b=conv(12, 12), fc=head(12)),
        "residual": Net(residual, a=conv(3, 12), b=conv(12, 8), c=conv(8, 12), fc=head(12)),
        "concatenation": Net(concatenation, a=conv(3, 8), b=conv(3, 6, 1), c=conv(14, 9), fc=head(9)),
        "dense_block": Net(dense_block, a=conv(3, 8), b=conv(8, 4), c=conv(12, 4), fc=head(16)),
        "chunks": Net(chunks, a=conv(3, 12), b=conv(14, 6), c=conv(6, 8), fc=head(6)),
        "splits": Net(splits, a=conv(3, 12), b=conv(2, 4), c=conv(6, 4), fc=head(12)),
        "slices": Net(slices, a=conv(3, 12), b=conv(8, 6), c=conv(4, 6), fc=head(6)),
        "flat": Net(flat, a=conv(3, 8), hidden=nn.Linear(48, 10), fc=head(10)),
        "view_flat": Net(view_flat, a=conv(3, 12), hidden=nn.Linear(48, 10), fc=head(10)),
        "depthwise": Net(depthwise, a=conv(3, 12), b=conv(12, 24, groups=12), c=conv(24, 8, 1), fc=head(8)),
        "grouped": Net(depthwise, a=conv(3, 12), b=conv(12, 18, groups=3), c=conv(18, 8, 1), fc=head(8)),
        "many_groups": Net(depthwise, a=conv(3, 16), b=conv(16, 16, groups=8), c=conv(16, 8, 1), fc=head(8)),
        "gate": Net(gate, a=conv(3, 12), down=conv(12, 4, 1), up=conv(4, 12, 1), fc=head(12)),
        "broadcast_add": Net(broadcast_add, a=conv(3, 12), down=conv(12, 8, 1), b=conv(12, 8), fc=head(8)),
        "prelu": Net(prelu, a=conv(3, 12), act0=nn.PReLU(12), b=conv(12, 10), act=nn.PReLU(), fc=head(10)),
        "channel_shuffle": Net(
            channel_shuffle, a=conv(3, 12), b=conv(12, 12, groups=3), c=conv(12, 6, groups=3), fc=head(6)
        ),
        "option_a": Net(option_a, a=conv(3, 8), b=conv(8, 12, stride=2), c=conv(12, 16), fc=head(16)),
        "spatial_pad": Net(spatial_pad, a=conv(3, 8), b=conv(8, 6), fc=head(6)),
        "spatial_gate": Net(spatial_gate, a=conv(3, 8), b=conv(8, 6), c=conv(8, 1), fc=head(6)),
        "tokens": Net(tokens, a=conv(3, 16, 4, stride=4), fc1=nn.Linear(16, 32), fc2=nn.Linear(32, 16), fc=head(16)),
        "layer_scale": Net(layer_scale, a=conv(3, 8), b=conv(8, 8), scale=Scale(8), fc=head(8)),
        "upsampled": Net(upsampled, a=conv(3, 8), b=conv(8, 6), c=conv(6, 6), fc=head(6)),
        "mean_over_channels": Net(mean_over_channels, a=conv(3, 8), b=conv(8, 6), fc=head(6)),
        "softmax_over_channels": Net(softmax_over_channels, a=conv(3, 8), b=conv(8, 6), fc=head(6)),
        "shared_layer": Net(shared_layer, a=conv(3, 8), b=conv(8, 8), fc=head(8)),
        "image_added": Net(image_added, a=conv(3, 8), b=conv(8, 3), fc=head(3)),
        "outer_product": Net(outer_product, a=conv(3, 4), fc=nn.Linear(16, 5)),
    }
    nets.update(micro_tokens.networks(Net))
    return {name: net.eval() for name, net in nets.items()}


FROZEN = {  # the space that must not be pruned, and a word of the reason
    "single_head": ("q", "no layer with a weight reads"),
    "sampled": ("where", "where to sample"),
    "image_added": ("b", "fixed"),
    "outer_product": ("a", "outer product"),
}
