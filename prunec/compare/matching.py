"""Which layers of two networks are the same layer: by name, though one was split in several or an engine fused them.

    blocks.0.conv1  ↔  blocks.0.conv1.0, blocks.0.conv1.1 …     a layer that low rank has split (`parts.py`)
    Conv_3 + Relu_4 ↔  Conv_3, Relu_4                           fused in one engine and not in the other

A layer has the names of its ONNX nodes as keys, and layers that share a key, on either side, are one group. A numbered
name such as `relu_3` says little where the two networks have different numbers of them: then the key is where the node
stands, `relu after blocks.0.conv1`. A product of tokens with a weight is a `matmul_3`, and so is each of its parts:
those that follow on each other are one group.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..deploy.onnx.layers import Layer, Network
from .parts import Names, nodes_of, stems

NUMBERED = re.compile(r"(?:node_)?[A-Za-z]+_\d+")


@dataclass(frozen=True)
class Group:
    """Group of layers that correspond on both sides; one side is empty where layers were added or removed."""

    name: str
    before: tuple[Layer, ...]
    after: tuple[Layer, ...]


def align(before: Network, after: Network) -> list[Group]:
    """The groups in the order of `before`; what only `after` has stands where it has it."""
    names = Names(before), Names(after)
    loose = _loose(before, after)
    keys = [_keys(names[0], stems(names[0], names[1]), loose), _keys(names[1], stems(names[1], names[0]), loose)]
    parent: dict[str, str] = {}
    for side in keys:
        for shared in side.values():
            for name in shared:
                parent[_root(parent, name)] = _root(parent, shared[0])
    gathered: dict[str, tuple[list[Layer], list[Layer]]] = {}
    for place, network in enumerate((before, after)):
        for layer in network.layers:
            root = _root(parent, keys[place][layer.name][0])
            gathered.setdefault(root, ([], []))[place].append(layer)
    order = _order(
        [_root(parent, keys[0][layer.name][0]) for layer in before.layers],
        [_root(parent, keys[1][layer.name][0]) for layer in after.layers],
    )
    return [_group(*gathered[root]) for root in order]


def _group(before: Sequence[Layer], after: Sequence[Layer]) -> Group:
    """Called after the layer that it is about: the one with most work on the side with fewer layers."""
    fewer = min((side for side in (before, after) if side), key=len)
    return Group(max(fewer, key=lambda layer: (layer.macs, layer.parameters)).name, tuple(before), tuple(after))


def _keys(names: Names, stems: Mapping[str, str], loose: frozenset[str]) -> dict[str, tuple[str, ...]]:
    """By name of a layer: the keys that it shares with its like on the other side."""
    seen: Counter[str] = Counter()
    keys: dict[str, tuple[str, ...]] = {}
    for layer in names.network.layers:
        if layer.op not in loose or not _is_numbered(layer) or layer.name in stems:
            keys[layer.name] = tuple(stems.get(name, name) for name in nodes_of(layer))
            continue
        head = names.by_name.get(layer.reads[0]) if layer.reads else None
        if head is not None and layer.weight and head.weight and head.op == layer.op and _is_numbered(head):
            keys[layer.name] = keys[head.name]  # the next part of a product
            continue
        place = f"{layer.op} after {_anchor(layer, names.by_name, keys)}"
        keys[layer.name] = (f"{place} {seen[place]}",)
        seen[place] += 1
    return keys


def _loose(before: Network, after: Network) -> frozenset[str]:
    """The operators with another number of numbered names on the other side: their numbers say nothing."""
    counts = [Counter(layer.op for layer in side.layers if _is_numbered(layer)) for side in (before, after)]
    return frozenset(op for op in {*counts[0], *counts[1]} if counts[0][op] != counts[1][op])


def _is_numbered(layer: Layer) -> bool:
    return not layer.nodes and NUMBERED.fullmatch(layer.name) is not None


def _anchor(layer: Layer, by_name: Mapping[str, Layer], keys: Mapping[str, tuple[str, ...]]) -> str:
    """Key of the nearest layer upstream, along what is read first, that has a name or a weight; or the input."""
    while layer.reads:  # ends: a checked graph has no circle
        first = layer.reads[0]
        if first not in by_name:
            return first
        layer = by_name[first]
        if layer.weight or not NUMBERED.fullmatch(first):
            return keys[first][0]
    return ""


def _root(parent: dict[str, str], name: str) -> str:
    """The representative of a set of keys."""
    while parent.setdefault(name, name) != name:  # ends: each round is one nearer to the root
        parent[name] = parent[parent[name]]
        name = parent[name]
    return name


def _order(before: Sequence[str], after: Sequence[str]) -> list[str]:
    """Every root once: those of `before`, and each new one of `after` behind the one that it follows there."""
    order = list(dict.fromkeys(before))
    known, last = set(order), -1
    for root in after:
        if root in known:
            last = order.index(root)
            continue
        last += 1
        order.insert(last, root)
        known.add(root)
    return order
