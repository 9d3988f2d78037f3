"""Find the parts of a split layer: `decompose` calls those of `conv` conv.0, conv.1, …

conv.0.0, conv.0.1, conv.1          parts of parts
conv.0, conv_7, conv.2              a renamed part, between its neighbours
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from ..deploy.onnx.layers import Layer, Network

NUMBER = re.compile(r"(.+)\.(\d+)")
Parts = dict[int, tuple[str, ...]]  # by place: the nodes of a part, which may have parts itself


@dataclass(frozen=True)
class Names:
    """Lookup from the ONNX nodes of a network to their layers."""

    network: Network

    @cached_property
    def layer_of(self) -> Mapping[str, Layer]:
        """Layer of each node."""
        return {name: layer for layer in self.network.layers for name in nodes_of(layer)}

    @cached_property
    def by_name(self) -> Mapping[str, Layer]:
        """Layers by name."""
        return {layer.name: layer for layer in self.network.layers}

    @cached_property
    def numbered(self) -> Mapping[str, frozenset[int]]:
        """Part numbers by stem, of nodes and of stems."""
        found: dict[str, set[int]] = defaultdict(set)
        for name in self.layer_of:
            match = NUMBER.fullmatch(name)
            while match is not None:  # ends: each round the name is shorter
                found[match[1]].add(int(match[2]))
                match = NUMBER.fullmatch(match[1])
        return {stem: frozenset(numbers) for stem, numbers in found.items()}

    def parts(self, stem: str, others: Names) -> Parts:
        """Return all parts of a layer, two or more, absent on the other side."""
        found: Parts = {}
        for number in sorted(self.numbered.get(stem, ())):
            name = f"{stem}.{number}"
            nodes = (name,) if name in self.layer_of else self._leaves(name, others)
            if nodes:
                found[number] = nodes
        if len(found) < 2:
            return {}
        return self._filled(found, others)

    def _leaves(self, stem: str, others: Names) -> tuple[str, ...]:
        return tuple(name for nodes in self.parts(stem, others).values() for name in nodes)

    def _filled(self, found: Parts, others: Names) -> Parts:
        """Add the renamed parts; return nothing if a part is missing."""
        below, whole = -1, dict(found)
        for number in sorted(found):
            upstream, missing = self.layer_of[found[number][0]], number - below - 1
            for place in range(missing):
                reads = self.by_name.get(upstream.reads[0]) if upstream.reads else None
                if reads is None or not self._may_be_part(reads, others):
                    return {}
                upstream, whole[number - 1 - place] = reads, nodes_of(reads)
            if missing and below >= 0 and self.layer_of[found[below][-1]].name not in upstream.reads:
                return {}
            below = number
        return dict(sorted(whole.items()))

    def _may_be_part(self, layer: Layer, others: Names) -> bool:
        return bool(layer.weight) and not any(name in others.layer_of for name in nodes_of(layer))

    def in_a_chain(self, parts: Parts) -> bool:
        """Return whether each part reads the one before directly."""
        layers = [self.layer_of[name] for nodes in parts.values() for name in nodes]
        return all(before.name == after.name or before.name in after.reads for before, after in pairwise(layers))


def nodes_of(layer: Layer) -> tuple[str, ...]:
    """List the ONNX nodes in a layer, or itself if not fused."""
    return layer.nodes or (layer.name,)


def stems(own: Names, others: Names) -> dict[str, str]:
    """Map each node that is a part to its layer.

    That layer is whole on the other side, or in another number of parts there.
    """
    found: dict[str, str] = {}
    for stem in sorted(own.numbered, key=len):
        parts = _split_alone(stem, own, others) or _split_otherwise(stem, own, others)
        for name in (name for nodes in parts.values() for name in nodes):
            found.setdefault(name, stem)
    return found


def _split_alone(stem: str, own: Names, others: Names) -> Parts:
    if stem not in others.layer_of or stem in own.layer_of:
        return {}
    parts = own.parts(stem, others)
    return {} if any(name in others.layer_of for nodes in parts.values() for name in nodes) else parts


def _split_otherwise(stem: str, own: Names, others: Names) -> Parts:
    """Return the parts of a layer that both sides split, into different counts."""
    if stem in own.layer_of or stem in others.layer_of or stem not in others.numbered:
        return {}
    parts, theirs = own.parts(stem, others), others.parts(stem, own)
    if not parts or not theirs or len(parts) == len(theirs):
        return {}
    return parts if own.in_a_chain(parts) and others.in_a_chain(theirs) else {}
