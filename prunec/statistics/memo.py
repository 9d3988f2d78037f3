"""Cache results by network, so that all spaces and criteria share one gradient sweep."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from torch import fx

from ..channels.spaces import Channels
from ..ir.program import Program

T = TypeVar("T")
_known: WeakKeyDictionary[fx.GraphModule, dict[Hashable, tuple[Channels, Any]]] = WeakKeyDictionary()


def once(program: Program, key: Hashable, make: Callable[[], T]) -> T:
    """Return the value of `make` for `key` and the channels, cached with the module."""
    found, channels = _known.setdefault(program.module, {}), program.fact(Channels)
    if key not in found or found[key][0] is not channels:
        found[key] = (channels, make())
    value: T = found[key][1]
    return value
