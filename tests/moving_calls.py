"""Draw random legal calls of operators with sizes, indices, steps or dims."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

aten: Any = torch.ops.aten
Call = tuple[Any, tuple[Any, ...]]  # an operator and what follows its first argument; a Tensor becomes a constant
Maker = Callable[[random.Random, tuple[int, ...]], Call]


def signed(r: random.Random, shape: tuple[int, ...]) -> int:
    """A dimension, counted from either end, more often than not that of the channels."""
    dim = 1 if r.random() < 0.6 and len(shape) > 1 else r.randrange(len(shape))
    return dim - len(shape) if r.random() < 0.3 else dim


def some(r: random.Random, size: int, count: int) -> Tensor:
    return torch.tensor([r.randrange(-size, size) for _ in range(count)])


def divisor(r: random.Random, size: int) -> int:
    return r.choice([one for one in range(1, size + 1) if size % one == 0])


def cut(r: random.Random, size: int) -> tuple[Any, Any, int]:
    """start, end and step of a slice that is not empty."""
    start, step = r.randrange(size), r.choice([1, 1, 2, 3])
    end = r.randrange(start + 1, size + 1)
    return r.choice([start, start - size, start]), r.choice([end, 2**63 - 1]), step


def parts(r: random.Random, size: int) -> list[int]:
    found = []
    while size:  # ends: each round takes one or more away
        found.append(r.randint(1, size))
        size -= found[-1]
    return found


def viewed(r: random.Random, s: tuple[int, ...]) -> Call:
    sizes = list(s)
    dim = r.randrange(1, len(s))
    if r.random() < 0.5 and dim + 1 < len(s):
        sizes[dim : dim + 2] = [sizes[dim] * sizes[dim + 1]]
    else:
        first = divisor(r, sizes[dim])
        sizes[dim : dim + 1] = [first, sizes[dim] // first]
    if r.random() < 0.4:
        sizes[r.randrange(len(sizes))] = -1
    return r.choice([aten.view.default, aten.reshape.default]), (sizes,)


def unflattened(r: random.Random, s: tuple[int, ...]) -> Call:
    dim = signed(r, s)
    first = divisor(r, s[dim])
    return aten.unflatten.int, (dim, r.choice([[first, s[dim] // first], [first, -1], [-1, s[dim] // first]]))


def with_dim(operator: Any, *more: Callable[[random.Random, int], Any]) -> Maker:
    """An operator of a dimension and of what follows from its size."""

    def make(r: random.Random, s: tuple[int, ...]) -> Call:
        dim = signed(r, s)
        return operator, (dim, *(one(r, s[dim]) for one in more))

    return make


def before_dim(operator: Any, first: Callable[[random.Random, int], Any]) -> Maker:
    """Draw a call with the dimension last."""

    def make(r: random.Random, s: tuple[int, ...]) -> Call:
        dim = signed(r, s)
        return operator, (first(r, s[dim]), dim)

    return make


def narrowed(r: random.Random, s: tuple[int, ...]) -> Call:
    dim = signed(r, s)
    start = r.randrange(s[dim])
    return aten.narrow.default, (dim, start, r.randint(1, s[dim] - start))


def sliced(r: random.Random, s: tuple[int, ...]) -> Call:
    dim = signed(r, s)
    return aten.slice.Tensor, (dim, *cut(r, s[dim]))


def indexed(r: random.Random, s: tuple[int, ...]) -> Call:
    places: list[Tensor | None] = [None] * len(s)
    for dim in {signed(r, s) % len(s) for _ in range(r.choice([1, 1, 2]))}:
        places[dim] = some(r, s[dim], 4)
    return aten.index.Tensor, (places,)


def rolled(r: random.Random, s: tuple[int, ...]) -> Call:
    dims = r.choice([[signed(r, s)], [signed(r, s), r.randrange(len(s))], []])
    return aten.roll.default, ([r.randint(-3, 3) for _ in dims or [0]], dims)


def padded(r: random.Random, s: tuple[int, ...]) -> Call:
    widths = [r.choice([0, 0, 1, 2]) for _ in range(2 * r.randint(1, len(s) - 1))]
    return aten.constant_pad_nd.default, (widths, r.choice([0.0, 1.5]))


def expanded(r: random.Random, s: tuple[int, ...]) -> Call:
    sizes = [size if size > 1 else r.choice([1, 3]) for size in s]
    return r.choice([aten.expand.default, aten.broadcast_to.default]), (
        [2] * r.choice([0, 1]) + [r.choice([one, one, -1]) for one in sizes],
    )


def scattered(r: random.Random, s: tuple[int, ...]) -> Call:
    dim = signed(r, s)
    start, end, step = cut(r, s[dim])
    return aten.slice_scatter.default, (aten.slice.Tensor, (dim, start, end, step))


def written(r: random.Random, s: tuple[int, ...]) -> Call:
    dim = signed(r, s)
    return aten.select_scatter.default, (aten.select.int, (dim, r.randrange(s[dim])))


def permuted(r: random.Random, s: tuple[int, ...]) -> Call:
    return aten.permute.default, (r.sample(range(len(s)), len(s)),)


def gathered(r: random.Random, s: tuple[int, ...]) -> Call:
    dim = signed(r, s)
    return aten.gather.default, (dim, torch.randint(0, s[dim], s))


def reduced(r: random.Random, s: tuple[int, ...]) -> Call:
    return r.choice([aten.mean.dim, aten.amax.default, aten.sum.dim_IntList]), ([signed(r, s)], r.random() < 0.5)


MAKERS: dict[str, Maker] = {
    "view": viewed, "unflatten": unflattened, "narrow": narrowed, "slice": sliced, "index": indexed, "roll": rolled,
    "pad": padded, "expand": expanded, "slice_scatter": scattered, "select_scatter": written, "permute": permuted,
    "gather": gathered, "reduce": reduced,
    "flatten": lambda r, s: (aten.flatten.using_ints, (1, r.randrange(1, len(s)))),
    "select": with_dim(aten.select.int, lambda r, n: r.randrange(-n, n)),
    "index_select": with_dim(aten.index_select.default, lambda r, n: some(r, n, 5) % n),
    "split": before_dim(aten.split.Tensor, lambda r, n: r.randint(1, n)),
    "split_with_sizes": before_dim(aten.split_with_sizes.default, parts),
    "chunk": before_dim(aten.chunk.default, lambda r, n: r.randint(1, 3)),
    "tensor_split": before_dim(aten.tensor_split.sections, lambda r, n: r.randint(1, min(n, 3))),
    "tensor_split_at": before_dim(aten.tensor_split.indices, lambda r, n: sorted({r.randint(1, n), n})[:1]),
    "unbind": with_dim(aten.unbind.int),
    "unfold": with_dim(aten.unfold.default, lambda r, n: min(n, 2), lambda r, n: r.randint(1, 2)),
    "transpose": with_dim(aten.transpose.int, lambda r, n: 1),
    "movedim": with_dim(aten.movedim.int, lambda r, n: -1),
    "flip": lambda r, s: (aten.flip.default, ([signed(r, s)],)),
    "squeeze": lambda r, s: (aten.squeeze.dim, (signed(r, s),)),
    "squeeze_dims": lambda r, s: (aten.squeeze.dims, (list(range(1, len(s))),)),
    "unsqueeze": with_dim(aten.unsqueeze.default),
    "repeat": lambda r, s: (aten.repeat.default, ([1] + [r.choice([1, 2]) for _ in s[1:]],)),
    "tile": lambda r, s: (aten.tile.default, ([r.choice([1, 2]) for _ in range(r.randint(1, len(s) - 1))],)),
    "repeat_interleave": before_dim(aten.repeat_interleave.self_int, lambda r, n: 2),
    "diagonal": lambda r, s: (aten.diagonal.default, (r.randint(-1, 1), *r.sample(range(len(s)), 2))),
    "as_strided": lambda r, s: (aten.as_strided.default, ([2, 3, 4], [5, 3, 1])),
    "cumsum": with_dim(aten.cumsum.default),
    "softmax": with_dim(aten.softmax.int),
    "sort": with_dim(aten.sort.default),
    "topk": lambda r, s: (aten.topk.default, (1, signed(r, s))),
    "glu": with_dim(aten.glu.default),
    "pixel_shuffle": lambda r, s: (aten.pixel_shuffle.default, (2,)),
    "pixel_unshuffle": lambda r, s: (aten.pixel_unshuffle.default, (2,)),
    "channel_shuffle": lambda r, s: (aten.channel_shuffle.default, (divisor(r, s[1]),)),
    "new_zeros": lambda r, s: (aten.new_zeros.default, (list(s),)),
    "zeros": lambda r, s: (aten.zeros.default, (list(s),)),
    "full": lambda r, s: (aten.full.default, (list(s[1:]), 0.5)),
    "new_full": lambda r, s: (aten.new_full.default, (list(s), 0.5)),
    "zeros_like": lambda r, s: (aten.ones_like.default, ()),
    "full_like": lambda r, s: (aten.full_like.default, (2.0,)),
    "cat": with_dim(aten.cat.default),
    "stack": with_dim(aten.stack.default),
}  # fmt: skip
