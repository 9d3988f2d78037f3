"""Scale error curves by depth: later layers may absorb or amplify an error.

    e'_s(n) = e_s(n) · exp(slope · p_s),        p_s from -1 at the first layer to 1 at the last

The curves hold the output error with one space narrowed at a time; the error of several together differs from the sum
by depth.
"""

from __future__ import annotations

import numpy as np

from ..channels.spaces import Channels, Space
from .problem import Allocation, Array


def tilted(problem: Allocation, slope: float) -> Allocation:
    """Return the problem with all curves times exp(slope · depth); itself for slope 0.

    A positive slope spares the last layers.
    """
    if not slope:
        return problem
    depths = _depths(problem.channels)
    return problem.with_errors(
        [error * np.exp(slope * depth) for error, depth in zip(problem.errors, depths, strict=True)]
    )


def _depths(channels: Channels) -> Array:
    """Compute the depth of each prunable space, float64 [spaces], from -1 to 1."""
    places = np.array([first_layer(channels, space) for space in channels.prunable], dtype=np.float64)
    depths: Array = 2 * places / max(places.max(initial=0.0), 1.0) - 1
    return depths


def first_layer(channels: Channels, space: Space) -> int:
    """Return the index of the first layer that uses a space; else the layer count."""
    split = {one.space: one.node for one in channels.factorings}
    low, high = space.start, space.start + space.size
    for place, one in enumerate(channels.contractions):
        touched = any(bool(((side >= low) & (side < high)).any()) for side in (one.outputs, one.inputs))
        if split.get(space.name) == one.node or (space.sites and touched):
            return place
    return len(channels.contractions)
