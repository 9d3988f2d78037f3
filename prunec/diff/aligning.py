"""Which layers of two networks are the same layer: by name, though one was split in two or an engine fused them.

    blocks.0.conv1  ↔  blocks.0.conv1.0, blocks.0.conv1.1       a layer that low rank has split
    Conv_3 + Relu_4 ↔  Conv_3, Relu_4                           fused in one engine and not in the other

A layer has the names of its ONNX nodes as keys, and layers that share a key, on either side, are one group. A numbered
name such as `relu_3` says little where the two networks have different numbers of them: then the key is where the node
stands, `relu after blocks.0.conv1`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..deploy.layers import Layer, Network

PARTS = re.compile(r"(.+)\.[01]")  # what `decompose` calls the two halves of a layer
NUMBERED = re.compile(r"(?:node_)?[A-Za-z]+_\d+")


@dataclass(frozen=True)
class Group:
    """What stands for the same thing on both sides; nothing on one side where it was added or removed."""

    name: str
    before: tuple[Layer, ...]
    after: tuple[Layer, ...]


def align(before: Network, after: Network) -> list[Group]:
    """The groups in the order of `before`; what only `after` has stands where it has it."""
    keys = [_keys(before, after), _keys(after, before)]
    parent: dict[str, str] = {}
    for side in keys:
        for names in side.values():
            for name in names:
                parent[_root(parent, name)] = _root(parent, names[0])
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


def _keys(network: Network, other: Network) -> dict[str, tuple[str, ...]]:
    """By name of a layer: the keys that it shares with its like on the other side."""
    own, others = _names(network), _names(other)
    loose = {op for op, count in _numbered(network).items() if count != _numbered(other)[op]}
    by_name = {layer.name: layer for layer in network.layers}
    seen: Counter[str] = Counter()
    keys = {}
    for layer in network.layers:
        names = tuple(_whole(name, own, others) for name in layer.nodes or (layer.name,))
        if layer.op in loose and not layer.nodes and NUMBERED.fullmatch(layer.name) and not layer.weight:
            place = f"{layer.op} after {_whole(_anchor(layer, by_name), own, others)}"
            names = (f"{place} {seen[place]}",)
            seen[place] += 1
        keys[layer.name] = names
    return keys


def _names(network: Network) -> set[str]:
    return {name for layer in network.layers for name in layer.nodes or (layer.name,)}


def _whole(name: str, own: set[str], others: set[str]) -> str:
    """The name of the layer that `name` is a part of, if the other side has it whole and this one does not."""
    found = PARTS.fullmatch(name)
    if found is None or name in others:
        return name
    stem = found[1]
    return stem if stem in others and stem not in own and {f"{stem}.0", f"{stem}.1"} <= own else name


def _numbered(network: Network) -> Counter[str]:
    """How many layers of each operator have a numbered name."""
    return Counter(layer.op for layer in network.layers if NUMBERED.fullmatch(layer.name) and not layer.weight)


def _anchor(layer: Layer, by_name: Mapping[str, Layer]) -> str:
    """The nearest layer with a name of its own, upstream along what is read first; or the input."""
    while layer.reads:
        first = layer.reads[0]
        if first not in by_name or by_name[first].weight or not NUMBERED.fullmatch(first):
            return first
        layer = by_name[first]
    return ""


def _root(parent: dict[str, str], name: str) -> str:
    """The representative of a set of keys."""
    while parent.setdefault(name, name) != name:
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
