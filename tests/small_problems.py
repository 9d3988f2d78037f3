"""Problems of allocation that are small enough to try every plan: a stream, two blocks that may go, ranks."""

from __future__ import annotations

import itertools
from functools import cache

import numpy as np
import numpy.typing as npt
import torch

from prunec.allocation import Allocation
from prunec.channels.spaces import CONSUMES, PRODUCES, Branch, Channels, Factoring, Product, Site, Space, Split
from prunec.cost import Counts
from prunec.facts import Curve, Curves
from prunec.target import Target

Array = npt.NDArray[np.float64]
SHAPES = ("convex", "saturated", "flat", "steps", "any")
SPLIT = Split((), ())


def channels(stream: int = 5, inner: int = 4, rank: int = 3) -> Channels:
    """conv -> stream; stream += block(stream), twice; the stream is read by a head that may be two layers."""
    spaces, start = [], 0
    for name, size, owners in (
        ("stream", stream, ("in", "out1", "out2")),
        ("one", inner, ("mid1",)),
        ("two", inner, ("mid2",)),
        ("head:rank", rank, ()),
        ("one:branch", 1, ()),
        ("two:branch", 1, ()),
    ):
        rows = torch.arange(size)[:, None]
        sites = tuple(Site(f"{owner}.weight", 0, PRODUCES, rows) for owner in owners)
        sites += tuple(Site(f"{owner}.read", 1, CONSUMES, rows) for owner in owners)
        spaces.append(Space(name, size, sites, None, start, least=0 if name.endswith("branch") else 1))
        start += size
    at = {space.name: space.coordinates for space in spaces}
    none = torch.full((3,), -1)
    products = (
        Product("in", 2.0, at["stream"], none),
        Product("mid1", 3.0, at["one"], at["stream"]),
        Product("out1", 3.0, at["stream"], at["one"]),
        Product("mid2", 5.0, at["two"], at["stream"]),
        Product("out2", 5.0, at["stream"], at["two"]),
        Product("head", 4.0, torch.full((6,), -1), at["stream"]),
    )
    branches = tuple(
        Branch(f"{name}:branch", f"add{number}", "stream", frozenset({f"mid{number}", f"out{number}"}),
               frozenset({f"mid{number}.weight", f"mid{number}.read"}))
        for number, name in ((1, "one"), (2, "two"))
    )  # fmt: skip
    return Channels(
        tuple(spaces), (), products, {}, {}, factorings=(Factoring("head", "head:rank", SPLIT, 4.0, 4.0),),
        branches=branches,
    )  # fmt: skip


def curve(size: int, shape: str, random: np.random.Generator) -> Curve:
    """An error that does not fall while coordinates go: as the books have it, or as networks do."""
    gone = np.arange(size + 1) / size
    level = float(np.exp(random.normal(0.0, 1.0)))
    error = {
        "convex": gone**2,
        "saturated": 1 - np.exp(-6 * gone),
        "flat": np.minimum(1.0, 3 * gone),
        "steps": np.floor(2 * gone + 0.5) / 2,
        "any": np.append(0.0, np.sort(random.random(size))),
    }[shape]
    return Curve(torch.arange(size), torch.from_numpy(level * error))


def problem(seed: int, share: float, shapes: tuple[str, ...] = SHAPES) -> Allocation:
    """One with curves at random."""
    random, found = np.random.default_rng(seed), channels()
    curves = {
        space.name: curve(space.size, shapes[int(random.integers(len(shapes)))], random) for space in found.prunable
    }
    return Allocation(found, Curves(curves, scaled=True), Target("macs", share))


def every(given: Allocation) -> tuple[Counts, Array, Array]:
    """All plans [plans, spaces], their costs and their errors."""
    plans = np.array(list(itertools.product(*(np.isfinite(error).nonzero()[0] for error in given.errors))))
    return plans, _costs(tuple(given.model.sizes)), np.array([given.expected(one) for one in plans])


@cache
def _costs(sizes: tuple[int, ...]) -> Array:
    given = problem(0, 0.5)
    assert tuple(given.model.sizes) == sizes
    plans = itertools.product(*(np.isfinite(error).nonzero()[0] for error in given.errors))
    return np.array([given.model.total(np.array(one)) for one in plans], dtype=np.float64)


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
