"""Problems of allocation that are small enough to try every plan: streams, blocks that may go, ranks."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property

import numpy as np
import numpy.typing as npt
import torch

from prunec.allocation.problem import Allocation
from prunec.channels.spaces import CONSUMES, PRODUCES, Branch, Channels, Factoring, Product, Site, Space, Split
from prunec.cost.macs import Counts
from prunec.request.target import Target
from prunec.statistics.agreement import Agreement
from prunec.statistics.facts import Curve, Curves

Array = npt.NDArray[np.float64]
SHAPES = ("convex", "saturated", "flat", "steps", "any")
SPLIT = Split((), ())
Layer = tuple[str, float, str | int, str | int]


def channels(stream: int = 5, inner: int = 4, rank: int = 3) -> Channels:
    """Build conv -> stream; stream += block(stream), twice; a head that may be factored."""
    spaces = [("stream", stream, 1, "in out1 out2"), ("one", inner, 1, "mid1"), ("two", inner, 1, "mid2"),
              ("head:rank", rank, 1, ""), ("one:branch", 1, 1, ""), ("two:branch", 1, 1, "")]  # fmt: skip
    layers: list[Layer] = [
        ("in", 2, "stream", 3), ("mid1", 3, "one", "stream"), ("out1", 3, "stream", "one"),
        ("mid2", 5, "two", "stream"), ("out2", 5, "stream", "two"), ("head", 4, 6, "stream"),
    ]  # fmt: skip
    return _built(spaces, layers, {"head": 4.0}, {"one:branch": "mid1 out1", "two:branch": "mid2 out2"})


def chain() -> Channels:
    """Build four layers of two to four widths; the second and last may be factored."""
    spaces = [("a", 8, 2, "la"), ("b", 3, 1, "lb"), ("c", 6, 2, "lc"), ("d", 4, 2, "ld"),
              ("lb:rank", 3, 1, ""), ("end:rank", 2, 1, "")]  # fmt: skip
    layers: list[Layer] = [
        ("la", 9, "a", 3),
        ("lb", 4, "b", "a"),
        ("lc", 6, "c", "b"),
        ("ld", 3, "d", "c"),
        ("end", 8, 5, "d"),
    ]
    return _built(spaces, layers, {"lb": 4.0, "end": 9.0}, {})


def deep() -> Channels:
    """A block of two inner spaces, one of whose layers may be two: all that is inside goes with it."""
    spaces = [("stream", 6, 2, "in out"), ("one", 4, 1, "mid"), ("two", 3, 1, "mid2"), ("tail", 3, 1, "last"),
              ("mid2:rank", 3, 1, ""), ("branch", 1, 1, "")]  # fmt: skip
    layers: list[Layer] = [
        ("in", 3, "stream", 3), ("mid", 2, "one", "stream"), ("mid2", 9, "two", "one"),
        ("out", 2, "stream", "two"), ("last", 6, "tail", "stream"), ("end", 7, 4, "tail"),
    ]  # fmt: skip
    return _built(spaces, layers, {"mid2": 9.0}, {"branch": "mid mid2 out"})


NETS = {"blocks": channels, "chain": chain, "deep": deep}


def _built(
    spaces: Sequence[tuple[str, int, int, str]],
    layers: Sequence[Layer],
    factored: Mapping[str, float],
    branches: Mapping[str, str],
) -> Channels:
    """Build channels from spaces (name, size, step, producers) and layers (name, scale, out, in)."""
    found, start = [], 0
    for name, size, step, makers in spaces:
        rows = torch.arange(size)[:, None]
        sites = tuple(Site(f"{maker}.weight", 0, PRODUCES, rows) for maker in makers.split())
        sites += tuple(Site(f"{maker}.read", 1, CONSUMES, rows) for maker in makers.split())
        found.append(Space(name, size, sites, None, start, least=0 if name in branches else 1, step=step))
        start += size
    at = {space.name: space.coordinates for space in found}
    sides = [[at[one] if isinstance(one, str) else torch.full((one,), -1) for one in layer[2:]] for layer in layers]
    gone = {name: names.split() for name, names in branches.items()}
    return Channels(
        tuple(found), (), tuple(Product(layer[0], layer[1], *side) for layer, side in zip(layers, sides, strict=True)),
        {}, {}, factorings=tuple(Factoring(node, f"{node}:rank", SPLIT, one, one) for node, one in factored.items()),
        branches=tuple(
            Branch(name, f"add:{name}", "stream", frozenset(nodes),
                   frozenset(f"{node}.{side}" for node in nodes for side in ("weight", "read")))
            for name, nodes in gone.items()
        ),
    )  # fmt: skip


def curve(size: int, shape: str, random: np.random.Generator) -> Curve:
    """An error that does not fall while coordinates go: as the books have it, or as networks do."""
    gone = np.arange(size + 1) / size
    level = float(np.exp(random.normal(0.0, 1.0)))
    error = {
        "convex": gone**2,
        "saturated": 1 - np.exp(-6 * gone),
        "flat": np.minimum(1.0, 3 * gone),
        "exponential": np.expm1(4 * gone) / np.expm1(4),
        "steps": np.floor(2 * gone + 0.5) / 2,
        "any": np.append(0.0, np.sort(random.random(size))),
    }[shape]
    return Curve(torch.arange(size), torch.from_numpy(level * error))


def problem(
    seed: int, share: float, shapes: tuple[str, ...] = SHAPES, net: str = "blocks", misled: float = 0.0
) -> Summed:
    """Build a problem with random curves; the oracle sums them, or the undistorted ones."""
    random, found = np.random.default_rng(seed), NETS[net]()
    curves = {
        space.name: curve(space.size, shapes[int(random.integers(len(shapes)))], random) for space in found.prunable
    }
    seen = {name: replace(one, error=one.error * np.exp(misled * random.normal())) for name, one in curves.items()}
    target = Target("macs", share)
    return Summed(found, Curves(seen, scaled=True), target, truth=Curves(curves, scaled=True))


@dataclass(frozen=True)
class Summed(Allocation):
    """A problem whose tried networks have exactly the true errors of the curves."""

    truth: Curves = field(kw_only=True)

    @property
    def can_try(self) -> bool:
        """True: the truth is known."""
        return True

    def tried(self, counts: Counts, images: int = 64) -> Agreement:
        """The sum of the true errors."""
        return Agreement(images, "none", None, None, self.true.expected(counts), None)

    @cached_property
    def true(self) -> Allocation:
        """Return the problem with the true curves."""
        return Allocation(self.channels, self.truth, self.target)


def every(given: Allocation) -> tuple[Counts, Array, Array]:
    """All plans [plans, spaces], their costs and the errors of their curves."""
    plans, costs = _plans(tuple(space.name for space in given.channels.prunable))
    closed = plans.copy()
    for branch, inside in given.inside.items():
        gone = (plans[:, branch] == 0).nonzero()[0]
        closed[np.ix_(gone, inside)] = given.model.sizes[inside]
    errors = sum(error[closed[:, place]] for place, error in enumerate(given.errors))
    return plans, costs, np.asarray(errors)


@cache
def _plans(names: tuple[str, ...]) -> tuple[Counts, Array]:
    """The plans of a network and their costs, whatever the curves are."""
    net = next(net for net, made in NETS.items() if tuple(space.name for space in made().prunable) == names)
    given = problem(0, 0.5, net=net)
    plans = np.array(list(itertools.product(*(np.isfinite(error).nonzero()[0] for error in given.errors))))
    return plans, np.array([given.model.total(one) for one in plans], dtype=np.float64)


def wasted(given: Allocation, counts: Counts) -> list[tuple[int, ...]]:
    """Return plans with more kept, less error and an allowed cost."""
    plans, costs, errors = every(given)
    kept = counts.copy()
    for branch, inside in given.inside.items():
        if not counts[branch]:
            kept[inside] = 0
    better = (plans >= kept).all(1) & (costs <= given.allowed) & (errors < given.expected(counts) - 1e-12)
    return [tuple(one) for one in plans[better].tolist()]


def left_over(given: Allocation, counts: Counts) -> list[tuple[str, int]]:
    """The steps up of one space that would lower the error and fit."""
    found = []
    for place, space in enumerate(given.channels.prunable):
        for more in range(int(counts[place]) + 1, space.size + 1):
            raised = counts.copy()
            raised[place] = more
            fits = given.used(raised).max() <= 1 + 1e-9
            if np.isfinite(given.errors[place][more]) and fits and given.expected(raised) < given.expected(counts):
                found.append((space.name, more))
    return found
