"""Labels of products of two activations: matmul, einsum, attention, in einsum letters.

Whole heads are removed where both operands have them (a letter of both and of the result); else the widths inside: a
summed letter is joined, a letter of one operand passes to the result.
"""

from __future__ import annotations

import math
import string
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx

from ..interpreter import Rule, Walk, name_of
from ..labels import distinct, fixed, varying
from .contraction import argument
from .elementwise import join

aten = torch.ops.aten


class Operand:
    """Labels of a value whose dimensions have letters."""

    def __init__(self, labels: Tensor, letters: str) -> None:
        self.labels, self.letters = labels, letters
        self.sizes = dict(zip(letters, labels.shape, strict=True))
        self.free = {letters[axis]: distinct(labels, axis) for axis in varying(labels)}  # letter → distinct labels

    def vector(self, walk: Walk, letter: str) -> Tensor | None:
        """Return the labels along one letter, the others tied."""
        return walk.vector(self.labels, self.letters.index(letter)) if letter in self.free else None


def contract(walk: Walk, node: fx.Node, a: Operand, b: Operand, result: str) -> Tensor:
    """Return the labels of `einsum("a, b -> result")`; record its cost."""
    sizes = {letter: max(a.sizes.get(letter, 1), b.sizes.get(letter, 1)) for letter in a.letters + b.letters}
    shape, macs = [sizes[letter] for letter in result], math.prod(sizes.values())
    letter = _chosen(a, b, result)
    vectors = [one.vector(walk, letter) for one in (a, b) if letter in one.free]
    for one in (a, b):
        if one.free and letter not in one.free:
            walk.labels.freeze(one.labels, f"{name_of(node)} multiplies it by channels of another kind")
    walk.reads.append(node)
    if not vectors or vectors[0] is None:
        walk.product(node, macs)
        return fixed(shape)
    for other in vectors[1:]:
        assert other is not None
        walk.labels.join(vectors[0], other, f"{name_of(node)} multiplies it by a channel that is fixed")
    walk.product(node, macs, vectors[0])
    if letter not in result:
        walk.summed.append(vectors[0])
        return fixed(shape)
    return walk.settle(vectors[0].reshape([-1 if one == letter else 1 for one in result]).expand(shape))


def _chosen(a: Operand, b: Operand, result: str) -> str:
    """Return the letter of removable channels, empty if there is none."""
    both = [letter for letter in a.free if letter in b.free]
    heads = [letter for letter in both if letter in result]
    passing = [
        letter
        for one, other in ((a, b), (b, a))
        for letter in one.free
        if letter in result and other.sizes.get(letter, 1) == 1
    ]
    for candidates in (heads, both, passing):
        if candidates:
            return max(candidates, key=lambda letter: max(a.free.get(letter, 0), b.free.get(letter, 0)))
    return ""


def matmul(walk: Walk, node: fx.Node) -> Any:
    """Return the labels of matmul, bmm, mm: batch dimensions broadcast from the right."""
    return _matmul(walk, node, node.args[:2])


def matmul_added(walk: Walk, node: fx.Node) -> Any:
    """Return the labels of baddbmm, addmm: a product plus a value."""
    product = _matmul(walk, node, node.args[1:3])
    added = walk.value(node.args[0])
    return join(walk, [added, product], walk.examples[node].shape, f"{name_of(node)} joins it with a fixed channel")


def _matmul(walk: Walk, node: fx.Node, sources: Sequence[Any]) -> Any:
    a, b = (_labels(walk, source) for source in sources)
    if min(a.dim(), b.dim()) < 2:
        return walk.opaque(node, f"{name_of(node)} multiplies it by a vector")
    batch = string.ascii_uppercase[: max(a.dim(), b.dim()) - 2]
    left, right = (batch[len(batch) + 2 - one.dim() :] for one in (a, b))
    return contract(walk, node, Operand(a, left + "mk"), Operand(b, right + "kn"), batch + "mn")


def _labels(walk: Walk, source: fx.Node) -> Tensor:
    """Return the labels of an operand; a parameter here is frozen."""
    if source.op == "get_attr":
        walk.pin(source)
        return fixed(walk.examples[source].shape)
    labels: Tensor = walk.value(source)
    return labels


def einsum(walk: Walk, node: fx.Node) -> Any:
    """Return the labels of an einsum of two operands without ellipsis, or of a permutation."""
    equation, sources = str(node.args[0]).replace(" ", ""), node.all_input_nodes
    inputs, _, result = equation.partition("->")
    letters = inputs.split(",")
    values = [_labels(walk, source) for source in sources]
    simple = "->" in equation and "." not in equation and all(len(set(one)) == len(one) for one in letters)
    if simple and len(values) == 1 and sorted(letters[0]) == sorted(result):
        return walk.settle(values[0].permute([letters[0].index(letter) for letter in result]))
    if not simple or len(values) != 2:
        return walk.opaque(node, f"{name_of(node)} of this form has no channel rule")
    return contract(walk, node, Operand(values[0], letters[0]), Operand(values[1], letters[1]), result)


def attention(walk: Walk, node: fx.Node) -> Any:
    """Return the labels of softmax(q k' + mask) v. Heads by themselves, else the widths of q and k, and of v."""
    q, k, v = (walk.value(source) for source in node.args[:3])
    mask = argument(node, "attn_mask")
    if argument(node, "enable_gqa") or q.dim() != k.dim() or q.dim() != v.dim():
        return walk.opaque(node, "its attention shares keys between groups of heads")
    batch = string.ascii_uppercase[: q.dim() - 2]
    scores = contract(walk, node, Operand(q, batch + "td"), Operand(k, batch + "sd"), batch + "ts")
    if mask is not None:
        axes = {axis - scores.dim() for axis in varying(scores)}
        added = walk.bare(mask, axes) if mask.op == "get_attr" else walk.value(mask)
        scores = join(walk, [scores, added], scores.shape, "the mask of its attention is fixed")
    return contract(walk, node, Operand(scores, batch + "ts"), Operand(v, batch + "sv"), batch + "tv")


RULES: dict[Any, Rule] = {
    **dict.fromkeys((aten.matmul, aten.bmm, aten.mm), matmul),
    **dict.fromkeys((aten.baddbmm, aten.addmm), matmul_added),
    aten.einsum: einsum,
    aten.scaled_dot_product_attention: attention,
}
