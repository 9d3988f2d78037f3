"""Match the layers of two networks by name, through splits and fusions.

    blocks.0.conv1  ↔  blocks.0.conv1.0, blocks.0.conv1.1 …     a layer that low rank has split (`parts.py`)
    Conv_3 + Relu_4 ↔  Conv_3, Relu_4                           fused in one engine and not in the other

The keys of a layer are the names of its ONNX nodes; layers with a common key form a group. Where the two networks have
different counts of a numbered name such as `relu_3`, the key is the node's position, `relu after blocks.0.conv1`. A
product of tokens with a weight is a `matmul_3`, and so is each of its parts: consecutive ones form a group.
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
    """Corresponding layers of both sides; one side is empty for added or removed layers."""

    name: str
    before: tuple[Layer, ...]
    after: tuple[Layer, ...]


def align(before: Network, after: Network) -> list[Group]:
    """Return the groups in the order of `before`, with added layers in place."""
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
    """Build a group, named after its layer with most work on the shorter side."""
    fewer = min((side for side in (before, after) if side), key=len)
    return Group(max(fewer, key=lambda layer: (layer.macs, layer.parameters)).name, tuple(before), tuple(after))


def _keys(names: Names, stems: Mapping[str, str], loose: frozenset[str]) -> dict[str, tuple[str, ...]]:
    """Return the keys of each layer, shared with its counterpart."""
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
    """Return the operators whose numbered names differ in count between the sides."""
    counts = [Counter(layer.op for layer in side.layers if _is_numbered(layer)) for side in (before, after)]
    return frozenset(op for op in {*counts[0], *counts[1]} if counts[0][op] != counts[1][op])


def _is_numbered(layer: Layer) -> bool:
    return not layer.nodes and NUMBERED.fullmatch(layer.name) is not None


def _anchor(layer: Layer, by_name: Mapping[str, Layer], keys: Mapping[str, tuple[str, ...]]) -> str:
    """Return the key of the nearest named or weighted layer upstream, or the input."""
    while layer.reads:  # ends: a checked graph has no circle
        first = layer.reads[0]
        if first not in by_name:
            return first
        layer = by_name[first]
        if layer.weight or not NUMBERED.fullmatch(first):
            return keys[first][0]
    return ""


def _root(parent: dict[str, str], name: str) -> str:
    """Return the representative of a set of keys."""
    while parent.setdefault(name, name) != name:  # ends: each round is one nearer to the root
        parent[name] = parent[parent[name]]
        name = parent[name]
    return name


def _order(before: Sequence[str], after: Sequence[str]) -> list[str]:
    """Return each root once, in the order of `before`, new ones after their predecessor."""
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
