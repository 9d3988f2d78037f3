"""From labels to spaces: canonicalise, group by signature, number the coordinates.

Two coordinates belong to one space when the same dimensions of the same parameters hold them, equally often, and they
pass through the same values: so one that stays of each space keeps every tensor from vanishing.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, fx

from ..ir.graph import layer_of
from ..ir.program import Program
from ..request.constraints import ANY, Constraints
from .interpreter import Mixed, Rule, Walk, overload_packet, tensors
from .labels import FIXED, compress, varying
from .rules import contraction, elementwise, matmul, movement, normalisation, reduction, spatial
from .rules.contraction import argument, is_transposed
from .spaces import CONSUMES, PRODUCES, Axis, Channels, Contraction, Product, Site, Space

FAMILIES = (contraction, matmul, normalisation, reduction, spatial, movement)
RULES: dict[Any, Rule] = {packet: rule for family in FAMILIES for packet, rule in family.RULES.items()}
Signature = tuple[tuple[int, int], ...]
Key = tuple[str, int, str]


def rule_of(node: fx.Node) -> Rule | None:
    """The rule for a node's operator, if there is one."""
    return RULES.get(overload_packet(node)) or elementwise.rule_of(node)


def analyse(
    program: Program, constraints: Constraints = ANY, refused: Mapping[str, str] = MappingProxyType({})
) -> Channels:
    """Find every channel space of `program`. Nothing is run but shapes, so it needs no data.

    The nodes that `refused` names keep all that reaches them, for the reason that it gives.
    Raises SpecError where a pattern of `constraints` matches no layer.
    """
    walk = Walk(program, refused)
    walk.run(rule_of)
    touched = {key: walk.labels.find(labels) for key, labels in walk.touched.items()}
    constraints.check(layer_of(name) for name, _, role in touched if role == PRODUCES)
    spaces, number = _spaces(walk, touched, constraints)
    return Channels(
        spaces=tuple(spaces),
        contractions=tuple(_contraction(walk, number, one) for one in walk.mixed),
        products=tuple(_product(number, *entry) for entry in walk.products),
        values={node.name: axis for node, value in walk.values.items() if (axis := _axis(walk, number, value))},
        parameters={(name, dim): number[labels] for (name, dim, _), labels in touched.items()},
        reads=frozenset(node.name for node in walk.reads),
        over=frozenset(node.name for node in walk.over),
    )


def _spaces(walk: Walk, touched: dict[Key, Tensor], constraints: Constraints) -> tuple[list[Space], Tensor]:
    """The spaces in graph order, and the coordinate number of every label."""
    sites = list(touched)
    vectors = [labels.numpy().tobytes() for labels in touched.values()]
    distinct = dict(zip(vectors, touched.values(), strict=True))  # a layer's weight, bias and norm have the same rows
    known = {vector: _rows(labels) for vector, labels in distinct.items()}
    rows = [known[vector] for vector in vectors]
    members: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for place, owned in enumerate(rows):
        for root, held in owned.items():
            members[root].append((place, len(held)))
    members.pop(FIXED, None)
    frozen, passed, over = walk.labels.frozen_roots(), _values_of(walk), _labels_over(walk)
    groups: dict[Any, list[int]] = defaultdict(list)
    reasons: dict[Any, str | None] = {}
    for root, places in members.items():
        signature = tuple(places)
        if signature not in reasons:
            reasons[signature] = _reason([sites[place] for place, _ in places], constraints)
        reason = frozen.get(root) or reasons[signature]
        groups[signature, None if reason else tuple(passed[root]), reason].append(root)

    number = torch.full((len(walk.labels.parent),), -1)
    names: Counter[str] = Counter()
    spaces: list[Space] = []
    start = 0
    for (signature, _, reason), roots in groups.items():
        keys = [sites[place] for place, _ in signature]
        owns = [torch.tensor([rows[place][root] for root in roots]) for place, _ in signature]
        found = tuple(Site(name, dim, role, held) for (name, dim, role), held in zip(keys, owns, strict=True))
        space = Space(_name(keys, names), len(roots), found, reason, -1 if reason else start, roots[0] in over)
        spaces.append(space if reason else _limited(space, constraints))
        if not reason:
            number[torch.tensor(roots)] = torch.arange(start, start + len(roots))
            start += len(roots)
    return spaces, number[walk.labels.find(torch.arange(len(number)))]


def _values_of(walk: Walk) -> dict[int, list[int]]:
    """By label: the values that hold it; values with the same labels count once."""
    known: dict[bytes, int] = {}
    found: dict[int, list[int]] = defaultdict(list)
    for value in walk.values.values():
        for labels in tensors(value):
            axes = varying(settled := walk.settle(labels))
            if not axes:
                continue
            vector = settled[tuple(slice(None) if axis in axes else 0 for axis in range(settled.dim()))].flatten()
            roots = vector.unique()
            key = roots.numpy().tobytes()
            if key not in known:
                known[key] = len(known)
                for root in roots.tolist():
                    found[root].append(known[key])
    return found


def _labels_over(walk: Walk) -> set[int]:
    """The labels over which a norm, a reduction or a product of activations runs."""
    inputs = [walk.settle(walk.values[node.all_input_nodes[0]]) for node in walk.over]
    inputs += [walk.settle(labels) for labels in walk.summed]
    return {root for labels in inputs for root in compress(labels, only_strides=True).unique().tolist()}


def _reason(keys: list[Key], constraints: Constraints) -> str | None:
    """Why a space with these sites may not be touched, though nothing in the graph forbids it."""
    roles = {role for _, _, role in keys}
    if PRODUCES not in roles:
        return "no layer produces these channels"
    if CONSUMES not in roles:
        return "no layer with a weight reads these channels, so nothing could make up for their loss"
    return constraints.reason(_producers(keys))


def _limited(space: Space, constraints: Constraints) -> Space:
    """The space with the least that must stay of it, and in what multiples."""
    keys = [(site.parameter, site.dim, site.role) for site in space.sites]
    rows = next(site.rows.shape[1] for site in space.sites if site.role == PRODUCES)
    least = constraints.least(_producers(keys), space.size)
    return replace(space, least=least, step=constraints.step(rows))


def _producers(keys: list[Key]) -> list[str]:
    return [layer_of(name) for name, _, role in keys if role == PRODUCES]


def _name(keys: list[tuple[str, int, str]], names: Counter[str]) -> str:
    """The first layer that produces the space; a number where one layer produces several."""
    first = next((key for key in keys if key[2] == PRODUCES), keys[0])
    name = layer_of(first[0])
    names[name] += 1
    return name if names[name] == 1 else f"{name}#{names[name]}"


def _rows(labels: Tensor) -> dict[int, list[int]]:
    """The rows that each label owns."""
    found: dict[int, list[int]] = defaultdict(list)
    for row, root in enumerate(labels.tolist()):
        found[root].append(row)
    return found


def _contraction(walk: Walk, number: Tensor, met: Mixed) -> Contraction:
    weight, bias = argument(met.node, "weight"), argument(met.node, "bias")
    convolution = "groups" in {item.name for item in met.node.target._schema.arguments}  # type: ignore[union-attr]
    return Contraction(
        node=met.node.name,
        weight=str(weight.target),
        bias=None if bias is None else str(bias.target),
        groups=int(argument(met.node, "groups")) if convolution else 1,
        taps=math.prod(walk.examples[weight].shape[2:]),
        inputs=number[met.inputs],
        outputs=number[met.outputs],
        by_group=met.by_group,
        transposed=is_transposed(met.node),
    )


def _product(number: Tensor, node: fx.Node, macs: float, a: Tensor, b: Tensor) -> Product:
    return Product(node.name, macs / (len(a) * len(b)), number[a], number[b])


def _axis(walk: Walk, number: Tensor, value: Any) -> Any:
    """The channel axis of a value, or of each of a list; None where nothing in it can be removed."""
    if value is None:
        return None
    if isinstance(value, (list, tuple)):
        axes = tuple(_axis(walk, number, one) for one in value)
        return axes if any(axes) else None
    settled = walk.settle(value)
    for dim in varying(settled):
        vector = walk.vector(settled, dim)
        if vector is not None and bool((number[vector] >= 0).any()):
            return Axis(dim, number[vector], value.dim())
    return None
