"""From labels to spaces: canonicalise, group by signature, number the coordinates.

Two coordinates belong to one space when the same dimensions of the same parameters hold them, equally often.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from typing import Any

import torch
from torch import Tensor, fx

from ..program import Program
from . import contraction, elementwise, movement, spatial
from .contraction import argument
from .labels import FIXED, varying
from .spaces import PRODUCES, Axis, Channels, Contraction, Site, Space
from .walk import Rule, Walk, overload_packet

RULES: dict[Any, Rule] = {**contraction.RULES, **spatial.RULES, **movement.RULES}
Signature = tuple[tuple[int, int], ...]


def rule_of(node: fx.Node) -> Rule | None:
    """The rule for a node's operator, if there is one."""
    return RULES.get(overload_packet(node)) or elementwise.rule_of(node)


def analyse(program: Program) -> Channels:
    """Find every channel space of `program`. Nothing is run but shapes, so it needs no data."""
    walk = Walk(program)
    walk.run(rule_of)
    touched = {key: walk.labels.find(labels) for key, labels in walk.touched.items()}
    spaces, number = _spaces(walk, touched)
    return Channels(
        spaces=tuple(spaces),
        contractions=tuple(_contraction(walk, number, *entry) for entry in walk.contracted),
        values={node.name: axis for node, value in walk.values.items() if (axis := _axis(walk, number, value))},
        parameters={(name, dim): number[labels] for (name, dim, _), labels in touched.items()},
    )


def _spaces(walk: Walk, touched: dict[tuple[str, int, str], Tensor]) -> tuple[list[Space], Tensor]:
    """The spaces in graph order, and the coordinate number of every label."""
    sites = list(touched)
    members: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for place, key in enumerate(sites):
        for root, count in Counter(touched[key].tolist()).items():
            members[root].append((place, count))
    members.pop(FIXED, None)
    frozen = walk.labels.frozen_roots()
    groups: dict[tuple[Signature, str | None], list[int]] = defaultdict(list)
    for root, places in members.items():
        groups[tuple(places), _reason(root, places, sites, frozen)].append(root)

    number = torch.full((len(walk.labels.parent),), -1)
    names: Counter[str] = Counter()
    spaces: list[Space] = []
    start = 0
    for (signature, reason), roots in groups.items():
        keys = [sites[place] for place, _ in signature]
        name = _name(keys, names)
        found = tuple(_site(key, touched[key], roots) for key in keys)
        spaces.append(Space(name, len(roots), found, reason, -1 if reason else start))
        if not reason:
            number[torch.tensor(roots)] = torch.arange(start, start + len(roots))
            start += len(roots)
    return spaces, number[walk.labels.find(torch.arange(len(number)))]


def _reason(root: int, signature: list[tuple[int, int]], sites: list[Any], frozen: dict[int, str]) -> str | None:
    if root in frozen:
        return frozen[root]
    if not any(sites[place][2] == PRODUCES for place, _ in signature):
        return "no layer produces these channels"
    return None


def _name(keys: list[tuple[str, int, str]], names: Counter[str]) -> str:
    """The first layer that produces the space; a number where one layer produces several."""
    first = next((key for key in keys if key[2] == PRODUCES), keys[0])
    name = first[0].removesuffix(".weight").removesuffix(".bias")
    names[name] += 1
    return name if names[name] == 1 else f"{name}#{names[name]}"


def _site(key: tuple[str, int, str], labels: Tensor, roots: list[int]) -> Site:
    parameter, dim, role = key
    place = {root: index for index, root in enumerate(roots)}
    rows: list[list[int]] = [[] for _ in roots]
    for row, root in enumerate(labels.tolist()):
        if root in place:
            rows[place[root]].append(row)
    return Site(parameter, dim, role, torch.tensor(rows))


def _contraction(
    walk: Walk, number: Tensor, node: fx.Node, inputs: Tensor, outputs: Tensor, by_group: bool
) -> Contraction:
    weight, bias = argument(node, "weight"), argument(node, "bias")
    shape, value = walk.examples[weight].shape, walk.examples[node].shape
    return Contraction(
        node=node.name,
        weight=str(weight.target),
        bias=None if bias is None else str(bias.target),
        groups=len(inputs) // shape[1],
        positions=math.prod(value[1:]) // shape[0],
        taps=math.prod(shape[2:]),
        inputs=number[inputs],
        outputs=number[outputs],
        by_group=by_group,
    )


def _axis(walk: Walk, number: Tensor, value: Any) -> Any:
    """The channel axis of a value, or of each of a list; None where nothing in it can be removed."""
    if value is None:
        return None
    if isinstance(value, (list, tuple)):
        axes = tuple(_axis(walk, number, one) for one in value)
        return axes if any(axes) else None
    for dim in varying(value):
        vector = walk.vector(value, dim)
        if vector is not None and bool((number[vector] >= 0).any()):
            return Axis(dim, number[vector], value.dim())
    return None
