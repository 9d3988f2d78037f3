"""Build channel spaces from labels: canonicalise, group by signature, number the coordinates.

Two coordinates belong to one space if the same dimensions of the same parameters hold them, equally often, and they
pass through the same values. So one kept coordinate of each space leaves no tensor empty.
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
    """Return the rule for a node's operator, or None."""
    return RULES.get(overload_packet(node)) or elementwise.rule_of(node)


def analyse(
    program: Program, constraints: Constraints = ANY, refused: Mapping[str, str] = MappingProxyType({})
) -> Channels:
    """Find every channel space of `program`. Only shapes are run: no data is needed.

    A node in `refused` freezes its inputs, with the given reason. Raises SpecError where a pattern of `constraints`
    matches no layer.
    """
    walk = Walk(program, refused)
    walk.run(rule_of)
    touched = {key: walk.labels.find(labels) for key, labels in walk.touched.items()}
    constraints.check(layer_of(name) for name, _, role in touched if role == PRODUCES)
    spaces, number = _spaces(walk, touched, constraints)
    return Channels(
        spaces=tuple(spaces),
        contractions=tuple(_contraction(walk, number, one) for one in walk.mixed),
        products=tuple(
            Product(node.name, macs / (len(a) * len(b)), number[a], number[b]) for node, macs, a, b in walk.products
        ),
        values={node.name: axis for node, value in walk.values.items() if (axis := _axis(walk, number, value))},
        parameters={(name, dim): number[labels] for (name, dim, _), labels in touched.items()},
        reads=frozenset(node.name for node in walk.reads),
        over=frozenset(node.name for node in walk.over),
    )


def _spaces(walk: Walk, touched: dict[Key, Tensor], constraints: Constraints) -> tuple[list[Space], Tensor]:
    """Return the spaces in graph order, and the coordinate number of every label."""
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
    """Return the values that hold each label; values with equal labels count once."""
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
    """Return labels reduced over by a norm, a reduction or a product of activations."""
    inputs = [walk.settle(walk.values[node.all_input_nodes[0]]) for node in walk.over]
    inputs += [walk.settle(labels) for labels in walk.summed]
    return {root for labels in inputs for root in compress(labels, only_strides=True).unique().tolist()}


def _reason(keys: list[Key], constraints: Constraints) -> str | None:
    """Return why the layers or constraints freeze a space, or None."""
    roles = {role for _, _, role in keys}
    if PRODUCES not in roles:
        return "no layer produces these channels"
    if CONSUMES not in roles:
        return "no layer with a weight reads these channels, so nothing could make up for their loss"
    return constraints.reason(_producers(keys))


def _limited(space: Space, constraints: Constraints) -> Space:
    """Return the space with its least count to keep, and the step."""
    keys = [(site.parameter, site.dim, site.role) for site in space.sites]
    rows = next(site.rows.shape[1] for site in space.sites if site.role == PRODUCES)
    least = constraints.least(_producers(keys), space.size)
    return replace(space, least=least, step=constraints.step(rows))


def _producers(keys: list[Key]) -> list[str]:
    return [layer_of(name) for name, _, role in keys if role == PRODUCES]


def _name(keys: list[tuple[str, int, str]], names: Counter[str]) -> str:
    """Return the first layer that produces the space, numbered if it produces several."""
    first = next((key for key in keys if key[2] == PRODUCES), keys[0])
    name = layer_of(first[0])
    names[name] += 1
    return name if names[name] == 1 else f"{name}#{names[name]}"


def _rows(labels: Tensor) -> dict[int, list[int]]:
    """Return the rows of each label."""
    found: dict[int, list[int]] = defaultdict(list)
    for row, root in enumerate(labels.tolist()):
        found[root].append(row)
    return found


def _contraction(walk: Walk, number: Tensor, met: Mixed) -> Contraction:
    weight, bias = argument(met.node, "weight"), argument(met.node, "bias")
    return Contraction(
        node=met.node.name,
        weight=str(weight.target),
        bias=None if bias is None else str(bias.target),
        groups=int(argument(met.node, "groups", 1)),
        taps=math.prod(walk.examples[weight].shape[2:]),
        inputs=number[met.inputs],
        outputs=number[met.outputs],
        by_group=met.by_group,
        transposed=is_transposed(met.node),
    )


def _axis(walk: Walk, number: Tensor, value: Any) -> Any:
    """Return the channel axis of a value or list of values, None if frozen."""
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
