"""Sample rows of a contraction: its inputs x and their output positions.

Positions are drawn before the inputs are gathered, so no feature map is unfolded in full.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from ..channels.rules.contraction import argument
from ..channels.spaces import Contraction
from ..ir import graph

SHARED = 0.5  # of the draws: as many as leave the number of different rows large


@dataclass(frozen=True)
class Positions:
    """Output positions drawn for one batch: `sample` and one index per spatial axis, int64 [R]."""

    sample: Tensor
    place: tuple[Tensor, ...]

    def __len__(self) -> int:
        return len(self.sample)

    def of(self, value: Tensor, channel_axis: int) -> Tensor:
        """Return the rows [R, C] of a value at these positions."""
        return value.movedim(channel_axis, -1)[(self.sample, *self.place)]


class Draws:
    """Positions of one layer for all samples, independent of the batch size.

    With a `share` of each position, float64 [positions], a part `SHARED` of the draws follows it; the rest are even.
    """

    def __init__(self, samples: int, each: int, name: str, seed: int, share: Tensor | None = None) -> None:
        self.samples, self.each, self.share = samples, each, share  # positions wanted of each sample
        self._seed = zlib.crc32(f"{seed}|{name}".encode())
        self._drawn: tuple[Tensor, Tensor | None] | None = None

    def of(self, shape: torch.Size, batch: slice) -> Positions:
        """Return the positions of samples `batch` in an output [N, *spatial].

        All are returned if there are no more. N is a multiple of the batch if a network cuts its images into windows,
        those of a sample in a row.
        """
        size, space = batch.stop - batch.start, math.prod(shape[1:])
        if shape[0] % size:  # no sample has entries of its own: each batch by itself
            return Draws(1, self.each * size, str(batch.start), self._seed).of(shape, slice(0, 1))
        entries = shape[0] // size
        if self._drawn is None:
            self._drawn = self._draw(entries, space)
        entry, flat = self._drawn
        sample = (torch.arange(size)[:, None] * entries + entry[batch]).flatten()
        each = min(-(-self.each // entries), space)
        if flat is None:
            sample, places = sample.repeat_interleave(space), torch.arange(space).repeat(len(sample))
        else:
            sample, places = sample.repeat_interleave(each), flat[batch].flatten()
        return Positions(sample, torch.unravel_index(places, shape[1:]) if len(shape) > 1 else ())

    def _draw(self, entries: int, space: int) -> tuple[Tensor, Tensor | None]:
        """Draw entries, int64 [samples, e], and positions in them, [samples, e · each].

        None stands for all positions.
        """
        generator = torch.Generator().manual_seed(self._seed)
        if self.each < entries:
            order = torch.rand(self.samples, entries, generator=generator).argsort(1)
            entry = order[:, : self.each].sort(1).values
        else:
            entry = torch.arange(entries).expand(self.samples, -1)
        each = min(-(-self.each // entries), space)
        if self.share is not None and entries == 1 and len(self.share) == space:
            chances = (1 - SHARED) / space + SHARED * self.share
            drawn = torch.multinomial(chances, self.samples * each, replacement=True, generator=generator)
            return entry, drawn.reshape(self.samples, each)
        if each == space:
            return entry, None
        return entry, torch.randint(space, (self.samples, entry.shape[1] * each), generator=generator)


@dataclass(frozen=True)
class Layer:
    """Groups, kernel and other arguments of a convolution or linear node, for sampling."""

    groups: int
    taps: int
    convolution: bool
    kernel: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    padding: tuple[tuple[int, int], ...] = ()  # before and after, each spatial axis
    dilation: tuple[int, ...] = ()
    stuffing: tuple[int, ...] = ()  # zeros between the inputs of a transposed convolution, plus one, each axis

    @staticmethod
    def of(module: fx.GraphModule, node: fx.Node, one: Contraction, groups: int) -> Layer:
        """Read the arguments of a node of `module` with `groups` groups left."""
        kernel = tuple(graph.attribute(module, one.weight).shape[2:])
        if not kernel:
            return Layer(groups, one.taps, convolution=False)
        rank = len(kernel)
        stride, dilation = (_spread(argument(node, name), rank) for name in ("stride", "dilation"))
        padding = argument(node, "padding")
        if one.transposed:  # a convolution with the mirrored kernel over the inputs with zeros between them
            reach = [d * (k - 1) - p for d, k, p in zip(dilation, kernel, _spread(padding, rank), strict=True)]
            ends = _spread(argument(node, "output_padding"), rank)
            sides = tuple((side, side + end) for side, end in zip(reach, ends, strict=True))
            return Layer(groups, one.taps, True, kernel, (1,) * rank, sides, dilation, stride)
        if isinstance(padding, str):
            whole = [d * (k - 1) if padding == "same" else 0 for d, k in zip(dilation, kernel, strict=True)]
            sides = tuple((total // 2, total - total // 2) for total in whole)
        else:
            sides = tuple((one, one) for one in _spread(padding, rank))
        return Layer(groups, one.taps, True, kernel, stride, sides, dilation)

    @property
    def channel_axis(self) -> int:
        """Return the channel axis of the input and of the output."""
        return 1 if self.convolution else -1

    def space(self, output: Tensor) -> torch.Size:
        """Return the size [N, *spatial] of an output."""
        return torch.Size([*output.shape[:1], *output.shape[2:]]) if self.convolution else output.shape[:-1]

    def rows(self, x: Tensor, at: Positions) -> Tensor:
        """Return the inputs [R, g, C/g · taps] of the outputs at `at`.

        Columns are ordered as the weight [O, C/g, *kernel].
        """
        if not self.convolution:
            return at.of(x, -1)[:, None]
        if self.taps == 1 and not self._padded and not self.stuffing:
            strided = tuple(place * step for place, step in zip(at.place, self.stride, strict=True))
            rows = Positions(at.sample, strided).of(x, 1)
        else:
            rows = self._windows(self._stuffed(x))[(at.sample, *at.place)]
            rows = rows.flip(tuple(range(2, rows.dim()))) if self.stuffing else rows
        return rows.reshape(len(at), self.groups, -1)

    def _stuffed(self, x: Tensor) -> Tensor:
        """Return the input of a transposed convolution, with zeros inserted."""
        if not self.stuffing:
            return x
        sizes = [(size - 1) * step + 1 for size, step in zip(x.shape[2:], self.stuffing, strict=True)]
        wide = x.new_zeros(*x.shape[:2], *sizes)
        wide[(slice(None), slice(None), *[slice(None, None, step) for step in self.stuffing])] = x
        return wide

    @property
    def _padded(self) -> bool:
        return any(map(any, self.padding))

    def _windows(self, x: Tensor) -> Tensor:
        """Return a view [N, *out, C, *kernel] of the padded input, without a copy."""
        if self._padded:
            x = F.pad(x, [side for sides in reversed(self.padding) for side in sides])
        sizes = [
            (size - d * (k - 1) - 1) // s + 1
            for size, k, s, d in zip(x.shape[2:], self.kernel, self.stride, self.dilation, strict=True)
        ]
        outer = [step * s for step, s in zip(x.stride()[2:], self.stride, strict=True)]
        inner = [step * d for step, d in zip(x.stride()[2:], self.dilation, strict=True)]
        return x.as_strided([len(x), *sizes, x.shape[1], *self.kernel], [x.stride(0), *outer, x.stride(1), *inner])


def _spread(value: Any, rank: int) -> tuple[int, ...]:
    values = [value] if isinstance(value, int) else list(value)
    return tuple(values * rank if len(values) == 1 else values)
