"""Small networks of norms, attention and data movement, one graph pattern each; see micro.py."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Table(nn.Module):
    """A bare parameter, and a constant beside it."""

    def __init__(self, *shape: int, constant: Tensor | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(*shape, generator=torch.Generator().manual_seed(1)))
        self.register_buffer("constant", constant)


class Standardised(nn.Conv2d):
    """A convolution with weight standardisation."""

    def forward(self, x: Tensor) -> Tensor:
        weight = F.batch_norm(self.weight.reshape(1, self.out_channels, -1), None, None, training=True, eps=1e-5)
        out: Tensor = self._conv_forward(x, weight.reshape_as(self.weight), self.bias)
        return out


def pooled(x: Tensor) -> Tensor:
    return x.mean((2, 3))


def patches(m: Any, x: Tensor) -> Tensor:
    out: Tensor = m.a(x).flatten(2).transpose(1, 2)  # [N, 9, 16]
    return out


def heads(x: Tensor, count: int) -> Tensor:
    out: Tensor = x.unflatten(-1, (count, -1)).transpose(1, 2)
    return out


def merged(x: Tensor) -> Tensor:
    return x.transpose(1, 2).flatten(2)


def layer_norm(m: Any, x: Tensor) -> Any:
    y = patches(m, x)
    y = y + m.fc2(F.gelu(m.fc1(m.norm(y))))
    return m.fc(m.norm2(y).mean(1))


def norm_2d(m: Any, x: Tensor) -> Any:
    y = m.norm(F.relu(m.a(x)))
    return m.fc(pooled(F.relu(m.b(y))))


def layer_norm_2d(m: Any, x: Tensor) -> Any:
    y = m.norm(m.a(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    return m.fc(pooled(F.relu(m.b(y))))


def response_norm(m: Any, x: Tensor) -> Any:
    y = F.gelu(m.a(x))
    g = torch.linalg.vector_norm(y, dim=(2, 3), keepdim=True)
    y = y + m.scale.weight.view(1, -1, 1, 1) * (y * (g / (g.mean(1, keepdim=True) + 1e-6)))
    return m.fc(pooled(m.b(y)))


def fused_attention(m: Any, x: Tensor) -> Any:
    y = patches(m, x)
    q, k, v = m.qkv(y).reshape(y.shape[0], 9, 3, 4, -1).permute(2, 0, 3, 1, 4).unbind(0)
    return m.fc((y + m.proj(merged(F.scaled_dot_product_attention(q, k, v)))).mean(1))


def written_attention(m: Any, x: Tensor) -> Any:
    y = patches(m, x)
    q, k, v = (heads(one, 4) for one in m.qkv(y).chunk(3, -1))
    weights = ((q * 0.5) @ k.transpose(-2, -1) + m.bias.weight[m.bias.constant].permute(2, 0, 1)).softmax(-1)
    return m.fc((y + m.proj(merged(weights @ v))).mean(1))


def einsum_attention(m: Any, x: Tensor) -> Any:
    y = patches(m, x)
    q, k, v = (heads(layer(y), 4) for layer in (m.q, m.k, m.v))
    weights = torch.einsum("bhtd,bhsd->bhts", q, k).softmax(-1)
    return m.fc(m.proj(merged(torch.einsum("bhts,bhsd->bhtd", weights, v))).mean(1))


def single_head(m: Any, x: Tensor) -> Any:
    y = patches(m, x)
    z = F.scaled_dot_product_attention(m.q(y), m.k(y), m.v(y))
    return m.fc((y + m.proj(z)).mean(1))


def multihead_module(m: Any, x: Tensor) -> Any:
    y = patches(m, x)
    return m.fc((y + m.attention(y, y, y, need_weights=False)[0]).mean(1))


def cross_covariance(m: Any, x: Tensor) -> Any:
    y = patches(m, x)
    q, k, v = m.qkv(y).reshape(y.shape[0], 9, 3, 4, -1).permute(2, 0, 3, 4, 1).unbind(0)
    weights = (F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1)) * m.scale.weight
    return m.fc((y + m.proj((weights.softmax(-1) @ v).permute(0, 3, 1, 2).flatten(2))).mean(1))


def talking_heads(m: Any, x: Tensor) -> Any:
    y = patches(m, x)
    q, k, v = (heads(layer(y), 4) for layer in (m.q, m.k, m.v))
    weights = m.talk((q @ k.transpose(-2, -1)).permute(0, 2, 3, 1)).permute(0, 3, 1, 2).softmax(-1)
    return m.fc((y + m.proj(merged(weights @ v))).mean(1))


def class_token(m: Any, x: Tensor) -> Any:
    y = patches(m, x)
    y = torch.cat([m.token.weight.expand(y.shape[0], -1, -1), y], 1) + m.position.weight
    return m.fc((y + m.fc2(F.gelu(m.fc1(y))))[:, 0])


def windows(m: Any, x: Tensor) -> Any:
    y = m.a(x).permute(0, 2, 3, 1)
    y = torch.roll(y, (-1, -1), (1, 2))
    w = y.reshape(x.shape[0], 2, 3, 2, 3, 16).permute(0, 1, 3, 2, 4, 5).reshape(-1, 9, 16)
    q, k, v = m.qkv(w).reshape(-1, 9, 3, 2, 8).permute(2, 0, 3, 1, 4)
    w = m.proj(merged(F.scaled_dot_product_attention(q, k, v)))
    z = w.reshape(x.shape[0], 2, 2, 3, 3, 16).permute(0, 1, 3, 2, 4, 5).reshape(x.shape[0], 6, 6, 16)
    return m.fc((y + torch.roll(z, (1, 1), (1, 2))).mean((1, 2)))


def patch_merging(m: Any, x: Tensor) -> Any:
    y = m.a(x).permute(0, 2, 3, 1)
    y = torch.cat([y[:, i::2, j::2] for i in (0, 1) for j in (0, 1)], -1)
    return m.fc(F.gelu(m.reduction(m.norm(y))).mean((1, 2)))


def pixel_shuffle(m: Any, x: Tensor) -> Any:
    return m.fc(pooled(m.b(F.relu(F.pixel_shuffle(m.a(x), 2)))))


def pixel_unshuffle(m: Any, x: Tensor) -> Any:
    return m.fc(pooled(m.b(F.relu(F.pixel_unshuffle(m.a(x), 2)))))


def stacked(m: Any, x: Tensor) -> Any:
    y = F.relu(m.a(x))
    branches = torch.stack([F.relu(m.b(y)), F.relu(m.c(y))], 1)  # selective kernels
    gate = m.up(F.relu(m.down(branches.sum(1).mean((2, 3), keepdim=True))))
    gate = gate.reshape(x.shape[0], 2, 8, 1, 1).softmax(1)
    return m.fc(pooled((branches * gate).sum(1)))


def radix(m: Any, x: Tensor) -> Any:
    y = F.relu(m.b(F.relu(m.a(x)))).reshape(x.shape[0], 2, 8, 12, 12)
    gate = m.up(F.relu(m.down(y.sum(1).mean((2, 3), keepdim=True))))
    gate = gate.view(x.shape[0], 1, 2, 8).transpose(1, 2).softmax(1).reshape(x.shape[0], 2, 8, 1, 1)
    return m.fc(pooled((y * gate).sum(1)))


def spatial_attention(m: Any, x: Tensor) -> Any:
    y = F.relu(m.a(x))
    seen = torch.cat([y.mean(1, keepdim=True), y.amax(1, keepdim=True)], 1)
    return m.fc(pooled(m.b(y * torch.sigmoid(m.c(seen)))))


def channel_gate(m: Any, x: Tensor) -> Any:
    y = F.relu(m.a(x))
    s = torch.sigmoid(m.eca(y.mean((2, 3)).unsqueeze(1)))
    return m.fc(pooled(m.b(y * s.transpose(1, 2).unsqueeze(-1))))


def gated_linear(m: Any, x: Tensor) -> Any:
    value, gate = m.a(x).chunk(2, 1)
    return m.fc(pooled(m.b(value * torch.sigmoid(gate))))


def norm_of_tokens(m: Any, x: Tensor) -> Any:
    """As LeViT's: the norm sees all tokens in one batch, and its result is given their shape."""
    y = m.b(F.relu(m.a(x)).flatten(2).transpose(1, 2))
    return m.fc(F.relu(m.norm(y.flatten(0, 1)).reshape_as(y)).mean(1))


def rolled_channels(m: Any, x: Tensor) -> Any:
    y = F.relu(m.a(x))
    return m.fc(pooled(m.b(y + torch.roll(y, 3, 1))))


def permuted_channels(m: Any, x: Tensor) -> Any:
    y = F.relu(m.a(x))
    return m.fc(pooled(m.b(y[:, m.order.constant]) + m.b(y.index_select(1, m.order.constant))))


def strided_channels(m: Any, x: Tensor) -> Any:
    y = F.relu(m.a(x))
    return m.fc(pooled(m.b(y[:, ::2]) + m.c(y[:, 1::2].flip(1))))


def repeated_channels(m: Any, x: Tensor) -> Any:
    y = F.relu(m.a(x))
    return m.fc(pooled(m.b(y.repeat(1, 2, 1, 1)) + m.c(y.repeat_interleave(2, 1))))


def transposed(m: Any, x: Tensor) -> Any:
    return m.fc(pooled(m.c(F.relu(m.b(F.relu(m.a(x)))))))


def unfolded(m: Any, x: Tensor) -> Any:
    y = F.unfold(F.relu(m.a(x)), 2, stride=2)
    y = F.fold(y * m.b(y.transpose(1, 2)).transpose(1, 2), (12, 12), 2, stride=2)
    return m.fc(pooled(m.c(y)))


def sampled(m: Any, x: Tensor) -> Any:
    y = F.relu(m.a(x))
    where = torch.tanh(m.where(y)).permute(0, 2, 3, 1)
    return m.fc(pooled(m.b(F.grid_sample(y, where, align_corners=False))))


def parameter_product(m: Any, x: Tensor) -> Any:
    return m.fc(F.relu(pooled(m.a(x)) @ m.table.weight))


def mixer(m: Any, x: Tensor) -> Any:
    y = patches(m, x)
    y = y + m.tokens2(F.gelu(m.tokens1(y.transpose(1, 2)))).transpose(1, 2)
    return m.fc((y + m.fc2(F.gelu(m.fc1(y)))).mean(1))


def volume(m: Any, x: Tensor) -> Any:
    y = F.max_pool3d(F.relu(m.a(x.unsqueeze(2).repeat(1, 1, 4, 1, 1))), 2)
    return m.fc(m.b(y).mean((2, 3, 4)))


def sequence(m: Any, x: Tensor) -> Any:
    return m.fc(m.b(F.avg_pool1d(F.relu(m.a(x.flatten(2))), 2)).mean(2))


def patched(m: Any, x: Tensor) -> Any:
    y = F.relu(m.a(x)).clone()
    y[:, :4] = F.relu(m.b(y[:, :4]))  # partial convolution, written in place
    return m.fc(pooled(m.c(y)))


def mlp() -> dict[str, nn.Module]:
    return {"fc1": nn.Linear(16, 32), "fc2": nn.Linear(32, 16)}


def qkv() -> dict[str, nn.Module]:
    return {name: nn.Linear(16, 16) for name in ("q", "k", "v", "proj")}


def networks(net: Any) -> dict[str, Any]:
    """Return every micro-network by pattern name; inputs are [N, 3, 12, 12]."""
    conv, fc = nn.Conv2d, nn.Linear
    near = (torch.arange(9)[:, None] - torch.arange(9)[None]) + 8
    order = torch.tensor([3, 1, 4, 0, 5, 9, 2, 6, 8, 7])
    return {
        "layer_norm": net(
            layer_norm, a=conv(3, 16, 4, 4), norm=nn.LayerNorm(16), norm2=nn.LayerNorm(16), **mlp(), fc=fc(16, 5)
        ),
        "rms_norm": net(
            layer_norm, a=conv(3, 16, 4, 4), norm=nn.RMSNorm(16), norm2=nn.RMSNorm(16), **mlp(), fc=fc(16, 5)
        ),
        "layer_norm_2d": net(layer_norm_2d, a=conv(3, 12, 3), norm=nn.LayerNorm(12), b=conv(12, 8, 3), fc=fc(8, 5)),
        "group_norm": net(norm_2d, a=conv(3, 12, 3), norm=nn.GroupNorm(4, 12), b=conv(12, 8, 3), fc=fc(8, 5)),
        "group_norm_of_one": net(norm_2d, a=conv(3, 12, 3), norm=nn.GroupNorm(1, 12), b=conv(12, 8, 3), fc=fc(8, 5)),
        "instance_norm": net(
            norm_2d, a=conv(3, 12, 3), norm=nn.InstanceNorm2d(12, affine=True), b=conv(12, 8, 3), fc=fc(8, 5)
        ),
        "response_norm": net(response_norm, a=conv(3, 12, 3), scale=Table(12), b=conv(12, 8, 3), fc=fc(8, 5)),
        "fused_attention": net(fused_attention, a=conv(3, 16, 4, 4), qkv=fc(16, 48), proj=fc(16, 16), fc=fc(16, 5)),
        "written_attention": net(
            written_attention,
            a=conv(3, 16, 4, 4),
            qkv=fc(16, 48),
            proj=fc(16, 16),
            bias=Table(17, 4, constant=near),
            fc=fc(16, 5),
        ),
        "einsum_attention": net(einsum_attention, a=conv(3, 16, 4, 4), **qkv(), fc=fc(16, 5)),
        "single_head": net(single_head, a=conv(3, 16, 4, 4), **qkv(), fc=fc(16, 5)),
        "multihead_module": net(
            multihead_module,
            a=conv(3, 16, 4, 4),
            attention=nn.MultiheadAttention(16, 4, batch_first=True),
            fc=fc(16, 5),
        ),
        "cross_covariance": net(
            cross_covariance, a=conv(3, 16, 4, 4), qkv=fc(16, 48), proj=fc(16, 16), scale=Table(4, 1, 1), fc=fc(16, 5)
        ),
        "talking_heads": net(talking_heads, a=conv(3, 16, 4, 4), **qkv(), talk=fc(4, 4), fc=fc(16, 5)),
        "class_token": net(
            class_token, a=conv(3, 16, 4, 4), token=Table(1, 1, 16), position=Table(1, 10, 16), **mlp(), fc=fc(16, 5)
        ),
        "windows": net(windows, a=conv(3, 16, 2, 2), qkv=fc(16, 48), proj=fc(16, 16), fc=fc(16, 5)),
        "patch_merging": net(
            patch_merging, a=conv(3, 16, 2, 2), norm=nn.LayerNorm(64), reduction=fc(64, 12), fc=fc(12, 5)
        ),
        "pixel_shuffle": net(pixel_shuffle, a=conv(3, 24, 3), b=conv(6, 8, 3), fc=fc(8, 5)),
        "pixel_unshuffle": net(pixel_unshuffle, a=conv(3, 6, 3), b=conv(24, 8, 3), fc=fc(8, 5)),
        "stacked": net(
            stacked,
            a=conv(3, 12, 3),
            b=conv(12, 8, 3, 1, 1),
            c=conv(12, 8, 1),
            down=conv(8, 4, 1),
            up=conv(4, 16, 1),
            fc=fc(8, 5),
        ),
        "radix": net(
            radix,
            a=conv(3, 12, 1),
            b=conv(12, 16, 3, 1, 1, groups=2),
            down=conv(8, 6, 1),
            up=conv(6, 16, 1),
            fc=fc(8, 5),
        ),
        "spatial_attention": net(
            spatial_attention, a=conv(3, 8, 3), b=conv(8, 6, 3), c=conv(2, 1, 3, 1, 1), fc=fc(6, 5)
        ),
        "channel_gate": net(
            channel_gate, a=conv(3, 8, 3), eca=nn.Conv1d(1, 1, 3, 1, 1, bias=False), b=conv(8, 6, 3), fc=fc(6, 5)
        ),
        "gated_linear": net(gated_linear, a=conv(3, 16, 3), b=conv(8, 6, 3), fc=fc(6, 5)),
        "norm_of_tokens": net(norm_of_tokens, a=conv(3, 8, 3), b=fc(8, 10), norm=nn.BatchNorm1d(10), fc=fc(10, 5)),
        "rolled_channels": net(rolled_channels, a=conv(3, 12, 3), b=conv(12, 6, 3), fc=fc(6, 5)),
        "permuted_channels": net(
            permuted_channels, a=conv(3, 10, 3), b=conv(10, 6, 3), order=Table(1, constant=order), fc=fc(6, 5)
        ),
        "strided_channels": net(strided_channels, a=conv(3, 12, 3), b=conv(6, 8, 3), c=conv(6, 8, 3), fc=fc(8, 5)),
        "repeated_channels": net(repeated_channels, a=conv(3, 8, 3), b=conv(16, 8, 3), c=conv(16, 8, 3), fc=fc(8, 5)),
        "transposed": net(
            transposed, a=conv(3, 12, 3, 2, 1), b=nn.ConvTranspose2d(12, 10, 4, 2, 1), c=conv(10, 8, 3), fc=fc(8, 5)
        ),
        "transposed_groups": net(
            transposed,
            a=conv(3, 12, 3, 2, 1),
            b=nn.ConvTranspose2d(12, 10, 2, 2, groups=2),
            c=conv(10, 8, 3),
            fc=fc(8, 5),
        ),
        "transposed_depthwise": net(
            transposed,
            a=conv(3, 12, 3, 2, 1),
            b=nn.ConvTranspose2d(12, 12, 2, 2, groups=12),
            c=conv(12, 8, 3),
            fc=fc(8, 5),
        ),
        "unfolded": net(unfolded, a=conv(3, 6, 3, 1, 1), b=fc(24, 24), c=conv(6, 8, 3), fc=fc(8, 5)),
        "sampled": net(sampled, a=conv(3, 8, 3), where=conv(8, 2, 1), b=conv(8, 6, 3), fc=fc(6, 5)),
        "parameter_product": net(parameter_product, a=conv(3, 8, 3), table=Table(8, 12), fc=fc(12, 5)),
        "mixer": net(mixer, a=conv(3, 16, 4, 4), tokens1=fc(9, 12), tokens2=fc(12, 9), **mlp(), fc=fc(16, 5)),
        "volume": net(volume, a=nn.Conv3d(3, 8, 3, padding=1), b=nn.Conv3d(8, 6, 2), fc=fc(6, 5)),
        "sequence": net(sequence, a=nn.Conv1d(3, 8, 3), b=nn.Conv1d(8, 6, 3), fc=fc(6, 5)),
        "patched": net(patched, a=conv(3, 12, 3), b=conv(4, 4, 3, 1, 1), c=conv(12, 8, 3), fc=fc(8, 5)),
        "standardised": net(
            transposed, a=Standardised(3, 12, 3), b=Standardised(12, 10, 3), c=conv(10, 8, 3), fc=fc(8, 5)
        ),
    }
